"""Bystander change: what happened to the people who were to stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mild_bench.images import Mask, Rgb
from mild_bench.metrics.view import FloatRgb, Measure, Settings, Value, Values, View, to_float

FEWEST = 16  # pixels


def change(result: FloatRgb, expected: FloatRgb, people: Mask) -> Value:
    """Return the mean absolute difference over the people's pixels, in [0, 1]; lower is better.

    Args:
        result, expected: float height x width x 3 in [0, 1].
        people: where the people who stay are visible.

    Returns:
        The change, or the reason why there is none (nobody there).
    """
    if np.count_nonzero(people) < FEWEST:
        return "nobody who stays is visible there"
    return float(np.abs(result[people] - expected[people]).mean())


def bystander_measure(settings: Settings) -> Measure:
    """Return bystander change as the scorer uses it.

    ``outside`` is the part of the visible people beyond the erase mask (an eraser has no business
    there: its raw result tells), ``hole`` the part that a generous mask (dilated, box) cuts into
    and that must come back. They are compared with the truth; where it is unknown, with the input.
    """

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        known = view.task.truth is not None
        expected = view.truth_float if known else to_float(view.task.input)
        return [
            {
                name: change(to_float(picture), expected, view.staying & view.regions[name])
                for name in ("hole", "outside")
            }
            for picture in pictures
        ]

    return Measure(measure)
