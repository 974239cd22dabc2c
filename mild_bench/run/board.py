"""From scored runs to a board: a folder with a page, tables and the records behind them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.errors import BadInput
from mild_bench.leaderboards.controls import check_controls
from mild_bench.leaderboards.correlation import correlate, score_columns
from mild_bench.leaderboards.layers import ShownLayers
from mild_bench.leaderboards.page import render_page
from mild_bench.leaderboards.page_data import PageParts
from mild_bench.leaderboards.ranking import rank_records
from mild_bench.leaderboards.record import Record, labels, parse_record
from mild_bench.leaderboards.slices import cost_by_people, slice_board
from mild_bench.leaderboards.tables import board_as_csv, board_as_json, board_as_markdown
from mild_bench.leaderboards.terminal import terminal_board
from mild_bench.protocol import find_protocol
from mild_bench.run.board_layers import layer_pictures
from mild_bench.run.board_pictures import find_release, result_pictures, trace_pictures
from mild_bench.store import (
    canonical_json,
    read_json,
    sha256,
    sweep_parts,
    write_bytes,
    write_json,
)

PAGE, TABLES, RECORDS = "index.html", "board.json", "records"
SMALLEST, LARGEST = 64, 2048


@dataclass(frozen=True)
class BoardSummary:
    """What was built.

    Attributes:
        values: what ``board.json`` holds.
        pictures: how many tasks the page shows.
        why_no_pictures: empty when it shows them.
    """

    page: Path
    values: dict[str, Any]
    pictures: int
    why_no_pictures: str


@dataclass(frozen=True)
class _Entry:
    """A record and, where it came from a run folder, the folder."""

    values: Any
    record: Record
    folder: Path | None


def build_board(
    runs: Sequence[Path],
    out: Path,
    *,
    protocol: str = "mild",
    release: Path | None = None,
    picture_size: int = 384,
) -> BoardSummary:
    """Build the board of some scored runs in the folder ``out``.

    A run is a run folder with a record of the protocol, or a record file (then without
    pictures). The release is read from where the runs say it is unless ``release`` names it.
    ``picture_size`` is the longest side of the page's pictures, in pixels. Every file is
    written whole or not at all, and equal input gives equal bytes.

    Raises:
        BadInput: no record, records that do not belong together, another release than the one
            that was scored, or a picture that is not the one that was scored.
    """
    find_protocol(protocol)
    if not SMALLEST <= picture_size <= LARGEST:
        raise BadInput(f"--picture-size: expected {SMALLEST} to {LARGEST}, got {picture_size}")
    _refuse_foreign(out)
    entries = [_read_entry(path, protocol) for path in runs]
    board = rank_records([entry.record for entry in entries])
    folders = _folders(entries)
    source, why = find_release(folders, release, board.release)
    parts = PageParts(
        board,
        check_controls(board),
        slice_board(board, [column.key for column in board.headline]),
        cost_by_people(board),
        {} if source is None else result_pictures(source, board, folders, picture_size),
        why,
        correlate(board, score_columns(board, [])),
        trace_pictures(board, folders),
        ShownLayers() if source is None else layer_pictures(source, board, folders, picture_size),
    )
    return _write(parts, entries, out)


def show_board(folder: Path, *, width: int) -> Any:
    """Return the terminal table (a rich renderable) of a board folder.

    Raises:
        BadInput: no board there.
    """
    path = folder / TABLES
    if not path.is_file():
        raise BadInput(
            f"{folder}: expected a board folder with {TABLES}, got none; "
            "make one with 'mild-bench board build RUN... --out DIR'"
        )
    try:
        return terminal_board(read_json(path), width=width)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{path}: expected a board, got no {error}; build it again") from error


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: expected a folder for the board, got a file; name another --out")
    if (out / "run.json").exists() or (out / "manifest.json").exists():
        raise BadInput(f"{out}: holds a run or a release, not a board; name another --out")


def _read_entry(path: Path, protocol: str) -> _Entry:
    file = path / f"record-{protocol}.json" if path.is_dir() else path
    if not file.is_file():
        raise BadInput(
            f"{path}: expected a run folder with record-{protocol}.json or a record file, got "
            f"none; score it with 'mild-bench score {path} --protocol {protocol}'"
        )
    values = read_json(file)
    record = parse_record(values, name=str(file))
    if record.protocol.name != protocol:
        raise BadInput(
            f"{file}: expected a record of the protocol {protocol}, got {record.protocol.label}; "
            f"pass --protocol {record.protocol.name}"
        )
    return _Entry(values, record, path if path.is_dir() else None)


def _folders(entries: Sequence[_Entry]) -> dict[str, Path]:
    names = labels([entry.record for entry in entries])
    return {name: e.folder for name, e in zip(names, entries, strict=True) if e.folder}


def _write(parts: PageParts, entries: Sequence[_Entry], out: Path) -> BoardSummary:
    board, check, found = parts.board, parts.check, parts.correlations
    page = render_page(parts)
    values = board_as_json(board, check, parts.slices, found)
    for folder in (out, out / RECORDS):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_parts(folder)
    _write_records(entries, out / RECORDS)
    write_bytes(out / "board.md", board_as_markdown(board, check, found).encode())
    write_bytes(out / "board.csv", board_as_csv(board).encode())
    write_json(out / TABLES, values)
    write_bytes(out / PAGE, page.encode())
    return BoardSummary(out / PAGE, values, len(parts.pictures), parts.why_no_pictures)


def _write_records(entries: Sequence[_Entry], folder: Path) -> None:
    names = labels([entry.record for entry in entries])
    files: dict[str, bytes] = {}
    for name, entry in sorted(zip(names, entries, strict=True), key=lambda pair: pair[0]):
        plain = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "eraser"
        file = f"{plain}.json" if f"{plain}.json" not in files else None
        files[file or f"{plain}-{sha256(name.encode())[:8]}.json"] = canonical_json(entry.values)
    for file, data in files.items():
        write_bytes(folder / file, data)
    for old in folder.glob("*.json"):
        if old.name not in files:
            old.unlink()
