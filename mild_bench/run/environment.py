"""What a run was made with: versions and machine, never anything that changes between two runs."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("mild-bench", "numpy", "pillow", "opencv-python-headless", "scikit-image", "torch")


def environment(*more: str) -> dict[str, str | int | None]:
    """Return versions (None: not installed), platform and processor.

    ``more`` names further distributions.
    """
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        **{name: _version(name) for name in (*PACKAGES, *more)},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1].strip() if found else platform.machine()
