"""How numbers are written: as many decimals as the intervals of their column support."""

from __future__ import annotations

import math
from collections.abc import Iterable

from mild_bench.leaderboards.ranking import Board, Column
from mild_bench.leaderboards.standing import Cell

MAX_DECIMALS = 4
ARROWS = {"lower": "\u2193", "higher": "\u2191"}


def decimals(cells: Iterable[Cell]) -> int:
    """Return the decimals of a column: two significant digits of its narrowest usual interval."""
    halves = sorted(
        (cell.high - cell.low) / 2
        for cell in cells
        if cell.low is not None and cell.high is not None and cell.high > cell.low
    )
    if not halves:
        return 3
    half = halves[len(halves) // 2]
    return min(max(1 - math.floor(math.log10(half)), 0), MAX_DECIMALS)


def number(value: float | None, places: int) -> str:
    """Write a number with a true minus sign; a dash for none."""
    if value is None:
        return "\u2013"
    text = f"{value:.{places}f}"
    return text.replace("-", "\u2212") if float(text) else text.removeprefix("-")


def interval(cell: Cell, places: int) -> str:
    """Write the bounds as ``[low, high]``; empty without any."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{number(cell.low, places)}, {number(cell.high, places)}]"


def title(column: Column, *, with_mode: bool = True) -> str:
    """Name a column for readers, such as ``LPIPS (alex), hole, composited``."""
    parts = [column.card.title, column.region, *([column.mode] if with_mode else [])]
    return ", ".join(parts)


def arrow(column: Column) -> str:
    """Return the arrow of the better direction."""
    return ARROWS[column.card.better]


def p_value(p: float | None) -> str:
    """Write a p value as papers do."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def column_decimals(board: Board, column: Column) -> int:
    """Return the decimals of a column from the erasers, or from the controls when alone."""
    cells = [row.cells[column.key] for row in board.rows]
    return decimals(cells or [row.cells[column.key] for row in board.controls])
