"""Read a pickle of nested dicts of numpy arrays, and nothing else.

A pickle can name any importable function and call it. This reader resolves four names, all of
numpy's array machinery, and refuses every other before anything is called.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.errors import BadInput

# The function that numpy's own arrays name when they are pickled, wherever this version keeps it.
_RECONSTRUCT: Any = np.zeros(1).__reduce__()[0]
_SCALAR: Any = np.float32(0).__reduce__()[0]
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): function
        for core in ("core", "_core")
        for name, function in (("_reconstruct", _RECONSTRUCT), ("scalar", _SCALAR))
    },
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise BadInput(f"it names {module}.{name}; only numpy arrays are read") from None


def load_arrays(path: Path) -> dict[str, Any]:
    """Return the nested dict of numeric numpy arrays that ``path`` holds.

    Raises:
        BadInput: broken, or holds or names anything but dicts of numeric arrays.
    """
    try:
        tree = _ArraysOnly(io.BytesIO(path.read_bytes())).load()
    except BadInput as error:
        raise BadInput(f"{path.name}: refused to load this pickle: {error}") from error
    except (pickle.UnpicklingError, ArithmeticError, LookupError, AttributeError) as error:
        raise BadInput(f"{path.name}: expected a whole pickle of arrays, got {error}") from error
    except (EOFError, MemoryError, OSError, TypeError, ValueError) as error:
        raise BadInput(f"{path.name}: expected a whole pickle of arrays, got {error}") from error
    _check(tree, path.name)
    if not isinstance(tree, dict):
        raise BadInput(f"{path.name}: expected a dict of arrays, got {type(tree).__name__}")
    return tree


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _check(item, f"{where}/{key}")
    elif not (isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "fiub"):
        raise BadInput(f"{where}: expected a numeric array, got {type(value).__name__}")
