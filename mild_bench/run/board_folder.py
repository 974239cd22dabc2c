"""A finished board folder, read back."""

from __future__ import annotations

from pathlib import Path

from mild_bench.errors import BadInput
from mild_bench.leaderboards.ranking import Board, rank_records
from mild_bench.leaderboards.record import read_record
from mild_bench.run.board import RECORDS


def read_board(folder: Path) -> Board:
    """Make a board again from its ``records/``.

    Raises:
        BadInput: no board, or records that are none.
    """
    files = sorted((folder / RECORDS).glob("*.json"))
    if not files:
        raise BadInput(
            f"{folder}: expected a board folder with {RECORDS}/, got none; name one with --board, "
            "or make one with 'mild-bench board build RUN... --out DIR'"
        )
    return rank_records([read_record(path) for path in files])
