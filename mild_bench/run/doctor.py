"""What is there and what is missing, with the command that mends each."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mild_bench.errors import BadInput, MissingPart

PACKAGES = (
    "torch", "torchvision", "diffusers", "transformers", "accelerate", "fiftyone", "datasets",
    "torchmetrics", "lpips", "open-clip-torch", "pandas", "opencv-python-headless",
    "scikit-image", "pypatchmatch",
)  # fmt: skip
LEAST_MEMORY_GB = 4
LEAST_DISK_GB = 2


@dataclass(frozen=True)
class Finding:
    """One part: whether it is there, what was seen, and the command or step that mends it."""

    part: str
    there: bool
    seen: str
    mend: str = ""
    needed: bool = True


def examine() -> Iterator[Finding]:
    """Yield a finding for each part, the needed ones first."""
    for look in PARTS.values():
        yield from look()


def has(part: str) -> bool:
    """Tell whether a part (a key of ``PARTS``) is there.

    Raises:
        BadInput: no such part.
    """
    if part not in PARTS:
        raise BadInput(f"doctor: expected one of {', '.join(PARTS)}, got {part!r}")
    return all(finding.there for finding in PARTS[part]())


def _python() -> Iterator[Finding]:
    found = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), found, "install Python 3.11 or newer")


def _packages() -> Iterator[Finding]:
    missing, seen = [], []
    for name in PACKAGES:
        try:
            seen.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    yield Finding(
        "packages",
        not missing,
        f"{len(seen)} of {len(PACKAGES)}" + (f", not {', '.join(missing)}" if missing else ""),
        f"uv pip install {' '.join(missing)}",
    )


def _mongod() -> Iterator[Finding]:
    from mild_bench.curation.reviewing.mongod import MEND, find_mongod

    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    try:
        yield Finding("mongod", True, uri or str(find_mongod()))
    except MissingPart:
        yield Finding("mongod", False, "none of version 6 or later (curate review)", MEND)


def _weights() -> Iterator[Finding]:
    from mild_bench.metrics.weights import MEND, WEIGHTS, find_weights

    for name in WEIGHTS:
        try:
            yield Finding(f"weights {name}", True, find_weights(name).source)
        except MissingPart:
            seen = "none: the LPIPS scores that need it stay empty"
            yield Finding(f"weights {name}", False, seen, MEND, needed=False)


def _clip() -> Iterator[Finding]:
    from mild_bench.metrics.semantic import cached_checkpoint
    from mild_bench.protocol import PROTOCOLS

    rules = PROTOCOLS["mild"]
    found = cached_checkpoint(rules.clip_model, rules.clip_weights)
    yield Finding(
        f"weights CLIP {rules.clip_model}",
        found is not None,
        str(found) if found else "none: CLIP scores stay empty",
        "mild-bench score RUN... --clip-weights FILE, or --allow-download",
        needed=False,
    )


def _gpu() -> Iterator[Finding]:
    if importlib.util.find_spec("torch") is None:
        yield Finding("GPU", False, "torch is missing", "uv pip install torch", needed=False)
        return
    import torch

    there = torch.cuda.is_available()
    seen = torch.cuda.get_device_name() if there else "none: everything here runs on the processor"
    yield Finding("GPU", there, seen, "nothing to do unless you have one", needed=False)


def _machine() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory().total / 1e9
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    seen = f"{memory:.0f} GB, {os.cpu_count()} cores, {platform.machine()}"
    yield Finding("memory", memory >= LEAST_MEMORY_GB, seen, f"{LEAST_MEMORY_GB} GB are needed")
    yield Finding("disk", disk >= LEAST_DISK_GB, f"{disk:.0f} GB free here", "free some space")


def _test_programs() -> Iterator[Finding]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    seen = chromium or "none (only the tests of the page look at it)"
    yield Finding(
        "chromium", bool(chromium), seen, "apt-get install chromium chromium-driver", needed=False
    )


PARTS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": _python,
    "packages": _packages,
    "mongod": _mongod,
    "machine": _machine,
    "weights": _weights,
    "clip": _clip,
    "gpu": _gpu,
    "tests": _test_programs,
}
