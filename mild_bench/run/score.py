"""Score runs of one release: together, resumable, one record per run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Rgb, decode_png
from mild_bench.progress import progress
from mild_bench.protocol import Protocol, find_protocol
from mild_bench.release import Release
from mild_bench.run.attention import read_attention
from mild_bench.run.environment import environment
from mild_bench.run.run_folder import RUN
from mild_bench.score import Score
from mild_bench.store import (
    canonical_json,
    inside,
    number_or_none,
    read_json,
    sha256,
    sweep_parts,
    write_json,
)
from mild_bench.task import Task

if TYPE_CHECKING:
    from mild_bench.metrics.scorer import Attention, Scorer

SCHEMA = 1
DECIMALS = 6
MOST_WORKERS = 8
NOT_STRATA = ("task_id", "scene_id", "kind")


@dataclass(frozen=True)
class ScoredRun:
    """A run folder that is being scored under one protocol."""

    path: Path
    header: dict[str, Any]
    protocol: str

    @classmethod
    def open(cls, path: Path, protocol: str) -> ScoredRun:
        """Open a run folder.

        Raises:
            BadInput: not a run folder.
        """
        if not (path / RUN).is_file():
            raise BadInput(
                f"{path}: expected a run folder with {RUN}, got none; "
                "make one with 'mild-bench erase RELEASE --eraser NAME --out RUN'"
            )
        header = read_json(path / RUN)
        needed = {"eraser", "spec", "release", "seed"}
        if not isinstance(header, dict) or not needed <= header.keys():
            raise BadInput(f"{path / RUN}: expected {', '.join(sorted(needed))}; erase again")
        return cls(path, header, protocol)

    @property
    def record(self) -> Path:
        """Where the record goes."""
        return self.path / f"record-{self.protocol}.json"

    @cached_property
    def scores(self) -> Path:
        """The folder of per-task scores."""
        return self.path / "scores" / self.protocol

    def score_file(self, task_id: str) -> Path:
        """The resume unit of one task."""
        return inside(self.scores, f"{task_id}.json")

    def note(self, task_id: str) -> dict[str, Any]:
        """How the task ended: status ``ok``, ``failed`` or ``missing`` (never run)."""
        path = inside(self.path / "tasks", f"{task_id}.json")
        if not path.is_file():
            return {"status": "missing", "reason": "the run does not hold this task"}
        note = read_json(path)
        if not isinstance(note, dict) or "status" not in note:
            raise BadInput(f"{path}: expected the note of a task; remove it and erase again")
        return note

    def picture(self, task_id: str) -> bytes:
        """The bytes of the result, empty when there is no such file."""
        path = inside(self.path / "results", f"{task_id}.png")
        return path.read_bytes() if path.is_file() else b""

    def trace(self, task_id: str) -> bytes:
        """The bytes of the trace of the attention, empty when there is no such file."""
        path = inside(self.path / "traces", f"{task_id}.npz")
        return path.read_bytes() if path.is_file() else b""

    def measured(self, task_id: str) -> dict[str, Any]:
        """Seconds and peak memory, None where they were not measured; the GPU's where one was."""
        path = inside(self.path / "measured", f"{task_id}.json")
        found = read_json(path) if path.is_file() else {}
        gpu = {name: found[name] for name in ("gpu_peak_mb",) if name in found}
        return {"seconds": found.get("seconds"), "peak_mb": found.get("peak_mb"), **gpu}


