"""The board as one self-contained HTML page: no request leaves it, every text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mild_bench.leaderboards import numbers, plots
from mild_bench.leaderboards.attention import attention_view
from mild_bench.leaderboards.controls import ControlCheck, all_warnings
from mild_bench.leaderboards.page_data import PageParts, View, page_data
from mild_bench.leaderboards.ranking import REGION_ORDER, Board, Column, Row
from mild_bench.leaderboards.slices import Slice
from mild_bench.leaderboards.standing import Cell

TEMPLATES = Path(__file__).parent / "templates"
WORST = 10


def render_page(parts: PageParts) -> str:
    """Return the page; equal parts give equal text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("board.html.j2").render(page_view(parts))


def page_view(parts: PageParts) -> View:
    """Return what the template fills in."""
    board = parts.board
    tasks = board.standing.task_ids
    return {
        "release": board.release,
        "protocol": board.protocol,
        "tasks": len(tasks),
        "scenes": len(set(board.standing.scenes(tasks))),
        "erasers": len(board.rows),
        "lead": _lead(board),
        "warnings": all_warnings(board, parts.check),
        "check": parts.check,
        "control_verdict": _verdict(parts.check),
        "groups": _groups(parts),
        "slice_sets": [_slice_set(parts, column) for column in board.headline],
        "costs": [_cost(board, one, f"cost-{n}") for n, one in enumerate(parts.costs)],
        "attention": attention_view(board, parts.correlations, parts.traces),
        "worst": _worst(board),
        "pictures": bool(parts.pictures),
        "why_no_pictures": parts.why_no_pictures,
        "metrics": _metrics(board),
        "rows": [*board.rows, *board.controls],
        "missing": _missing(board),
        "facts": _facts(board),
        "data": page_data(parts),
    }


def worst_tasks(board: Board, row: Row, count: int = WORST) -> list[tuple[str, float]]:
    """Return the tasks with an eraser's worst primary scores, worst first, with the score."""
    primary = board.primary
    if primary is None:
        return []
    found = [
        (task.task_id, value)
        for task in row.record.tasks
        if (value := task.scores.get(primary.key)) is not None
    ]
    sign = -1 if primary.lower_is_better else 1
    return sorted(found, key=lambda pair: (sign * pair[1], pair[0]))[:count]


def _lead(board: Board) -> str:
    primary = board.primary
    if primary is None or not board.rows or board.rows[0].rank is None:
        return "No eraser has a complete primary score, so nobody is ranked."
    first = board.rows[0]
    digits = numbers.column_decimals(board, primary)
    cell = first.cells[primary.key]
    text = (
        f"{first.label} leads with {primary.card.title} {numbers.number(cell.mean, digits)} "
        f"{numbers.interval(cell, digits)} in the {primary.region} "
        f"({primary.card.better} is better)."
    )
    if not board.comparisons:
        return text
    pair = board.comparisons[0]
    verdict = "is clear" if pair.clear else "could be chance"
    chance = numbers.p_value(pair.difference.p) or "no test"
    return f"{text} Its lead over {pair.worse} {verdict} ({chance})."


def _verdict(check: ControlCheck) -> str:
    if not check.checked:
        return ""
    if not check.faults:
        return f"All {check.checked} control checks came out as they must."
    metrics = ", ".join(check.metrics())
    return f"{len(check.faults)} of {check.checked} control checks came out wrong, in {metrics}."


def _groups(parts: PageParts) -> list[View]:
    board = parts.board
    groups = [_group(parts, "headline", "Key figures", board.headline)]
    modes = sorted({c.mode for c in board.columns}, key=lambda m: m != board.protocol.primary_mode)
    regions = sorted(
        {c.region for c in board.columns},
        key=lambda r: REGION_ORDER.index(r) if r in REGION_ORDER else len(REGION_ORDER),
    )
    for mode in modes:
        for region in regions:
            columns = [c for c in board.columns if (c.region, c.mode) == (region, mode)]
            if columns:
                name = f"{region.capitalize()}, {mode}"
                groups.append(_group(parts, f"{region}-{mode}", name, columns))
    return groups


def _group(parts: PageParts, ident: str, title: str, columns: Sequence[Column]) -> View:
    board = parts.board
    axes = {c.key: plots.cell_axis([row.cells[c.key] for row in board.rows]) for c in columns}
    leads = {pair.better: pair for pair in board.comparisons} if ident == "headline" else {}
    heads = [
        {
            "title": column.card.title,
            "region": column.region if ident == "headline" else column.card.unit,
            "arrow": numbers.arrow(column),
            "better": column.card.better,
            "summary": column.card.summary,
            "primary": column == board.primary,
            "flags": [fault.text for fault in parts.check.of_key(column.key)],
        }
        for column in columns
    ]

    def line(row: Row) -> View:
        pair = leads.get(row.label)
        return {
            "row": row,
            "cells": [_cell(board, row, column, axes[column.key]) for column in columns],
            "told_apart": pair.clear if pair else None,
            "p": numbers.p_value(pair.difference.p) if pair else "",
            "next": pair.worse if pair else "",
        }

    return {
        "id": ident,
        "title": title,
        "heads": heads,
        "with_leads": bool(leads),
        "lines": [line(row) for row in board.rows],
        "controls": [line(row) for row in board.controls],
    }


