"""Seam: steps along the mask's outline that the truth does not have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask, Rgb, composite
from mild_bench.metrics.view import FloatRgb, Measure, Settings, Value, Values, View, to_float

STRETCH = 16  # pixels: side of the tiles in which steps are averaged before they are compared


@dataclass(frozen=True)
class Outline:
    """Neighbours across a mask's outline.

    Attributes:
        inner, outer: flat pixel indices, one pair of 4-neighbours each.
        stretch: the tile of each pair, counted from 0 without gaps.
    """

    inner: npt.NDArray[np.intp]
    outer: npt.NDArray[np.intp]
    stretch: npt.NDArray[np.intp]

    @classmethod
    def of(cls, mask: Mask) -> Outline:
        """Return the outline of a bool height x width mask."""
        flat = np.arange(mask.size).reshape(mask.shape)
        pairs = []
        for one, other in (
            ((slice(1, None), slice(None)), (slice(None, -1), slice(None))),
            ((slice(None), slice(1, None)), (slice(None), slice(None, -1))),
        ):
            for inside, outside in ((one, other), (other, one)):
                across = mask[inside] & ~mask[outside]
                pairs.append((flat[inside][across], flat[outside][across]))
        inner, outer = (np.concatenate(side) for side in zip(*pairs, strict=True))
        rows, columns = np.divmod(inner, mask.shape[1])
        tile = (rows // STRETCH) * mask.shape[1] + columns // STRETCH
        return cls(inner, outer, np.unique(tile, return_inverse=True)[1])

    def steps(self, picture: FloatRgb) -> npt.NDArray[np.float64]:
        """Return the mean step across the outline in each stretch, root mean square of channels."""
        flat = picture.reshape(-1, 3)
        step = np.sqrt(np.square(flat[self.inner] - flat[self.outer]).mean(axis=1))
        return np.bincount(self.stretch, step) / np.bincount(self.stretch)


def seam(result: FloatRgb, truths: Sequence[FloatRgb], outline: Outline) -> Value:
    """Return how much stronger the result steps across the outline than the truth; lower is better.

    Steps are averaged over stretches of about 16 pixels, so that texture which is plausible but
    not the truth's own does not count; the excess over the truth's steps is averaged over the
    outline's pixels. In [0, 1], 0 = nowhere stronger than in the truth.

    Args:
        result: float height x width x 3 in [0, 1].
        truths: the truth, and the truth pasted into the input where the task has a mask: a step
            that any answer leaves (a shadow that sticks out of the mask) is nobody's seam.
    """
    if not outline.inner.size:
        return "the mask has no outline inside the picture"
    allowed = np.max([outline.steps(truth) for truth in truths], axis=0)
    excess = np.maximum(outline.steps(result) - allowed, 0)
    weights = np.bincount(outline.stretch)
    return float((excess * weights).sum() / weights.sum())


def seam_measure(settings: Settings) -> Measure:
    """Return seam as the scorer uses it."""

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        outline = Outline.of(view.task.mask)
        pasted = to_float(composite(view.truth, view.task.input, view.task.mask))
        truths = (view.truth_float, pasted)
        return [{"band": seam(to_float(one), truths, outline)} for one in pictures]

    return Measure(measure)
