"""The section on layers: the background, and every person complete on a checkerboard."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mild_bench.leaderboards import numbers
from mild_bench.leaderboards.damage import LAYER_METRICS, shown_columns, undamaged_rows
from mild_bench.leaderboards.layer_pictures import LayerPicture
from mild_bench.leaderboards.ranking import Board, Row

MOST_ERASERS = 6  # each costs about 100 kB
PLACES = {"best": 0.0, "better quarter": 0.25, "median": 0.5, "worse quarter": 0.75, "worst": 1.0}
View = dict[str, Any]


@dataclass(frozen=True)
class ShownTask:
    """A task whose layers the page shows; ``which`` says why this one."""

    task_id: str
    which: str


@dataclass(frozen=True)
class ShownLayers:
    """The layers that the page shows.

    Attributes:
        tasks: the same for all erasers.
        layers: by label, then by task, then by person.
        left_out: labels of further erasers that made layers.
    """

    tasks: tuple[ShownTask, ...] = ()
    layers: Mapping[str, Mapping[str, Mapping[str, LayerPicture]]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def erasers_to_show(board: Board, having: Collection[str]) -> tuple[list[str], list[str]]:
    """Return whose layers to show, best first, and who is left out.

    ``having`` are the labels of those who made some. Spoilt copies are left out, and those after
    the first few.
    """
    rows = undamaged_rows(board)
    shown = [row.label for row in rows if row.label in having][:MOST_ERASERS]
    others = [row.label for row in board.rows if row.label in having]
    return shown, [label for label in others if label not in shown]


def tasks_to_show(board: Board, row: Row, counts: Mapping[str, int]) -> tuple[ShownTask, ...]:
    """Return tasks spread evenly from an eraser's best to its worst.

    By the first score of layers that the board has, else by the primary. ``counts`` says how many
    layers each task has: those with several go before those with one.
    """
    columns = shown_columns(board)
    if not columns:
        return ()
    several = {name for name, count in counts.items() if count > 1} or set(counts)
    sign = 1 if columns[0].lower_is_better else -1
    ranked = sorted(
        (sign * value, task.task_id)
        for task in row.record.tasks
        if task.task_id in several and (value := task.scores.get(columns[0].key)) is not None
    )
    chosen: dict[str, str] = {}
    for which, share in PLACES.items():
        if ranked:
            chosen.setdefault(ranked[round(share * (len(ranked) - 1))][1], which)
    return tuple(ShownTask(task_id, which) for task_id, which in chosen.items())


def layers_view(board: Board, shown: ShownLayers) -> View | None:
    """Return what the section's template fills in; None when there are no layers."""
    if not shown.layers:
        return None
    columns = shown_columns(board)
    return {
        "by": numbers.title(columns[0], with_mode=False) if columns else "",
        "left_out": shown.left_out,
        "erasers": [
            {
                "label": label,
                "tasks": [
                    {
                        "id": task.task_id,
                        "which": task.which,
                        "scores": _scores(board, label, task.task_id),
                        "people": [
                            {"name": name, "picture": picture, "painted": f"{picture.painted:.0%}"}
                            for name, picture in by_task[task.task_id].items()
                        ],
                    }
                    for task in shown.tasks
                    if task.task_id in by_task
                ],
            }
            for label, by_task in shown.layers.items()
        ],
    }


def _scores(board: Board, label: str, task_id: str) -> str:
    """Write the primary score and those of layers."""
    task = board.standing.by_task[board.standing.labels.index(label)].get(task_id)
    wanted: Sequence[str] = (*LAYER_METRICS, board.protocol.primary.split("/")[0])
    parts = [
        f"{column.card.title} {numbers.number(value, numbers.column_decimals(board, column))}"
        for column in board.headline
        if column.metric in wanted and task and (value := task.scores.get(column.key)) is not None
    ]
    return ", ".join(parts)
