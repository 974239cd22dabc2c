"""What metrics of layers share: the erased people as they truly are, and what an eraser gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Grey, Mask, Rgb, Rgba
from mild_bench.metrics.view import Values
from mild_bench.task import BIN_EDGES, Task

HALF = 128  # of 255: what is covered at least so much counts, as in every mask of a release
FEWEST = 24  # pixels
LEAST_SHARE = BIN_EDGES["light"]  # from this share on, the board calls a person occluded

NO_LAYERS = "this eraser makes no layers"
NO_PEOPLE = "the release does not know the complete people of this scene"
NOBODY = "nobody who is to be erased shows in this task"
NOBODY_HIDDEN = "of nobody who is to be erased is enough hidden"


@dataclass(frozen=True)
class Person:
    """Somebody to be erased.

    Attributes:
        truth: RGBA on the whole frame, complete.
        shows: where the input shows them.
    """

    name: str
    truth: Rgba
    shows: Mask

    @cached_property
    def complete(self) -> Mask:
        """Where they truly are, seen or not."""
        return covered(self.truth)

    @cached_property
    def hidden(self) -> Mask:
        """Where they are and do not show."""
        return self.complete & ~self.shows

    @property
    def is_hidden(self) -> bool:
        """Whether enough is hidden to be measured."""
        hidden, all_of_it = (np.count_nonzero(mask) for mask in (self.hidden, self.complete))
        return bool(hidden >= max(FEWEST, LEAST_SHARE * all_of_it))


@dataclass(frozen=True)
class Layered:
    """A result and its layers, all as large as the task's input.

    Attributes:
        background: the result.
        layers: RGBA by person; who is not in it has an empty layer.
    """

    background: Rgb
    layers: Mapping[str, Rgba]

    def layer(self, name: str) -> Rgba:
        """Return a person's layer."""
        if name in self.layers:
            return self.layers[name]
        return np.zeros((*self.background.shape[:2], 4), np.uint8)


@dataclass(frozen=True)
class LayerView:
    """One task as metrics of layers see it.

    Attributes:
        people: who is to be erased and shows, farthest first.
    """

    task: Task
    people: tuple[Person, ...]

    @classmethod
    def of(cls, task: Task, complete: Mapping[str, Rgba]) -> LayerView:
        """Take a task and the complete people of its scene, farthest first.

        Raises:
            BadInput: people of another picture.
        """
        found = []
        for name, truth in complete.items():
            if name not in task.erase:
                continue
            if truth.shape != (*task.mask.shape, 4) or truth.dtype != np.uint8:
                raise BadInput(
                    f"task {task.task_id}: expected {name} as 8-bit RGBA of the input's size, got "
                    f"{truth.dtype} {truth.shape}; fetch the release again"
                )
            shows = np.asarray(task.people == task.person_ids.index(name) + 1)
            if shows.any():
                found.append(Person(name, truth, shows))
        return cls(task, tuple(found))

    @cached_property
    def hidden(self) -> tuple[Person, ...]:
        """Those of whom enough is hidden."""
        return tuple(person for person in self.people if person.is_hidden)


@dataclass(frozen=True)
class LayerMeasure:
    """A metric of layers that is ready to use.

    Attributes:
        measure: takes a view with people and answers, and returns the values of each answer,
            independent of what else is in the list.
        weights: what a record keeps of the weights it uses, empty without any.
    """

    measure: Callable[[LayerView, Sequence[Layered]], list[Values]]
    weights: dict[str, object] = field(default_factory=dict)


def answer_of(
    view: LayerView | str, result: Rgb | str, layers: Mapping[str, Rgba] | str
) -> Layered | str:
    """Return what is to be measured, or the reason why nothing can be."""
    if isinstance(result, str):
        return result
    if isinstance(layers, str):
        return layers
    if isinstance(view, str):
        return view
    if not view.people:
        return NOBODY
    for name, layer in layers.items():
        if layer.shape != (*view.task.mask.shape, 4):
            return f"the layer of {name} is not as large as the task"
    return Layered(result, layers)


def covered(layer: Rgba) -> Mask:
    """Return where a layer covers at least half of a pixel."""
    alpha: Grey = layer[..., 3]
    return np.asarray(alpha >= HALF)
