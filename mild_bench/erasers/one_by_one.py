"""An eraser that is a function of one task and its seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mild_bench.erasure import EraserCard, Erasure
from mild_bench.images import Rgb
from mild_bench.task import Task, task_seed


@dataclass(frozen=True)
class OneByOne:
    """Fills one picture at a time; ``fill(task, seed)`` returns the whole picture, uint8."""

    card: EraserCard
    fill: Callable[[Task, int], Rgb]

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        """Erase in the order of ``tasks``."""
        for task in tasks:
            yield Erasure(task.task_id, self.fill(task, task_seed(seed, task.task_id)))
