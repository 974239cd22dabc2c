"""From a board's records to two of its erasers side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.leaderboards.comparison import (
    Compared,
    compare,
    comparison_as_json,
    terminal_comparison,
)
from mild_bench.leaderboards.ranking import Board
from mild_bench.run.board_folder import read_board


@dataclass(frozen=True)
class ComparisonReport:
    """Two erasers of a board, score by score."""

    board: Board
    first: str
    second: str
    found: tuple[Compared, ...]

    def table(self) -> Any:
        """Return the table for a terminal (a rich renderable)."""
        return terminal_comparison(self.first, self.second, self.found)

    def as_json(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "release": self.board.release.model_dump(),
            "protocol": self.board.protocol.model_dump(),
            "first": self.first,
            "second": self.second,
            "scores": comparison_as_json(self.found),
        }


def compare_board(folder: Path, first: str, second: str) -> ComparisonReport:
    """Compare two erasers of a board by their names there, reading its ``records/`` only.

    Raises:
        BadInput: no board, or no such eraser on it.
    """
    board = read_board(folder)
    return ComparisonReport(board, first, second, compare(board, first, second))
