"""Time and peak memory of a piece of work."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLEAR = Path("/proc/self/clear_refs")
STATUS = Path("/proc/self/status")
SAMPLE_SECONDS = 0.01


@dataclass
class Cost:
    """What a piece of work took.

    Attributes:
        seconds: wall clock.
        peak_mb: the process's highest resident memory meanwhile, in 10**6 bytes; what it held
            before (the interpreter, loaded weights) is part of it.
        gpu_peak_mb: likewise for what torch holds on CUDA devices, all together; None where it
            uses none.
    """

    seconds: float = 0.0
    peak_mb: float = 0.0
    gpu_peak_mb: float | None = None


@contextmanager
def measured() -> Iterator[Cost]:
    """Measure the block; the numbers stand in the yielded value once the block has ended.

    Linux keeps the high-water mark itself; elsewhere it is sampled every hundredth of a second.
    """
    cost = Cost()
    watch = _kernel_peak if _reset_kernel_peak() else _sampled_peak
    with watch(cost), _cuda_peak(cost):
        begin = time.perf_counter()
        try:
            yield cost
        finally:
            cost.seconds = time.perf_counter() - begin


@contextmanager
def _cuda_peak(cost: Cost) -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        yield
        return
    devices = range(torch.cuda.device_count())
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    try:
        yield
    finally:
        cost.gpu_peak_mb = sum(map(torch.cuda.max_memory_allocated, devices)) / 1e6


def _reset_kernel_peak() -> bool:
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return _high_water() is not None


def _high_water() -> float | None:
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return None if found is None else int(found[1]) * 1024 / 1e6


@contextmanager
def _kernel_peak(cost: Cost) -> Iterator[None]:
    try:
        yield
    finally:
        cost.peak_mb = _high_water() or 0.0


@contextmanager
def _sampled_peak(cost: Cost) -> Iterator[None]:
    import psutil

    process = psutil.Process()
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            cost.peak_mb = max(cost.peak_mb, process.memory_info().rss / 1e6)

    cost.peak_mb = process.memory_info().rss / 1e6
    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        cost.peak_mb = max(cost.peak_mb, process.memory_info().rss / 1e6)
