"""Where a pipeline runs."""

from __future__ import annotations

from typing import Any

from mild_bench.erasers.diffusion.settings import ERASER, DiffusionSettings
from mild_bench.errors import BadInput, MissingPart


def choose_device(settings: DiffusionSettings) -> str:
    """Return the device that was chosen, or the best one that is there.

    Raises:
        MissingPart: no such device here.
        BadInput: weights are to be offloaded and there is no GPU.
    """
    from torch import cuda
    from torch.backends import mps

    there = [name for name, found in (("cuda", cuda), ("mps", mps)) if found.is_available()]
    device = (there or ["cpu"])[0] if settings.device == "auto" else settings.device
    if device not in (*there, "cpu"):
        raise MissingPart(
            f"{ERASER}: there is no {device} device here; leave device out, or write device=cpu"
        )
    if settings.offload != "none" and device == "cpu":
        raise BadInput(
            f"{ERASER}: offload={settings.offload} moves weights between a GPU and main memory, "
            "and there is no GPU in use; leave offload out"
        )
    return device


def place(pipeline: Any, offload: str, device: str) -> None:
    """Move a pipeline to its device, whole, by parts or by layers."""
    if offload == "model":
        pipeline.enable_model_cpu_offload(device=device)
    elif offload == "sequential":
        pipeline.enable_sequential_cpu_offload(device=device)
    else:
        pipeline.to(device)
