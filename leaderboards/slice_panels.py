"""Slices as the page shows them: a row of small panels, one an eraser, and their numbers."""

from __future__ import annotations

from mild_bench.leaderboards import numbers, plots
from mild_bench.leaderboards.damage import undamaged_rows
from mild_bench.leaderboards.page_data import PageParts, View
from mild_bench.leaderboards.ranking import Board, Column
from mild_bench.leaderboards.slices import Slice
from mild_bench.leaderboards.standing import Cell


def slice_set(parts: PageParts, column: Column) -> View:
    """Return every slice of one score."""
    board = parts.board
    return {
        "key": column.key,
        "title": numbers.title(column),
        "arrow": numbers.arrow(column),
        "better": column.card.better,
        "slices": [
            _panels(
                board,
                one,
                column.key,
                f"g-{column.key}-{n}".replace("/", "-"),
                numbers.column_decimals(board, column),
            )
            for n, one in enumerate(parts.slices)
        ],
    }


def _panels(board: Board, one: Slice, key: str, ident: str, digits: int) -> View:
    shown = {row.label: cells_of(board, one, key, row.label) for row in undamaged_rows(board)}
    axis = plots.panel_axis([cell for cells in shown.values() for cell in cells])
    levels = [level.name for level in one.levels]
    return {
        "title": one.title,
        "levels": [{"name": level.name, "tasks": len(level.task_ids)} for level in one.levels],
        "ghosts": plots.ghosts(ident, list(shown.values()), axis),
        "panels": [
            {
                "label": label,
                "svg": plots.panel(
                    f"{label}: {one.title}",
                    levels,
                    cells,
                    axis,
                    ghost=ident,
                    says=[
                        _says(level.name, cell, digits)
                        for level, cell in zip(one.levels, cells, strict=True)
                    ],
                    joined=one.ordered,
                ),
            }
            for label, cells in shown.items()
        ],
        "numbers": numbers_table(board, one, key, digits),
    }


def numbers_table(board: Board, one: Slice, key: str, digits: int | None) -> list[View]:
    """Return a line for each eraser and control; without ``digits`` as many as a number needs."""
    return [
        {
            "label": row.label,
            "cells": [with_bounds(cell, digits) for cell in cells_of(board, one, key, row.label)],
        }
        for row in (*board.rows, *board.controls)
    ]


def cells_of(board: Board, one: Slice, key: str, label: str) -> list[Cell]:
    """Return one eraser's cells, level by level."""
    place = board.standing.labels.index(label)
    return [level.cells[key][place] for level in one.levels]


def _says(level: str, cell: Cell, digits: int) -> str:
    return f"{level}: {with_bounds(cell, digits)}, {cell.tasks} tasks"


def with_bounds(cell: Cell, digits: int | None) -> str:
    """Write a mean with its interval; without ``digits`` as many as the number needs."""
    if cell.mean is None:
        return "\u2013"
    places = _significant(cell.mean) if digits is None else digits
    return f"{numbers.number(cell.mean, places)} {numbers.interval(cell, places)}".strip()


def _significant(value: float) -> int:
    return next((n for n, edge in ((0, 100.0), (1, 10.0), (2, 1.0)) if value >= edge), 3)
