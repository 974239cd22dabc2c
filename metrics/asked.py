"""What there is to measure of one task: results at one size, and what came beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mild_bench.images import Rgb, Rgba, composite
from mild_bench.metrics.cag.trace import Trace
from mild_bench.metrics.layered import NO_LAYERS, NO_PEOPLE, Layered, LayerView, answer_of
from mild_bench.metrics.view import View
from mild_bench.protocol import Protocol
from mild_bench.score import Mode
from mild_bench.store import sha256
from mild_bench.task import Task

NO_TRACE = "scored without a trace of the attention"

Attention = Trace | str  # or the reason why there is none


@dataclass(frozen=True)
class Beside:
    """What an eraser gave beside its picture, each or the reason why there is none.

    Attributes:
        attention: the trace of a probe.
        layers: RGBA by person, uint8.
    """

    attention: Attention = NO_TRACE
    layers: Mapping[str, Rgba] | str = NO_LAYERS


@dataclass(frozen=True)
class Asked:
    """One task's results, a line each.

    Attributes:
        results: at the task's size, or why one does not fit.
        pictures: each distinct picture once, by its hash.
        uses: the hashes of a result's two pictures; none where it does not fit.
        beside: what came with a result.
        layered: a result with its layers, or the reason why there is nothing to measure.
        layer_view: the task as metrics of layers see it.
    """

    view: View
    results: list[Rgb | str]
    pictures: dict[str, Rgb]
    uses: list[dict[Mode, str]]
    beside: Sequence[Beside]
    layered: list[Layered | str]
    layer_view: LayerView

    @classmethod
    def of(
        cls,
        task: Task,
        protocol: Protocol,
        results: Sequence[Rgb],
        beside: Sequence[Beside],
        people: Mapping[str, Rgba],
    ) -> Asked:
        """Bring results to the task's size; ``people`` are those of its scene, empty if unknown.

        Raises:
            BadInput: people of another picture.
        """
        fitted = [_fit(result, task, protocol.resize) for result in results]
        pictures: dict[str, Rgb] = {}
        uses = [_register(pictures, task, one) for one in fitted]
        view = LayerView.of(task, people)
        layered = [
            answer_of(view if people else NO_PEOPLE, one, given.layers)
            for one, given in zip(fitted, beside, strict=True)
        ]
        return cls(View(task, protocol), fitted, pictures, uses, beside, layered, view)


def _fit(result: Rgb, task: Task, resize: str) -> Rgb | str:
    height, width = task.input.shape[:2]
    if result.shape == task.input.shape:
        return result
    if resize != "lanczos":
        return (
            f"the result is {result.shape[1]} x {result.shape[0]}, the task {width} x {height}, "
            "and the protocol refuses to resize"
        )
    from PIL import Image

    resized = Image.fromarray(result).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _register(pictures: dict[str, Rgb], task: Task, result: Rgb | str) -> dict[Mode, str]:
    """Add a result's two pictures, each only if it is new; return their keys."""
    if isinstance(result, str):
        return {}
    both: dict[Mode, Rgb] = {
        "raw": result,
        "composited": composite(result, task.input, task.mask),
    }
    keys: dict[Mode, str] = {mode: sha256(picture.tobytes()) for mode, picture in both.items()}
    for mode, key in keys.items():
        pictures.setdefault(key, both[mode])
    return keys
