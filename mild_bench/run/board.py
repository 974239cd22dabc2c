"""From scored runs to a board: a folder with a page, tables and the records behind them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Rgb, composite, read_rgb
from mild_bench.leaderboards.attention import ShownTrace, telling_tasks
from mild_bench.leaderboards.controls import check_controls
from mild_bench.leaderboards.correlation import correlate, score_columns
from mild_bench.leaderboards.page import render_page
from mild_bench.leaderboards.page_data import PageParts
from mild_bench.leaderboards.pictures import TaskPictures, task_pictures
from mild_bench.leaderboards.ranking import Board, rank_records
from mild_bench.leaderboards.record import Record, labels, parse_record
from mild_bench.leaderboards.slices import cost_by_people, slice_board
from mild_bench.leaderboards.tables import board_as_csv, board_as_json, board_as_markdown
from mild_bench.leaderboards.terminal import terminal_board
from mild_bench.progress import progress
from mild_bench.protocol import find_protocol
from mild_bench.release import Release
from mild_bench.run.trace_pictures import trace_digests, trace_uri
from mild_bench.store import (
    canonical_json,
    inside,
    read_json,
    sha256,
    sha256_file,
    sweep_parts,
    write_bytes,
    write_json,
)
from mild_bench.task import Task

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
    source, why = _find_release(entries, release)
    pictures = {} if source is None else _pictures(source, board, entries, picture_size)
    return _write(board, entries, pictures, _traces(board, entries), why, out)


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


def _find_release(entries: Sequence[_Entry], named: Path | None) -> tuple[Release | None, str]:
    """Return the release that was scored, or None and why there are no pictures."""
    folders = [entry.folder for entry in entries if entry.folder]
    if not folders:
        return None, "it was made from record files alone"
    folder = named or _recorded_release(folders[0])
    if named is None and not (folder / "manifest.json").is_file():
        return None, f"the release is not at {folder.name}; name it with --release"
    release = Release.open(folder)
    wanted = entries[0].record.release
    if release.hash != wanted.hash:
        raise BadInput(
            f"{folder}: expected the release that was scored, {wanted.label}, got {release.name} "
            f"({release.hash[:12]}); name the right one with --release"
        )
    return release, ""


def _recorded_release(run: Path) -> Path:
    header = read_json(run / "run.json")
    try:
        return Path(os.path.normpath(run / str(header["release"]["folder"])))
    except (KeyError, TypeError) as error:
        raise BadInput(f"{run / 'run.json'}: expected a run, got no {error}") from error


def _pictures(
    release: Release, board: Board, entries: Sequence[_Entry], size: int
) -> dict[str, TaskPictures]:
    from concurrent.futures import ThreadPoolExecutor

    wanted = frozenset(board.standing.task_ids)
    names = labels([entry.record for entry in entries])
    folders = {name: e.folder for name, e in zip(names, entries, strict=True) if e.folder}
    raw = board.protocol.primary_mode == "raw"

    def make(task: Task) -> tuple[str, TaskPictures]:
        results = {
            name: picture if raw else composite(picture, task.input, task.mask)
            for name, folder in folders.items()
            if (picture := _result(folder, task)) is not None
        }
        return task.task_id, task_pictures(task.input, task.mask, task.truth, results, size=size)

    found: dict[str, TaskPictures] = {}
    workers = os.cpu_count() or 1
    with progress("pictures", total=len(wanted)) as advance, ThreadPoolExecutor(workers) as pool:
        for batch in _batches(release.tasks(wanted), workers):
            found.update(pool.map(make, batch))
            advance(len(batch))
    return found


def _batches(tasks: Iterator[Task], size: int) -> Iterator[list[Task]]:
    """Few tasks in memory at a time."""
    batch: list[Task] = []
    for task in tasks:
        batch.append(task)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _result(folder: Path, task: Task) -> Rgb | None:
    """Return a result at the input's size; None where the task failed."""
    note = inside(folder / "tasks", f"{task.task_id}.json")
    picture = inside(folder / "results", f"{task.task_id}.png")
    if not note.is_file():
        return None
    values = read_json(note)
    if not isinstance(values, dict) or values.get("status") != "ok":
        return None
    if not picture.is_file() or sha256_file(picture) != values.get("sha256"):
        raise BadInput(
            f"{picture}: expected the picture that was erased and scored, got another or none; "
            "erase and score this run again"
        )
    result = read_rgb(picture)
    if result.shape == task.input.shape:
        return result
    height, width = task.input.shape[:2]
    resized = Image.fromarray(result).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _traces(board: Board, entries: Sequence[_Entry]) -> dict[str, tuple[ShownTrace, ...]]:
    """Pictures of the most telling tasks of each run that has some."""
    names = labels([entry.record for entry in entries])
    folders = {name: e.folder for name, e in zip(names, entries, strict=True) if e.folder}
    found = {}
    for row in board.rows:
        folder = folders.get(row.label)
        digests = {} if folder is None else trace_digests(folder, board.standing.task_ids)
        if folder is not None and digests:
            found[row.label] = tuple(
                ShownTrace(task_id, which, leakage, trace_uri(folder, task_id, digests[task_id]))
                for which, task_id, leakage in telling_tasks(board, row, list(digests))
            )
    return found


def _write(
    board: Board,
    entries: Sequence[_Entry],
    pictures: dict[str, TaskPictures],
    traces: dict[str, tuple[ShownTrace, ...]],
    why: str,
    out: Path,
) -> BoardSummary:
    check = check_controls(board)
    slices = slice_board(board, [column.key for column in board.headline])
    found = correlate(board, score_columns(board, []))
    parts = PageParts(board, check, slices, cost_by_people(board), pictures, why, found, traces)
    page = render_page(parts)
    values = board_as_json(board, check, slices, found)
    for folder in (out, out / RECORDS):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_parts(folder)
    _write_records(entries, out / RECORDS)
    write_bytes(out / "board.md", board_as_markdown(board, check, found).encode())
    write_bytes(out / "board.csv", board_as_csv(board).encode())
    write_json(out / TABLES, values)
    write_bytes(out / PAGE, page.encode())
    return BoardSummary(out / PAGE, values, len(pictures), why)


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
