"""What the page says of the ranking: the leading sentence, and the table in all its regions."""

from __future__ import annotations

from collections.abc import Sequence

from mild_bench.leaderboards import numbers, plots
from mild_bench.leaderboards.controls import ControlCheck
from mild_bench.leaderboards.page_data import PageParts, View
from mild_bench.leaderboards.ranking import REGION_ORDER, Board, Column, Row


def lead(board: Board) -> str:
    """Say who leads, and how clearly."""
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


def control_verdict(check: ControlCheck) -> str:
    """Say what came of the controls; empty when nothing was checked."""
    if not check.checked:
        return ""
    if not check.faults:
        return f"All {check.checked} control checks came out as they must."
    metrics = ", ".join(check.metrics())
    return f"{len(check.faults)} of {check.checked} control checks came out wrong, in {metrics}."


def table_groups(parts: PageParts) -> list[View]:
    """Return the tables to choose from: the key figures, and each region in each mode."""
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
