"""From a board's records to how attention goes with the other scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.errors import BadInput
from mild_bench.leaderboards.correlation import (
    ATTENTION,
    Correlation,
    attention_columns,
    correlate,
    score_columns,
)
from mild_bench.leaderboards.correlation_table import correlations_as_json, terminal_correlations
from mild_bench.leaderboards.ranking import Board
from mild_bench.run.board_folder import read_board


@dataclass(frozen=True)
class CorrelationReport:
    """Correlations of a board, in order of attention metric, score and scope."""

    board: Board
    found: tuple[Correlation, ...]

    def table(self) -> Any:
        """Return the table for a terminal (a rich renderable)."""
        return terminal_correlations(self.board, self.found)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "release": self.board.release.model_dump(),
            "protocol": self.board.protocol.model_dump(),
            "correlations": correlations_as_json(self.found),
        }


def correlate_board(folder: Path, metrics: Sequence[str]) -> CorrelationReport:
    """Correlate attention with some scores of a board, reading its ``records/`` only.

    Args:
        folder: of the board.
        metrics: ids (their headline column) or whole keys; none for the score that ranks, and
            residue.

    Raises:
        BadInput: no board, no eraser with attention, or an unknown score.
    """
    board = read_board(folder)
    if not attention_columns(board):
        raise BadInput(f"{folder}: {_why_none(board)}")
    return CorrelationReport(board, correlate(board, score_columns(board, metrics)))


def _why_none(board: Board) -> str:
    cards = [card for record in board.standing.records for card in record.metrics]
    needing = {card.metric for card in cards if ATTENTION in card.needs}
    reasons = [why for key, why in board.absent.items() if key.split("/")[0] in needing]
    why = f" ({reasons[0]})" if reasons else ""
    return (
        f"no eraser on this board has an attention score{why}; "
        "erase with --probe cag, then score and build the board again"
    )
