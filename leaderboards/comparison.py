"""Two erasers of a board, score by score, on the tasks that both have a score for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.leaderboards.numbers import ARROWS, decimals, interval, number, p_value
from mild_bench.leaderboards.ranking import Board
from mild_bench.leaderboards.standing import Cell
from mild_bench.leaderboards.stats import Difference, tidy

if TYPE_CHECKING:
    from rich.console import RenderableType

SURE = 0.05
HOW_TO_READ = (
    "Difference: the first eraser's mean minus the second's, over the tasks where both have the "
    "score, with its 95% bootstrap interval over scenes (both see the same draws). Cannot tell: "
    "the interval holds 0, or p is 0.05 or more."
)


@dataclass(frozen=True)
class Compared:
    """One score of two erasers.

    Attributes:
        key: ``metric/region/mode``.
        better: ``lower`` or ``higher``.
        tasks: on how many both have it.
        first, second: means over those tasks; None without any.
        difference: of the means, ``first - second``.
    """

    key: str
    title: str
    better: str
    tasks: int
    first: float | None
    second: float | None
    difference: Difference | None

    @property
    def verdict(self) -> str:
        """Which is better: ``first``, ``second``, ``cannot tell``, or ``no common task``."""
        gap = self.difference
        if gap is None:
            return "no common task"
        if gap.low is None or gap.high is None or gap.p is None or gap.p >= SURE:
            return "cannot tell"
        if gap.low <= 0 <= gap.high:
            return "cannot tell"
        return "first" if (gap.mean < 0) == (self.better == "lower") else "second"


def compare(board: Board, first: str, second: str) -> tuple[Compared, ...]:
    """Compare two rows of a board by its headline scores.

    Raises:
        BadInput: no such row, or the same one twice.
    """
    names = board.standing.labels
    rows = [_row(names, one) for one in (first, second)]
    if rows[0] == rows[1]:
        raise BadInput(f"board: expected two different erasers, got {first!r} twice")
    found = []
    for column in board.headline:
        values = board.standing.values(column.key, board.standing.task_ids)[rows]
        both = np.flatnonzero(~np.isnan(values).any(axis=0))
        means: tuple[float | None, float | None] = (None, None)
        gap = None
        if len(both):
            chosen = values[:, both]
            scenes = board.standing.scenes([board.standing.task_ids[int(one)] for one in both])
            gap = board.standing.bootstrap.difference(chosen[0], chosen[1], scenes)
            means = tidy(chosen[0].mean()), tidy(chosen[1].mean())
        title = f"{column.card.title}, {column.region}"
        found.append(Compared(column.key, title, column.card.better, len(both), *means, gap))
    return tuple(found)


def comparison_as_json(found: Sequence[Compared]) -> list[dict[str, Any]]:
    """Return plain JSON values."""
    return [
        {
            **vars(one),
            "difference": None if one.difference is None else vars(one.difference),
            "verdict": one.verdict,
        }
        for one in found
    ]


def terminal_comparison(first: str, second: str, found: Sequence[Compared]) -> RenderableType:
    """Return the table and how to read it (rich renderables)."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Score", overflow="fold", min_width=20)
    for name in ("First", "Second", "Difference", "95% interval", "p", "Tasks"):
        table.add_column(name, justify="right")
    table.add_column("Better")
    for one in found:
        cell = _cell(one)
        places = decimals([cell])
        p = p_value(one.difference.p if one.difference else None)
        cells = (
            f"{one.title} {ARROWS[one.better]}", number(one.first, places),
            number(one.second, places), number(cell.mean, places), interval(cell, places),
            p.removeprefix("p ").removeprefix("= "), str(one.tasks), one.verdict,
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    head = Text(f"first: {first}\nsecond: {second}", style="bold")
    return Group(head, table, Text(), Text(HOW_TO_READ, style="dim"))


def _cell(one: Compared) -> Cell:
    gap = one.difference
    if gap is None:
        return Cell(None, None, None, 0)
    return Cell(gap.mean, gap.low, gap.high, one.tasks)


def _row(names: Sequence[str], name: str) -> int:
    if name in names:
        return names.index(name)
    near = difflib.get_close_matches(name, names, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names)}"
    raise BadInput(f"board: no eraser on it is called {name!r}; {hint}")