def _cell(board: Board, row: Row, column: Column, axis: plots.Axis | None) -> View:
    cell = row.cells[column.key]
    digits = numbers.column_decimals(board, column)
    text = numbers.number(cell.mean, digits)
    bounds = numbers.interval(cell, digits)
    return {
        "value": cell.mean,
        "text": text,
        "bounds": bounds,
        "says": cell.reason or f"{row.label}: {text} {bounds}, {cell.tasks} tasks",
        "plot": plots.interval_plot(cell, axis, says=f"{text} {bounds}"),
        "primary": column == board.primary,
    }


def _slice_set(parts: PageParts, column: Column) -> View:
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


def _cost(board: Board, one: Slice, ident: str) -> View:
    key = next(iter(one.levels[0].cells)) if one.levels else ""
    return _panels(board, one, key, ident, None, log=True)


def _panels(
    board: Board, one: Slice, key: str, ident: str, digits: int | None, *, log: bool = False
) -> View:
    shown = {row.label: _of(board, one, key, row.label) for row in board.rows}
    every = {**shown, **{row.label: _of(board, one, key, row.label) for row in board.controls}}
    axis = plots.panel_axis([cell for cells in shown.values() for cell in cells], log=log)
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
        "numbers": [
            {"label": label, "cells": [_with_bounds(cell, digits) for cell in cells]}
            for label, cells in every.items()
        ],
    }


def _of(board: Board, one: Slice, key: str, label: str) -> list[Cell]:
    place = board.standing.labels.index(label)
    return [level.cells[key][place] for level in one.levels]


def _says(level: str, cell: Cell, digits: int | None) -> str:
    return f"{level}: {_with_bounds(cell, digits)}, {cell.tasks} tasks"


def _with_bounds(cell: Cell, digits: int | None) -> str:
    if cell.mean is None:
        return "\u2013"
    places = _significant(cell.mean) if digits is None else digits
    return f"{numbers.number(cell.mean, places)} {numbers.interval(cell, places)}".strip()


def _significant(value: float) -> int:
    return next((n for n, edge in ((0, 100.0), (1, 10.0), (2, 1.0)) if value >= edge), 3)


def _worst(board: Board) -> list[View]:
    if board.primary is None:
        return []
    digits = numbers.column_decimals(board, board.primary)
    return [
        {
            "label": row.label,
            "tasks": [
                {"id": task_id, "value": numbers.number(value, digits)}
                for task_id, value in worst_tasks(board, row)
            ],
        }
        for row in board.rows
    ]


def _metrics(board: Board) -> list[View]:
    cards = {card.metric: card for record in board.standing.records for card in record.metrics}
    weights = {name: w for r in board.standing.records for name, w in r.weights.items()}
    return [{"card": card, "weights": weights.get(name)} for name, card in cards.items()]


def _missing(board: Board) -> list[View]:
    lines = [
        {"who": "everybody", "key": ", ".join(keys), "why": why}
        for why, keys in board.absent_by_reason().items()
    ]
    whose: dict[tuple[str, str], list[str]] = {}
    for row in (*board.rows, *board.controls):
        whys: dict[str, list[str]] = {}
        for column in board.columns:
            if why := row.cells[column.key].reason:
                whys.setdefault(why, []).append(column.key)
        for why, keys in whys.items():
            whose.setdefault((why, ", ".join(keys)), []).append(row.label)
    return lines + [
        {"who": ", ".join(who), "key": key, "why": why} for (why, key), who in whose.items()
    ]


def _facts(board: Board) -> list[tuple[str, list[tuple[str, str]]]]:
    rules = [(name.replace("_", " "), _plain(v)) for name, v in board.protocol.model_dump().items()]
    found: dict[str, dict[str, None]] = {}
    for record in board.standing.records:
        for name, value in record.environment.items():
            found.setdefault(name, {})[_plain(value)] = None
    scoring = [(name, " / ".join(values)) for name, values in sorted(found.items())]
    release = [
        ("name", f"{board.release.name} {board.release.version}"),
        ("tasks", str(board.release.tasks)),
        ("hash", board.release.hash),
    ]
    return [("Release", release), ("Protocol", rules), ("Scored with", scoring)]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in sorted(value.items()))
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
