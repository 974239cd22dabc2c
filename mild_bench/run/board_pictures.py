"""The pictures of a board's page, from run folders and the release that they answer."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Rgb, composite, read_rgb
from mild_bench.leaderboards.attention import ShownTrace, telling_tasks
from mild_bench.leaderboards.damage import undamaged_rows
from mild_bench.leaderboards.pictures import TaskPictures, task_pictures
from mild_bench.leaderboards.ranking import Board
from mild_bench.leaderboards.record import ReleaseInfo
from mild_bench.progress import progress
from mild_bench.release import Release
from mild_bench.run.trace_pictures import trace_digests, trace_uri
from mild_bench.store import inside, read_json, sha256_file
from mild_bench.task import Task

Folders = Mapping[str, Path]  # the run folder of each row's label, where it has one


def find_release(
    folders: Folders, named: Path | None, wanted: ReleaseInfo
) -> tuple[Release | None, str]:
    """Return the release that was scored, or None and why there are no pictures.

    It is read from where the runs say it is unless ``named`` says otherwise.

    Raises:
        BadInput: it is another release than the one that was scored.
    """
    if not folders:
        return None, "it was made from record files alone"
    folder = named or _recorded_release(next(iter(folders.values())))
    if named is None and not (folder / "manifest.json").is_file():
        return None, f"the release is not at {folder.name}; name it with --release"
    release = Release.open(folder)
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


def result_pictures(
    release: Release, board: Board, folders: Folders, size: int
) -> dict[str, TaskPictures]:
    """Return the pictures of every task of the board, by task id; spoilt copies have none.

    Raises:
        BadInput: a result that is not the one that was scored.
    """
    wanted = frozenset(board.standing.task_ids)
    raw = board.protocol.primary_mode == "raw"
    labels = [row.label for row in (*undamaged_rows(board), *board.controls)]
    shown = {label: folders[label] for label in labels if label in folders}

    def make(task: Task) -> tuple[str, TaskPictures]:
        results = {
            name: picture if raw else composite(picture, task.input, task.mask)
            for name, folder in shown.items()
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


def ended_well(run: Path, task_id: str) -> dict[str, Any] | None:
    """Return a run's note of a task; None where there is no result."""
    note = inside(run / "tasks", f"{task_id}.json")
    values = read_json(note) if note.is_file() else None
    return values if isinstance(values, dict) and values.get("status") == "ok" else None


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
    picture = inside(folder / "results", f"{task.task_id}.png")
    note = ended_well(folder, task.task_id)
    if note is None:
        return None
    if not picture.is_file() or sha256_file(picture) != note.get("sha256"):
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


def trace_pictures(board: Board, folders: Folders) -> dict[str, tuple[ShownTrace, ...]]:
    """Return pictures of the most telling tasks of each run that has some, by label.

    Raises:
        BadInput: a picture that is not the one that the run wrote.
    """
    found = {}
    for row in undamaged_rows(board):
        folder = folders.get(row.label)
        digests = {} if folder is None else trace_digests(folder, board.standing.task_ids)
        if folder is not None and digests:
            found[row.label] = tuple(
                ShownTrace(task_id, which, leakage, trace_uri(folder, task_id, digests[task_id]))
                for which, task_id, leakage in telling_tasks(board, row, list(digests))
            )
    return found
