"""The board as Markdown, CSV and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mild_bench.leaderboards.controls import ControlCheck, all_warnings
from mild_bench.leaderboards.correlation import ATTENTION, Correlation
from mild_bench.leaderboards.correlation_table import (
    correlations_as_json,
    correlations_as_markdown,
)
from mild_bench.leaderboards.numbers import arrow, decimals, interval, number, p_value
from mild_bench.leaderboards.ranking import Board, Column, Row
from mild_bench.leaderboards.slices import Slice
from mild_bench.leaderboards.standing import Cell


def board_as_json(
    board: Board,
    check: ControlCheck,
    slices: tuple[Slice, ...],
    correlations: Sequence[Correlation] = (),
) -> dict[str, Any]:
    """Return everything on the board as plain JSON values, without the per-task scores."""
    return {
        "schema": 1,
        "release": board.release.model_dump(),
        "protocol": board.protocol.model_dump(),
        "columns": [{"key": column.key, **column.card.model_dump()} for column in board.columns],
        "headline": [column.key for column in board.headline],
        "rows": [_row_json(row) for row in board.rows],
        "controls": [_row_json(row) for row in board.controls],
        "comparisons": [
            {"better": pair.better, "worse": pair.worse, **vars(pair.difference)}
            for pair in board.comparisons
        ],
        "control_check": {
            "checked": check.checked,
            "faults": [vars(fault) for fault in check.faults],
            "unchecked": list(check.unchecked),
        },
        "slices": [_slice_json(board, one) for one in slices],
        "correlations": correlations_as_json(correlations),
        "absent": board.absent,
        "warnings": all_warnings(board, check),
    }


def board_as_csv(board: Board) -> str:
    """Return one line per eraser and score key, ready for ``pandas.read_csv``."""
    import pandas

    lines = [
        {
            "eraser": row.label,
            "control": row.control or "",
            "rank": row.rank,
            "metric": column.metric,
            "region": column.region,
            "mode": column.mode,
            "better": column.card.better,
            "mean": row.cells[column.key].mean,
            "low": row.cells[column.key].low,
            "high": row.cells[column.key].high,
            "tasks": row.cells[column.key].tasks,
            "missing": row.cells[column.key].missing,
            "reason": row.cells[column.key].reason or "",
        }
        for row in (*board.rows, *board.controls)
        for column in board.columns
    ]
    frame = pandas.DataFrame(lines).astype({"rank": "Int64"})
    return str(frame.to_csv(index=False, lineterminator="\n"))


def board_as_markdown(
    board: Board, check: ControlCheck, correlations: Sequence[Correlation] = ()
) -> str:
    """Return a board that reads well where Markdown is rendered, such as on GitHub."""
    tasks = board.standing.task_ids
    scenes = len(set(board.standing.scenes(tasks)))
    parts = [
        f"# {_text(board.release.name)} {_text(board.release.version)}",
        f"{len(tasks)} tasks from {scenes} scenes, protocol {_text(board.protocol.label)}. "
        "Means with 95% bootstrap intervals over scenes; "
        f"ranked by {_text(board.protocol.primary)}.",
        *[f"**Note:** {_text(warning)}." for warning in all_warnings(board, check)],
        _table(board, check),
        *_list("Neighbours", _neighbours(board)),
        *_list("Controls", _controls(board, check)),
        *_list("Attention", list(map(_text, correlations_as_markdown(board, correlations)))),
        *_list("Notes", _notes(board)),
        *_list("Not scored", _absent(board)),
        f"Release {_text(board.release.hash)}.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(board: Board, check: ControlCheck) -> str:
    places = {
        column.key: decimals(row.cells[column.key] for row in (*board.rows, *board.controls))
        for column in board.headline
    }
    heads = ["Rank", "Eraser", *[_head(column, check) for column in board.headline]]
    lines = [heads, ["--:", ":--", *["--:" for _ in board.headline]]]
    lines += [_line(board, row, places) for row in board.rows]
    if board.controls:
        lines.append(["", "*controls*", *["" for _ in board.headline]])
        lines += [_line(board, row, places) for row in board.controls]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _head(column: Column, check: ControlCheck) -> str:
    flag = " \u26a0" if check.of_key(column.key) else ""
    return f"{_text(column.card.title)} {arrow(column)}<br>{column.region}{flag}"


def _line(board: Board, row: Row, places: dict[str, int]) -> list[str]:
    cells = []
    for column in board.headline:
        cell = row.cells[column.key]
        text = number(cell.mean, places[column.key])
        if column == board.primary and cell.low is not None:
            text = f"**{text}** {interval(cell, places[column.key])}"
        cells.append(text)
    return [str(row.rank or "\u2013" if row.control is None else ""), _text(row.label), *cells]


def _neighbours(board: Board) -> list[str]:
    primary = board.primary
    if primary is None:
        return []
    places = decimals(row.cells[primary.key] for row in board.rows)
    return [
        f"{_text(pair.better)} and {_text(pair.worse)}: "
        f"{'told apart' if pair.clear else 'not told apart'} "
        f"({number(abs(pair.difference.mean), places)}, {p_value(pair.difference.p) or 'no test'})"
        for pair in board.comparisons
    ]


def _controls(board: Board, check: ControlCheck) -> list[str]:
    right = check.checked - len(check.faults)
    summary = f"{right} of {check.checked} checks came out as they must." if check.checked else ""
    shown = [fault for column in board.headline for fault in check.of_key(column.key)]
    faults = [f"\u26a0 {_text(fault.key)}: {_text(fault.text)}" for fault in shown]
    if len(shown) < len(check.faults):
        faults.append(f"{len(check.faults) - len(shown)} more on other scores: see board.json")
    return [line for line in (summary, *faults, *map(_text, check.unchecked)) if line]


def _notes(board: Board) -> list[str]:
    lines = [f"{_text(row.label)}: {_text(note)}" for row in board.rows for note in row.notes]
    whose: dict[str, dict[str, None]] = {}
    for row in (*board.rows, *board.controls):
        for column in board.headline:
            # Attention has a section of its own.
            if ATTENTION not in column.card.needs and (why := row.cells[column.key].reason):
                whose.setdefault(why, {})[row.label] = None
    return [*lines, *[f"{_text(', '.join(who))}: {_text(why)}" for why, who in whose.items()]]


def _absent(board: Board) -> list[str]:
    return [
        f"{_text(', '.join(keys))}: {_text(why)}" for why, keys in board.absent_by_reason().items()
    ]


def _list(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "\n".join(f"- {line}" for line in lines)] if lines else []


def _text(value: str) -> str:
    """Escape what Markdown or HTML would read as markup."""
    plain = " ".join(value.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{sign}" if sign in "\\|*_`[]" else sign for sign in plain)


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "label": row.label,
        "rank": row.rank,
        "rank_low": row.rank_low,
        "rank_high": row.rank_high,
        "control": row.control,
        "spec": row.record.spec,
        "settings_hash": row.record.eraser.settings_hash,
        "notes": list(row.notes),
        "cells": {key: _cell_json(cell) for key, cell in row.cells.items()},
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    return dict(vars(cell))


def _slice_json(board: Board, one: Slice) -> dict[str, Any]:
    levels = [
        {
            "name": level.name,
            "tasks": len(level.task_ids),
            "scenes": level.scenes,
            "cells": {
                label: {key: _cell_json(cells[place]) for key, cells in level.cells.items()}
                for place, label in enumerate(board.standing.labels)
            },
        }
        for level in one.levels
    ]
    return {"title": one.title, "levels": levels}
