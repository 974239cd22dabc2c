"""A trace as one ``.npz`` file: plain arrays, no pickles, the same bytes for the same trace."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.metrics.cag.trace import COLUMNS, TEXT, WHOLE, LeakageMap, Trace

SCHEMA = 1
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can tell
UNIX = 3
REAL = tuple(name for name in COLUMNS if name not in (*TEXT, *WHOLE))

Array = npt.NDArray[Any]


def trace_bytes(trace: Trace) -> bytes:
    """Return the file's content."""
    arrays = {
        "columns": np.array(COLUMNS, np.str_),
        **{name: np.array(trace.columns[name].tolist(), np.str_) for name in TEXT},
        **{name: np.asarray(trace.columns[name], "<i4") for name in WHOLE},
        **{name: np.asarray(trace.columns[name], "<f4") for name in REAL},
        "matrices": np.asarray(trace.matrices, "<f4"),
        "groups": np.array(trace.groups, np.str_),
        "erased": np.array(trace.erased, np.str_),
        "skipped": np.array(list(trace.skipped.items()), np.str_).reshape(-1, 2),
        "threshold": np.array(trace.threshold, "<f8"),
        "map_part": np.array([one.part for one in trace.maps], np.str_),
        "map_cell": np.array([[m.cell_height, m.cell_width] for m in trace.maps], "<f8"),
        **{f"map_{n}": np.asarray(one.values, "<f4") for n, one in enumerate(trace.maps)},
        "schema": np.array(SCHEMA, "<i4"),
    }
    return _pack(arrays)


def read_trace(data: bytes, *, name: str) -> Trace:
    """Return the trace of a file's content; ``name`` stands in messages.

    Raises:
        BadInput: it is no trace, or one of another version of this program.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return _trace_of({key: file[key] for key in file.files})
    except (KeyError, ValueError, TypeError, OSError, EOFError, AttributeError) as error:
        raise BadInput(f"{name}: expected a trace of --probe cag, got {error}") from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise BadInput(f"{name}: expected a trace of --probe cag, got {error}") from error


def _trace_of(arrays: Mapping[str, Array]) -> Trace:
    if int(arrays["schema"]) != SCHEMA:
        raise ValueError(f"schema {int(arrays['schema'])}, not {SCHEMA}")
    groups = tuple(arrays["groups"].tolist())
    columns = {
        **{key: arrays[key] for key in TEXT},
        **{key: arrays[key].astype(np.int64) for key in WHOLE},
        **{key: arrays[key].astype(np.float64) for key in REAL},
    }
    rows, size = len(columns["layer"]), len(groups)
    odd = [key for key, column in columns.items() if column.shape != (rows,)]
    if odd or arrays["matrices"].shape != (rows, size, size):
        raise ValueError(f"columns of different lengths ({', '.join(odd) or 'matrices'})")
    cells = zip(arrays["map_part"].tolist(), arrays["map_cell"].tolist(), strict=True)
    return Trace(
        {key: columns[key] for key in COLUMNS},
        arrays["matrices"].astype(np.float64),
        groups,
        {str(layer): str(why) for layer, why in arrays["skipped"].tolist()},
        maps=tuple(_map(part, cell, arrays[f"map_{n}"]) for n, (part, cell) in enumerate(cells)),
        erased=tuple(arrays["erased"].tolist()),
        threshold=float(arrays["threshold"]),
    )


def _map(part: str, cell: Sequence[float], values: Array) -> LeakageMap:
    height, width = values.shape
    cell_height, cell_width = cell
    return LeakageMap(part, height, width, cell_height, cell_width, values.astype(np.float32))


def _pack(arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = UNIX
            entry.external_attr = 0o644 << 16
            content = io.BytesIO()
            np.lib.format.write_array(content, np.asarray(array, order="C"), allow_pickle=False)
            archive.writestr(entry, content.getvalue())
    return buffer.getvalue()
