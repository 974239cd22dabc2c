"""Hidden-part LPIPS: whether what an eraser made up of a hidden person looks like the person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mild_bench.images import Rgb, Rgba
from mild_bench.metrics.layered import NOBODY_HIDDEN, Layered, LayerMeasure, LayerView, Person
from mild_bench.metrics.perceptual import SMALLEST, Lpips, Share, load_lpips
from mild_bench.metrics.recomposition import over
from mild_bench.metrics.view import Settings, Value, Values

GREY = 128  # what layers are laid over: neither light nor dark


def hidden_measure(settings: Settings) -> LayerMeasure:
    """Return hidden-part LPIPS as the scorer uses it: a mean over people, lower is better.

    Layer and truth are laid over the same grey; the spatial map of LPIPS (AlexNet) on the whole
    frame is averaged where the person is and does not show.

    Raises:
        MissingPart: the network's weights are not on this machine.
    """
    lpips, weights = load_lpips("alex", settings)

    def measure(view: LayerView, answers: Sequence[Layered]) -> list[Values]:
        if min(view.task.mask.shape) < SMALLEST:
            reason: Value = f"LPIPS needs pictures of at least {SMALLEST} x {SMALLEST} pixels"
            return [{"hidden": reason} for _ in answers]
        if not view.hidden:
            return [{"hidden": NOBODY_HIDDEN} for _ in answers]
        each = np.mean([_distances(lpips, one, answers) for one in view.hidden], axis=0)
        return [{"hidden": float(value)} for value in each]

    return LayerMeasure(measure, weights)


def on_grey(layer: Rgba) -> Rgb:
    """Lay a layer over grey."""
    return over(np.full((*layer.shape[:2], 3), GREY, np.uint8), [layer])


def _distances(lpips: Lpips, person: Person, answers: Sequence[Layered]) -> list[float]:
    """Return the distance of each answer over what is hidden of one person."""
    share = Share(person.hidden)
    pictures = [on_grey(answer.layer(person.name)) for answer in answers]
    return [float(share.mean(found)) for found in lpips.compare(on_grey(person.truth), pictures)]
