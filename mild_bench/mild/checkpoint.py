"""Adapters and SMA on disk, safetensors by name; and other parts, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from mild_bench.errors import BadInput
from mild_bench.mild.adapters import check_keys
from mild_bench.mild.network import MildNetwork

FOLDER = "mild"
"""Of a saved pipeline, where these files are."""

ADAPTERS = "adapters.safetensors"
SMA = "sma.safetensors"


def save_parts(network: MildNetwork, folder: Path) -> None:
    """Write adapters and SMA; HMG and the alpha head save themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_plain(network.adapters.state_dict()), folder / ADAPTERS)
    save_file(_plain(network.sma.state_dict()), folder / SMA)


def load_parts(network: MildNetwork, folder: Path) -> None:
    """Take adapters and SMA that ``save_parts`` wrote.

    Raises:
        BadInput: no such files, or keys or shapes that do not fit, and which.
    """
    network.adapters.load_state_dict(_read(folder / ADAPTERS))
    state = _read(folder / SMA)
    check_keys("sma", network.sma.state_dict(), state)
    network.sma.load_state_dict(state)


def load_component(part: Any, folder: Path, dtype: torch.dtype | None = None) -> Any:
    """Return a ModelMixin class's module from a folder, every weight of it from safetensors.

    diffusers itself would fill gaps with random numbers and a warning.

    Raises:
        BadInput: no such folder, no safetensors, or weights that do not cover the module.
    """
    try:
        module, info = part.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            torch_dtype=dtype,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:240]
        raise BadInput(f"{folder}: {part.__name__} does not load: {reason}") from error
    faults = [
        f"{label} {', '.join(sorted(info[key])[:4])}"
        for label, key in (("there is no", "missing_keys"), ("nothing takes", "unexpected_keys"))
        if info[key]
    ]
    if faults:
        raise BadInput(
            f"{folder}: the weights are not those of this {part.__name__}: {'; '.join(faults)}; "
            "use the checkpoint with the code it was made with"
        )
    return module


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _read(path: Path) -> dict[str, torch.Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such file; save the pipeline with save_pretrained") from error
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: expected a safetensors file, got {error}") from error
