"""Controls: erasers that must come out first or last, so that a board can doubt its metrics."""

from __future__ import annotations

import numpy as np

from mild_bench.erasers.one_by_one import OneByOne
from mild_bench.erasers.settings import board_name, number
from mild_bench.erasure import EraserCard
from mild_bench.errors import BadInput
from mild_bench.images import Rgb, composite
from mild_bench.task import Task

LICENCE = "Apache-2.0"
BLUR_SIGMA = 16.0


def copy_input() -> OneByOne:
    """Return the picture as it came: nobody is erased."""
    card = EraserCard("copy-input", "1", LICENCE, control="last")
    return OneByOne(card, lambda task, seed: task.input.copy())


def mean_fill() -> OneByOne:
    """Fill the hole with the mean colour of what is kept."""

    def fill(task: Task, seed: int) -> Rgb:
        kept = task.input[~task.mask]
        colour = np.floor(kept.mean(axis=0, dtype=np.float64) + 0.5).astype(np.uint8)
        return composite(np.broadcast_to(colour, task.input.shape), task.input, task.mask)

    return OneByOne(EraserCard("mean-fill", "1", LICENCE, control="last"), fill)


def blur(sigma: float = BLUR_SIGMA) -> OneByOne:
    """Blur the people where they stand (Gaussian, ``sigma`` in pixels): a ghost stays.

    Raises:
        BadInput: ``sigma`` outside of [0.5, 200].
    """
    sigma = number("blur", "sigma", sigma, 0.5, 200)

    def fill(task: Task, seed: int) -> Rgb:
        import cv2

        smooth = cv2.GaussianBlur(task.input, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
        return composite(smooth, task.input, task.mask)

    settings = {"sigma": sigma}
    name = board_name("blur", settings, {"sigma": BLUR_SIGMA})
    return OneByOne(EraserCard(name, "1", LICENCE, control="last", settings=settings), fill)


def truth() -> OneByOne:
    """Return the answer itself; fails on a task that has none."""

    def fill(task: Task, seed: int) -> Rgb:
        if task.truth is None:
            raise BadInput("truth: this task has no truth to copy")
        return task.truth.copy()

    return OneByOne(EraserCard("truth", "1", LICENCE, control="first", needs_truth=True), fill)
