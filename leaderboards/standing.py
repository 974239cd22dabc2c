"""All scores of some runs over one set of tasks, and the means that a board may show of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mild_bench.leaderboards.record import Record, TaskRow
from mild_bench.leaderboards.stats import Floats, SceneBootstrap


@dataclass(frozen=True)
class Cell:
    """A mean over tasks with its interval, or the reason why there is none.

    Attributes:
        tasks: how many tasks have a value in this row.
        missing: how many have one in another row but not in this one.
    """

    mean: float | None
    low: float | None
    high: float | None
    tasks: int
    missing: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class Standing:
    """All rows over one set of tasks: what the board and each of its slices are made from."""

    labels: tuple[str, ...]
    records: tuple[Record, ...]
    bootstrap: SceneBootstrap

    @cached_property
    def task_ids(self) -> tuple[str, ...]:
        """Every task that any record names, sorted."""
        return tuple(sorted({task.task_id for record in self.records for task in record.tasks}))

    @cached_property
    def by_task(self) -> tuple[dict[str, TaskRow], ...]:
        """Each record's tasks by id."""
        return tuple({task.task_id: task for task in record.tasks} for record in self.records)

    @cached_property
    def example(self) -> dict[str, TaskRow]:
        """One row of each task, for what does not depend on the eraser."""
        merged: dict[str, TaskRow] = {}
        for tasks in reversed(self.by_task):
            merged.update(tasks)
        return merged

    def values(self, key: str, task_ids: Sequence[str]) -> Floats:
        """Return scores, rows x tasks; NaN where there is none."""
        return np.array([
            [_value(tasks.get(name), key) for name in task_ids] for tasks in self.by_task
        ], dtype=np.float64).reshape(len(self.records), len(task_ids))  # fmt: skip

    def answered(self, key: str, task_ids: Sequence[str]) -> tuple[list[str], Floats]:
        """Return the tasks that some row has a value for, and the scores, rows x those tasks."""
        values = self.values(key, task_ids)
        asked = np.flatnonzero(~np.isnan(values).all(axis=0))
        return [task_ids[int(place)] for place in asked], values[:, asked]

    def cells(self, key: str, task_ids: Sequence[str]) -> list[Cell]:
        """Return one cell per row: a row that misses a task that another has gets no mean."""
        names, values = self.answered(key, task_ids)
        gaps = np.isnan(values)
        complete = [bool(names) and not gaps[row].any() for row in range(len(values))]
        whole = self.bootstrap.intervals(values[complete], self.scenes(names)) if names else []
        intervals = iter(whole)
        found = []
        for row, done in enumerate(complete):
            if done:
                one = next(intervals)
                found.append(Cell(one.mean, one.low, one.high, len(names)))
            else:
                found.append(self._incomplete(row, key, names or task_ids, nobody=not names))
        return found

    def scenes(self, task_ids: Sequence[str]) -> list[str]:
        """Return the scene of each task."""
        return [self.example[name].scene_id for name in task_ids]

    def _incomplete(self, row: int, key: str, names: Sequence[str], *, nobody: bool) -> Cell:
        tasks = self.by_task[row]
        gaps = [name for name in names if np.isnan(_value(tasks.get(name), key))]
        first = (
            tasks[gaps[0]].why_missing(key) if gaps and gaps[0] in tasks else "not in its record"
        )
        if nobody:
            return Cell(None, None, None, 0, 0, first)
        whys = {tasks[name].why_missing(key) if name in tasks else "" for name in gaps}
        if len(gaps) == len(names) and len(whys) == 1 and "" not in whys:
            return Cell(None, None, None, 0, len(gaps), first)
        reason = f"misses {len(gaps)} of {len(names)} tasks, first {gaps[0]}: {first}"
        return Cell(None, None, None, len(names) - len(gaps), len(gaps), reason)


def _value(task: TaskRow | None, key: str) -> float:
    value = None if task is None or task.status != "ok" else task.scores.get(key)
    return float("nan") if value is None else value
