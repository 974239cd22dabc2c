"""Recomposition PSNR: whether background and layers give the input back where people show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mild_bench.images import Rgb, Rgba
from mild_bench.metrics.layered import Layered, LayerMeasure, LayerView
from mild_bench.metrics.pixel import psnr, squared_error_map
from mild_bench.metrics.view import Settings, Values, to_float


def recompose_measure(settings: Settings) -> LayerMeasure:
    """Return recomposition PSNR as the scorer uses it, in dB, higher is better, 100 at most.

    The layers are laid over the result where they are, in the scene's true order, and compared
    with the input over the pixels of the erased people who show.
    """

    def measure(view: LayerView, answers: Sequence[Layered]) -> list[Values]:
        shows = np.any([person.shows for person in view.people], axis=0)
        given = to_float(view.task.input)
        found: list[Values] = []
        for answer in answers:
            layers = [answer.layer(person.name) for person in view.people]
            made = to_float(over(answer.background, layers))
            error = squared_error_map(made, given)[shows]
            found.append({"visible": psnr(float(error.mean()))})
        return found

    return LayerMeasure(measure)


def over(background: Rgb, layers: Sequence[Rgba]) -> Rgb:
    """Lay layers (straight alpha, farthest first) over a picture; rounded to 8 bits at the end."""
    canvas: npt.NDArray[np.float32] = background.astype(np.float32)
    for layer in layers:
        alpha = layer[..., 3:].astype(np.float32) / np.float32(255)
        canvas = canvas * (1 - alpha) + layer[..., :3].astype(np.float32) * alpha
    return np.asarray(np.floor(canvas + np.float32(0.5)).clip(0, 255).astype(np.uint8))
