"""The section on attention: who looks at people, and whether that goes with the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from mild_bench.leaderboards import correlation_table as texts
from mild_bench.leaderboards import numbers
from mild_bench.leaderboards.correlation import Correlation, attention_columns
from mild_bench.leaderboards.ranking import Board, Column, Row
from mild_bench.leaderboards.scatter import Cloud, colour_class, scatter

LEAKAGE = "leakage"
View = dict[str, Any]


@dataclass(frozen=True)
class ShownTrace:
    """The picture of one task's trace; ``which`` says why this one."""

    task_id: str
    which: str
    leakage: float
    uri: str


def telling_tasks(board: Board, row: Row, having: Sequence[str]) -> list[tuple[str, str, float]]:
    """Return an eraser's tasks with least, median and most leakage: why, task and leakage.

    Only of those named in ``having``; fewer than three tasks are each returned once.
    """
    columns = [column for column in attention_columns(board) if column.metric == LEAKAGE]
    if not columns:
        return []
    named = set(having)
    found = sorted(
        (value, task.task_id)
        for task in row.record.tasks
        if task.task_id in named and (value := task.scores.get(columns[0].key)) is not None
    )
    if not found:
        return []
    places = {"most leakage": len(found) - 1, "median": len(found) // 2, "least leakage": 0}
    chosen = {place: which for which, place in places.items()}
    return [(chosen[place], found[place][1], found[place][0]) for place in sorted(chosen)]


def attention_view(
    board: Board, correlations: Sequence[Correlation], traces: Mapping[str, tuple[ShownTrace, ...]]
) -> View | None:
    """Return what the section's template fills in; None when no eraser has an attention score."""
    columns = attention_columns(board)
    if not columns:
        return None
    rows = [row for row in board.rows if any(row.cells[column.key].tasks for column in columns)]
    return {
        "heads": [
            {"title": c.card.title, "arrow": numbers.arrow(c), "unit": c.card.unit} for c in columns
        ],
        "lines": [
            {"label": row.label, "cells": [_cell(board, row, column) for column in columns]}
            for row in rows
        ],
        "without": texts.unread(board),
        "pairs": _pairs(board, correlations),
        "how_to_read": texts.HOW_TO_READ,
        "scatter": _scatter(board, rows, columns[0]),
        "against": "" if board.primary is None else numbers.title(board.primary),
        "legend": [{"label": row.label, "colour": colour_class(n)} for n, row in enumerate(rows)],
        "traces": [
            {
                "label": row.label,
                "shown": [
                    {"trace": one, "leakage": numbers.number(one.leakage, 3)}
                    for one in traces[row.label]
                ],
            }
            for row in rows
            if traces.get(row.label)
        ],
    }


def _cell(board: Board, row: Row, column: Column) -> View:
    cell = row.cells[column.key]
    places = numbers.column_decimals(board, column)
    return {
        "text": numbers.number(cell.mean, places),
        "bounds": numbers.interval(cell, places),
        "says": cell.reason or f"{cell.tasks} tasks",
    }


def _pairs(board: Board, correlations: Sequence[Correlation]) -> list[View]:
    pairs = groupby(correlations, key=lambda one: (one.attention, one.score))
    found = []
    for _, group in pairs:
        members = list(group)
        found.append({
            "title": texts.pair_title(board, members[0]),
            "expected": texts.expected_text(members[0]),
            "lines": [
                {
                    "over": texts.scope_name(one),
                    "own": one.scope == "eraser",
                    "rho": texts.rho_text(one),
                    "bounds": texts.bounds_text(one),
                    "used": f"{one.tasks} tasks, {one.scenes} scenes",
                    "verdict": texts.verdict_text(one),
                }
                for one in members
            ],
        })  # fmt: skip
    return found


def _scatter(board: Board, rows: Sequence[Row], attention: Column) -> Any:
    if board.primary is None:
        return ""
    keys = attention.key, board.primary.key
    standing = board.standing
    both = np.stack([standing.values(key, standing.task_ids) for key in keys], axis=1)
    clouds = []
    for row in rows:
        values = both[standing.labels.index(row.label)]
        across, up = values[:, ~np.isnan(values).any(axis=0)]
        clouds.append(Cloud(row.label, across, up))
    return scatter(
        clouds,
        across=f"{attention.card.title}, {attention.card.unit} {numbers.arrow(attention)}",
        up=f"{numbers.title(board.primary, with_mode=False)} {numbers.arrow(board.primary)}",
    )
