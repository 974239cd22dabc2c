"""What a board was measured with: metrics, rules, versions, and what could not be scored."""

from __future__ import annotations

from typing import Any

from mild_bench.leaderboards.page_data import View
from mild_bench.leaderboards.ranking import Board


def metric_cards(board: Board) -> list[View]:
    """Return each metric's card with its weights, in card order."""
    cards = {card.metric: card for record in board.standing.records for card in record.metrics}
    weights = {name: w for r in board.standing.records for name, w in r.weights.items()}
    return [{"card": card, "weights": weights.get(name)} for name, card in cards.items()]


def missing_scores(board: Board) -> list[View]:
    """Return who has no score, which and why; first what nobody has."""
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


def facts(board: Board) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return titled lists of names and values: release, protocol, and what scored."""
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
