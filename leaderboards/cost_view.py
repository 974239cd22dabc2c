"""The section on cost: seconds, memory and attention against the number of people."""

from __future__ import annotations

from collections.abc import Sequence

from mild_bench.leaderboards import numbers
from mild_bench.leaderboards.curves import LARGE, Curve, Point, curve_plot, up_axis
from mild_bench.leaderboards.damage import undamaged_rows
from mild_bench.leaderboards.page_data import PageParts, View
from mild_bench.leaderboards.ranking import Board, Row
from mild_bench.leaderboards.scatter import colour_class
from mild_bench.leaderboards.slice_panels import cells_of, numbers_table, with_bounds
from mild_bench.leaderboards.slices import MEASURED, Slice


def cost_view(parts: PageParts) -> View:
    """Return what the section's template fills in.

    Spoilt copies are in the tables but in no plot: they would hide what they are drawn over.
    """
    board = parts.board
    rows = undamaged_rows(board)
    return {
        "sets": [
            {
                "title": one.title,
                "plots": [_plot(board, found, rows, by=one.title) for found in one.slices],
            }
            for one in parts.costs
        ],
        "legend": [{"label": row.label, "colour": colour_class(n)} for n, row in enumerate(rows)],
    }


def _plot(board: Board, one: Slice, rows: Sequence[Row], *, by: str) -> View:
    key = next(iter(one.levels[0].cells))
    columns = {column.key: column for column in board.columns}
    digits = numbers.column_decimals(board, columns[key]) if key in columns else None
    curves = [_curve(board, one, key, place, row, digits) for place, row in enumerate(rows)]
    drawn = [curve for curve in curves if curve.points]
    cells = [point.cell for curve in drawn for point in curve.points]
    axis = up_axis(cells, LARGE, log=key in MEASURED)
    places = [(float(level.name), level.name) for level in one.levels if level.name.isdigit()]
    return {
        "title": one.title,
        "svg": curve_plot(f"{one.title}: {by}", drawn, places, axis, LARGE) if axis else "",
        "across": by,
        "levels": [{"name": level.name, "tasks": len(level.task_ids)} for level in one.levels],
        "numbers": numbers_table(board, one, key, digits),
    }


def _curve(board: Board, one: Slice, key: str, place: int, row: Row, digits: int | None) -> Curve:
    cells = cells_of(board, one, key, row.label)
    points = [
        Point(
            float(level.name),
            cell,
            f"{row.label}, {level.name}: {with_bounds(cell, digits)}, {cell.tasks} tasks",
        )
        for level, cell in zip(one.levels, cells, strict=True)
        if level.name.isdigit() and cell.mean is not None
    ]
    return Curve(place, tuple(points))