def score_runs(
    runs: Sequence[Path],
    *,
    protocol: str = "mild",
    release: Path | None = None,
    weights: Path | None = None,
    clip_model: str | None = None,
    clip_weights: Path | None = None,
    allow_download: bool = False,
    workers: int | None = None,
) -> list[Path]:
    """Score runs of one release and return their records, in the same order.

    Tasks whose picture, trace, protocol, metrics and weights are as they were are kept, so that the
    same command goes on after a kill and ends with the same bytes. Runs that are scored together
    share the work on each task's truth; the numbers do not depend on what else is scored.

    Args:
        release: where the release is; each run knows where it was.
        weights: a folder of weight files.
        clip_model, clip_weights: another open_clip model, a local checkpoint of it.
        allow_download: whether missing weights may be fetched.
        workers: tasks at a time; all cores by default.

    Raises:
        BadInput: no run, runs of different releases, or weights that are not what they should be.
    """
    if not runs:
        raise BadInput("runs: expected at least one run folder, got none")
    if workers is not None and workers < 1:
        raise BadInput(f"workers: expected at least 1, got {workers}")
    rules = find_protocol(protocol)
    if clip_model is not None:
        rules = replace(rules, clip_model=clip_model)
    opened = [ScoredRun.open(path, rules.name) for path in runs]
    data = _release_of(opened, release)
    scorer = _scorer(rules, weights, clip_weights, allow_download)
    stamp = sha256(canonical_json({"release": data.hash, "rules": scorer.fingerprint}))
    _score_pending(opened, data, scorer, stamp, workers or _cores())
    for run in opened:
        write_json(run.record, _record(run, data, scorer))
    return [run.record for run in opened]


def _scorer(
    rules: Protocol, weights: Path | None, clip_weights: Path | None, allow_download: bool
) -> Scorer:
    import cv2
    import torch

    from mild_bench.metrics.scorer import Scorer

    # One thread an operation, many tasks at a time: faster on small crops, and a sum's order (so
    # its last bits) does not depend on the number of cores.
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    return Scorer(
        rules, weights=weights, clip_checkpoint=clip_weights, allow_download=allow_download
    )


def _release_of(runs: Sequence[ScoredRun], named: Path | None) -> Release:
    hashes = {run.header["release"]["hash"] for run in runs}
    if len(hashes) > 1:
        raise BadInput(
            f"runs: expected runs of one release, got {len(hashes)} different ones; "
            "score them with one command each"
        )
    folder = named or runs[0].path / runs[0].header["release"]["folder"]
    if not folder.is_dir():
        raise BadInput(
            f"{runs[0].path}: its release is not at {runs[0].header['release']['folder']!r} "
            "any more; name its folder with --release"
        )
    release = Release.open(folder)
    if release.hash not in hashes:
        raise BadInput(
            f"{folder}: expected the release that the runs were made on "
            f"({next(iter(hashes))[:12]}), got {release.hash[:12]}; name that one with --release"
        )
    if changed := release.changed_files():
        raise BadInput(
            f"{folder}: changed since it was frozen ({', '.join(changed[:3])}); fetch it again"
        )
    return release


@dataclass(frozen=True)
class _Pending:
    """One result that has no valid scores yet."""

    run: ScoredRun
    task_id: str
    key: str
    digest: str

    def read(self) -> Rgb | str:
        """Return the picture, or the reason why it cannot be scored."""
        data = self.run.picture(self.task_id)
        noted = self.run.note(self.task_id).get("sha256")
        if not data:
            return "the result's file is missing or empty; erase this task again"
        if sha256(data) != noted:
            return "the result's file is not the one that the run wrote; erase this task again"
        try:
            picture = decode_png(data, name="the result")
        except BadInput as error:
            return str(error)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            return f"the result is not an 8-bit RGB picture but {picture.dtype} {picture.shape}"
        return picture

    def attention(self) -> Attention:
        """Return the trace that the run kept, or the reason why there is none to score."""
        return read_attention(
            self.run.header, self.run.note(self.task_id), self.run.trace(self.task_id)
        )

    def keep(self, scores: Sequence[Score]) -> None:
        """Write the scores."""
        values = {score.key: number_or_none(round(score.value, DECIMALS)) for score in scores}
        reasons = {score.key: score.reason for score in scores if score.reason is not None}
        content = {"task_id": self.task_id, "key": self.key, "scores": values, "reasons": reasons}
        write_json(self.run.score_file(self.task_id), content)


