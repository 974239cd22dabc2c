"""What the terminal says of records and metrics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mild_bench.metrics.cards import metric_cards
from mild_bench.store import read_json

COLUMNS = ("metric", "better", "range", "unit", "regions", "needs", "measures")


def describe(records: Sequence[Path]) -> Iterator[str]:
    """Yield a line per record, then a line per metric that could not be measured, and why."""
    contents = [read_json(path) for path in records]
    for path, record in zip(records, contents, strict=True):
        yield f"{path}: {_tally(record['tasks'])}"
    missing = {
        metric: weights["missing"]
        for record in contents
        for metric, weights in record["weights"].items()
        if "missing" in weights
    }
    yield from (f"{metric}: not measured: {reason}" for metric, reason in missing.items())


def metric_table() -> Iterator[str]:
    """Yield the lines of a table of every metric."""
    rows = [COLUMNS]
    for card in metric_cards():
        high = "inf" if math.isinf(card.high) else f"{card.high:g}"
        bounds = f"{card.low:g} .. {high}"
        regions, needs = " ".join(card.regions), " ".join(card.needs)
        rows.append((card.metric, card.better, bounds, card.unit, regions, needs, card.summary))
    widths = [max(len(row[index]) for row in rows) for index in range(len(COLUMNS))]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _tally(tasks: Sequence[dict[str, Any]]) -> str:
    counts = {
        "scored": sum(any(v is not None for v in task["scores"].values()) for task in tasks),
        "failed": sum(task["status"] == "failed" for task in tasks),
        "not run": sum(task["status"] == "missing" for task in tasks),
    }
    unreadable = len(tasks) - sum(counts.values())
    named = {**counts, "without any score": unreadable}
    parts = [f"{count} {name}" for name, count in named.items() if count or name == "scored"]
    return f"{len(tasks)} tasks: {', '.join(parts)}"
