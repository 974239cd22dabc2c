"""Small pictures for tests of metrics: a task with people who go and people who stay."""

from __future__ import annotations

import numpy as np

from mild_bench.images import Mask, Rgb, composite
from mild_bench.task import Task


def texture(height: int, width: int, seed: int) -> Rgb:
    """Draw a smooth coloured pattern with some grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = [np.sin(x / rng.uniform(3, 20) + y / rng.uniform(3, 20) + p) for p in range(3)]
    return (
        (127 + 60 * np.dstack(waves) + rng.normal(0, 6, (height, width, 3)))
        .clip(0, 255)
        .astype(np.uint8)
    )


def example(height: int = 96, width: int = 112, seed: int = 0) -> Task:
    """Draw a task: one person to erase at the left, a shadow beside it, one who stays."""
    y, x = np.mgrid[0:height, 0:width]
    goes: Mask = ((x - width * 0.35) / 14) ** 2 + ((y - height * 0.5) / 30) ** 2 < 1
    stays: Mask = ((x - width * 0.75) / 10) ** 2 + ((y - height * 0.5) / 26) ** 2 < 1
    plate = texture(height, width, seed)
    truth = composite(texture(height, width, seed + 100), plate, stays)
    source = composite(texture(height, width, seed + 200), truth, goes)
    shadow = (y > height * 0.8) & (abs(x - width * 0.35) < 16) & ~goes & ~stays
    source[shadow] = (source[shadow] * 0.6).astype(np.uint8)
    people = (goes * 1 + stays * 2).astype(np.uint8)
    mask = goes | (np.roll(stays, -6, axis=1) & (x > width * 0.6) & stays & (y < height * 0.4))
    return Task("t", "s", "single", ("a",), source, mask, truth, people, ("a", "b"))


def damaged(task: Task, share: float) -> Rgb:
    """Go from truth to input by ``share``, in the hole and, half as far, everywhere else."""
    assert task.truth is not None
    rng = np.random.default_rng(5)
    truth = task.truth.astype(np.float64)
    person = (task.input - truth) * share * task.mask[..., None]
    noise = rng.normal(0, 30 * share, truth.shape)
    return (truth + person + noise).round().clip(0, 255).astype(np.uint8)