def _score_pending(
    runs: Sequence[ScoredRun], release: Release, scorer: Scorer, stamp: str, workers: int
) -> None:
    pending: dict[str, list[_Pending]] = {}
    for run in runs:
        sweep_parts(run.path)
        sweep_parts(run.scores)
        for task_id in release.task_ids():
            if (result := _pending(run, task_id, stamp)) is not None:
                pending.setdefault(task_id, []).append(result)
    total = sum(_has_result(run, task_id) for run in runs for task_id in release.task_ids())
    left = sum(len(results) for results in pending.values())
    with progress("score", total=total, done=total - left) as advance:
        for count in _in_parallel(release.tasks(frozenset(pending)), pending, scorer, workers):
            advance(count)


def _has_result(run: ScoredRun, task_id: str) -> bool:
    return bool(run.note(task_id)["status"] == "ok")


def _pending(run: ScoredRun, task_id: str, stamp: str) -> _Pending | None:
    file = run.score_file(task_id)
    if not _has_result(run, task_id):
        file.unlink(missing_ok=True)
        return None
    digest = sha256(run.picture(task_id))
    note = run.note(task_id)
    parts = {"stamp": stamp, "result": digest, "noted": note.get("sha256")}
    if probed := note.get("probe"):
        parts |= {"probe": probed, "trace": sha256(run.trace(task_id))}
    key = sha256(canonical_json(parts))
    if file.is_file() and _key(file) == key:
        return None
    return _Pending(run, task_id, key, digest)


def _key(file: Path) -> object:
    try:
        content = read_json(file)
    except BadInput:  # somebody else's bytes: score it anew
        return None
    return content.get("key") if isinstance(content, dict) else None


def _in_parallel(
    tasks: Iterator[Task], pending: dict[str, list[_Pending]], scorer: Scorer, workers: int
) -> Iterator[int]:
    """Score tasks, at most two a worker in memory; yield the number of results done."""
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future[int]] = set()
        try:
            for task in tasks:
                running.add(pool.submit(_score_task, task, pending[task.task_id], scorer))
                while len(running) >= 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            for future in running:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _score_task(task: Task, results: list[_Pending], scorer: Scorer) -> int:
    read = [(result, result.read()) for result in results]
    whole = [(result, picture) for result, picture in read if not isinstance(picture, str)]
    attention = [result.attention() for result, _ in whole]
    scores = scorer.score(task, [picture for _, picture in whole], attention)
    for (result, _), found in zip(whole, scores, strict=True):
        result.keep(found)
    for result, reason in read:
        if isinstance(reason, str):
            result.keep(scorer.no_scores(reason))
    return len(results)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MOST_WORKERS)
    return min(os.cpu_count() or 1, MOST_WORKERS)


def _record(run: ScoredRun, release: Release, scorer: Scorer) -> dict[str, Any]:
    header = run.header["release"]
    return {
        "schema": SCHEMA,
        "eraser": run.header["eraser"],
        "spec": run.header["spec"],
        "release": {
            **{name: header[name] for name in ("name", "version", "hash")},
            "tasks": len(release.task_ids()),
        },
        "protocol": scorer.protocol.as_json(),
        "metrics": [card.as_json() for card in scorer.cards],
        "weights": scorer.weights,
        "environment": environment("lpips", "open-clip-torch"),
        "seed": run.header["seed"],
        "probe": run.header.get("probe"),
        "tasks": [_task_record(run, row) for row in release.manifest["tasks"]],
    }


def _task_record(run: ScoredRun, row: dict[str, Any]) -> dict[str, Any]:
    task_id = str(row["task_id"])
    note = run.note(task_id)
    done = note["status"] == "ok"
    content = read_json(run.score_file(task_id)) if done else {"scores": {}, "reasons": {}}
    return {
        "task_id": task_id,
        "scene_id": row["scene_id"],
        "kind": row["kind"],
        "status": note["status"],
        "reason": note.get("reason"),
        "strata": {name: value for name, value in row.items() if name not in NOT_STRATA},
        **run.measured(task_id),
        "scores": content["scores"],
        "reasons": content["reasons"],
    }
