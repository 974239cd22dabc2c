"""Residue: how far the result is on the way from the truth back to the person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mild_bench.images import Mask, Rgb
from mild_bench.metrics.view import FloatRgb, Measure, Settings, Value, Values, View, to_float
from mild_bench.score import Region

NOTICEABLE = 0.05  # root mean square over channels: less is noise, not a person
FEWEST = 16  # pixels


def residue(result: FloatRgb, truth: FloatRgb, source: FloatRgb, region: Mask) -> Value:
    """Return the share of the person that is still there, in [0, 1]; lower is better.

    At each pixel the result's error is projected on the step from truth to input and cut to what
    lies between them: ``t = clip(<result - truth, input - truth> / |input - truth|^2, 0, 1)``. The
    residue is the mean of t weighted by ``|input - truth|^2``, over the pixels of the region where
    input and truth noticeably differ. 0 = gone, 1 = untouched. A fill of any other colour counts
    as far as it resembles the person; plain noise gives about half its share along that step.

    Args:
        result, truth, source: float height x width x 3 in [0, 1]; ``source`` is the task's input.
        region: bool height x width.

    Returns:
        The residue, or the reason why there is none (input and truth are alike there).
    """
    step = source - truth
    power = np.square(step).sum(axis=2)
    counts = region & (power >= 3 * NOTICEABLE**2)
    if np.count_nonzero(counts) < FEWEST:
        return "input and truth do not differ noticeably there"
    along = ((result - truth) * step).sum(axis=2)[counts]
    return float(np.clip(along, 0, power[counts]).sum() / power[counts].sum())


def residue_measure(settings: Settings) -> Measure:
    """Return residue as the scorer uses it: people in the hole, their shadows outside of it."""
    regions: tuple[Region, ...] = ("hole", "outside")

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        differs = (view.task.input != view.truth).any(axis=2)

        def value(picture: Rgb, name: Region) -> Value:
            counts = view.regions[name] & differs  # the rest has no weight: leave it out early
            row = [to_float(part[counts])[None] for part in (picture, view.truth, view.task.input)]
            return residue(row[0], row[1], row[2], np.ones(row[0].shape[:2], bool))

        return [{name: value(picture, name) for name in regions} for picture in pictures]

    return Measure(measure)
