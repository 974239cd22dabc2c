"""Alpha IoU: whether an eraser's layers are where the complete people truly are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mild_bench.images import Mask
from mild_bench.metrics.layered import (
    NOBODY_HIDDEN,
    Layered,
    LayerMeasure,
    LayerView,
    Person,
    covered,
)
from mild_bench.metrics.view import Settings, Value, Values


def iou(one: Mask, other: Mask) -> float:
    """Return intersection over union, in [0, 1], higher is better; two empty masks are equal."""
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 1.0


def iou_measure(settings: Settings) -> LayerMeasure:
    """Return alpha IoU as the scorer uses it: means over people.

    ``whole`` compares all of a layer with all of the person. ``hidden`` leaves out, on both sides,
    where that person shows: an eraser may copy that part from the input, so only the rest tells
    what it made up. A layer that reaches too far is punished there as well. These are what amodal
    segmentation calls the IoU of the full and of the occluded mask (Gao et al., ICCV 2023, arXiv
    2308.16825).
    """

    def measure(view: LayerView, answers: Sequence[Layered]) -> list[Values]:
        return [
            {"whole": _mean(view.people, answer), "hidden": _hidden(view.hidden, answer)}
            for answer in answers
        ]

    return LayerMeasure(measure)


def _mean(people: Sequence[Person], answer: Layered) -> Value:
    return float(np.mean([iou(covered(answer.layer(one.name)), one.complete) for one in people]))


def _hidden(people: Sequence[Person], answer: Layered) -> Value:
    if not people:
        return NOBODY_HIDDEN
    return float(np.mean([iou(covered(answer.layer(o.name)) & ~o.shows, o.hidden) for o in people]))
