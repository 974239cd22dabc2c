"""Scenes with hard edges and no shadows, and an eraser that knows the complete people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from make_release import ask
from metric_pictures import texture

from mild_bench.erasure import EraserCard, Erasure
from mild_bench.images import Rgba
from mild_bench.release import Release
from mild_bench.scene import Layer, Scene
from mild_bench.task import Task

SIDE = 64


def hard_scene(lefts: Sequence[int], *, width: int = 20, seed: int = 0) -> Scene:
    """Put rectangles on a plate, farthest first, each by its left edge and in its own texture."""
    layers = []
    for number, left in enumerate(lefts):
        rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
        rgba[..., :3] = texture(SIDE, SIDE, seed + number + 1)
        rgba[10 + 3 * number : 56, left : left + width, 3] = 255
        layers.append(Layer(f"p{number}", "person", rgba))
    return Scene("s", "test", "g", "exact", texture(SIDE, SIDE, seed), tuple(layers))


def whole_people(scene: Scene) -> dict[str, Rgba]:
    """Return the complete people, farthest first."""
    return {one.layer_id: one.rgba for one in scene.people}


def all_of(scene: Scene) -> Task:
    """Ask to erase everybody."""
    return ask(scene, 0)


def moved(layer: Rgba, right: int) -> Rgba:
    """Shift a layer; what comes in at the side is empty."""
    shifted = np.roll(layer, right, axis=1)
    shifted[:, :right] = 0
    return shifted


class KnowingEraser:
    """Gives the true layers of a release, shifted to the right."""

    def __init__(self, release: str, shift: int = 0, layers: bool = True) -> None:
        self.card = EraserCard("knowing", "1", "none", settings={"shift": shift, "layers": layers})
        self._release = Release.open(Path(release))
        self._shift, self._layers = shift, layers

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        for task in tasks:
            people = self._release.people_of(task.scene_id) if self._layers else {}
            layers = {
                name: moved(layer, self._shift)
                for name, layer in people.items()
                if name in task.erase
            }
            result = np.where(task.mask[..., None], np.uint8(127), task.input)
            yield Erasure(task.task_id, result, layers)
