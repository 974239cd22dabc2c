"""Slices: the same table over the tasks of one kind, to see where an eraser fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mild_bench.leaderboards.correlation import attention_columns
from mild_bench.leaderboards.numbers import arrow
from mild_bench.leaderboards.ranking import Board
from mild_bench.leaderboards.record import TaskRow
from mild_bench.leaderboards.standing import Cell
from mild_bench.task import BIN_EDGES

AREA_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4)  # lower edges of the mask-area bins, share of the frame
CHALLENGES = {
    "human_human": "human\u2013human",
    "human_object": "human\u2013object",
    "human_background": "human\u2013background",
}
MEASURED = {"seconds": "Seconds per task", "peak_mb": "Peak memory, MB"}
KINDS = ("all", "occluder", "occluded", "pair", "single", "free")


@dataclass(frozen=True)
class Level:
    """The tasks with one value of a dimension; ``cells`` by score key, one per label."""

    name: str
    task_ids: tuple[str, ...]
    scenes: int
    cells: dict[str, tuple[Cell, ...]]


@dataclass(frozen=True)
class Slice:
    """A board cut along one dimension; ``ordered`` levels run from easy to hard or few to many."""

    title: str
    ordered: bool
    levels: tuple[Level, ...]


@dataclass(frozen=True)
class CostSlices:
    """Cost and attention by one count of people, each its own slice with one key."""

    title: str
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class _Dimension:
    title: str
    ordered: bool
    names: Callable[[TaskRow], Sequence[str]]
    order: Callable[[str], tuple[float, str]]


def slice_board(board: Board, keys: Sequence[str]) -> tuple[Slice, ...]:
    """Cut the board along every dimension whose column the records have.

    ``Level.cells`` are in the order of ``board.standing.labels``.
    """
    found = [_cut(board, dimension, keys) for dimension in _DIMENSIONS]
    return tuple(one for one in found if one.levels)


def cost_by_people(board: Board) -> tuple[CostSlices, ...]:
    """Return seconds, peak memory and attention by people in the picture, then by people erased.

    Attention is the first attention score that any eraser has. Keys of ``Level.cells`` are
    ``seconds``, ``peak_mb`` and the score's key. A count that the records lack is left out.
    """
    found = [CostSlices(one.title, _costs(board, one)) for one in (_PEOPLE, _ERASED)]
    return tuple(one for one in found if one.slices)


def _cut(board: Board, dimension: _Dimension, keys: Sequence[str]) -> Slice:
    groups = _groups(board, dimension)
    levels = [
        Level(
            name,
            tuple(task_ids),
            len(set(board.standing.scenes(task_ids))),
            {key: tuple(board.standing.cells(key, task_ids)) for key in keys},
        )
        for name, task_ids in sorted(groups.items(), key=lambda item: dimension.order(item[0]))
    ]
    return Slice(dimension.title, dimension.ordered, tuple(levels))


def _groups(board: Board, dimension: _Dimension) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for task_id in board.standing.task_ids:
        for name in dimension.names(board.standing.example[task_id]):
            groups.setdefault(name, []).append(task_id)
    return groups


def _costs(board: Board, dimension: _Dimension) -> tuple[Slice, ...]:
    measured = [_cost(board, dimension, title, field) for field, title in MEASURED.items()]
    attention = [
        replace(_cut(board, dimension, [column.key]), title=f"{column.card.title} {arrow(column)}")
        for column in attention_columns(board)[:1]
    ]
    return tuple(one for one in (*measured, *attention) if one.levels)


def _cost(board: Board, dimension: _Dimension, title: str, field: str) -> Slice:
    levels = []
    for name, task_ids in sorted(
        _groups(board, dimension).items(), key=lambda item: dimension.order(item[0])
    ):
        cells = tuple(_cost_cell(board, tasks, task_ids, field) for tasks in board.standing.by_task)
        scenes = len(set(board.standing.scenes(task_ids)))
        levels.append(Level(name, tuple(task_ids), scenes, {field: cells}))
    return Slice(title, True, tuple(levels))


def _cost_cell(
    board: Board, tasks: dict[str, TaskRow], task_ids: Sequence[str], field: str
) -> Cell:
    measured = [
        name for name in task_ids if name in tasks and getattr(tasks[name], field) is not None
    ]
    if not measured:
        return Cell(None, None, None, 0, 0, "not measured")
    values = np.array([[getattr(tasks[name], field) for name in measured]], dtype=np.float64)
    [one] = board.standing.bootstrap.intervals(values, board.standing.scenes(measured))
    return Cell(one.mean, one.low, one.high, len(measured), len(task_ids) - len(measured))


def _challenges(task: TaskRow) -> list[str]:
    if not CHALLENGES.keys() <= task.strata.keys():
        return []
    return [title for name, title in CHALLENGES.items() if task.strata[name]] or ["none of them"]


def _area(task: TaskRow) -> list[str]:
    share = task.strata.get("mask_area")
    if not isinstance(share, float | int):
        return []
    place = sum(share >= edge for edge in AREA_EDGES) - 1
    return [_area_names()[max(place, 0)]]


def _area_names() -> list[str]:
    percent = [f"{edge:.0%}".removesuffix("%") for edge in AREA_EDGES]
    between = [f"{a}\u2013{b}%" for a, b in pairwise(percent)]
    return [*between, f"{percent[-1]}% and more"]


def _column(name: str) -> Callable[[TaskRow], list[str]]:
    def names(task: TaskRow) -> list[str]:
        return [str(task.strata[name])] if task.strata.get(name) is not None else []

    return names


def _listed(names: Sequence[str]) -> Callable[[str], tuple[float, str]]:
    def order(name: str) -> tuple[float, str]:
        return (names.index(name) if name in names else len(names), name)

    return order


def _number(name: str) -> tuple[float, str]:
    return (float(name) if name.isdigit() else float("inf"), name)


_PEOPLE = _Dimension("Number of people", True, _column("people"), _number)
_ERASED = _Dimension("People erased", True, _column("erased"), _number)
_DIMENSIONS = (
    _Dimension("Challenge", False, _challenges, _listed([*CHALLENGES.values(), "none of them"])),
    _Dimension("Occlusion", True, _column("occlusion_bin"), _listed(list(BIN_EDGES))),
    _PEOPLE,
    _Dimension("Mask area", True, _area, _listed(_area_names())),
    _Dimension("Mask source", False, _column("mask_source"), _listed(["exact"])),
    _Dimension("Who is erased", False, lambda task: [task.kind], _listed(KINDS)),
)
