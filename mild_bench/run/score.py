"""Score runs of one release: together, resumable, one record per run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mild_bench.errors import BadInput
from mild_bench.progress import progress
from mild_bench.protocol import Protocol, find_protocol
from mild_bench.release import Release
from mild_bench.run.pending import Pending
from mild_bench.run.score_record import record_of
from mild_bench.run.scored_run import ScoredRun
from mild_bench.store import canonical_json, sha256, sweep_parts, write_json
from mild_bench.task import Task

if TYPE_CHECKING:
    from mild_bench.metrics.scorer import Scorer

MOST_WORKERS = 8


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

    Tasks whose picture, trace, layers, protocol, metrics and weights are as they were are kept, so
    that the same command goes on after a kill and ends with the same bytes. Runs that are scored
    together share the work on each task's truth; the numbers do not depend on what else is scored.

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
        write_json(run.record, record_of(run, data, scorer))
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


def _score_pending(
    runs: Sequence[ScoredRun], release: Release, scorer: Scorer, stamp: str, workers: int
) -> None:
    pending: dict[str, list[Pending]] = {}
    for run in runs:
        sweep_parts(run.path)
        sweep_parts(run.scores)
        for task_id in release.task_ids():
            if (result := Pending.of(run, task_id, stamp)) is not None:
                pending.setdefault(task_id, []).append(result)
    total = sum(run.has_result(task_id) for run in runs for task_id in release.task_ids())
    left = sum(len(results) for results in pending.values())
    with progress("score", total=total, done=total - left) as advance:
        for count in _in_parallel(release, pending, scorer, workers):
            advance(count)


def _in_parallel(
    release: Release, pending: dict[str, list[Pending]], scorer: Scorer, workers: int
) -> Iterator[int]:
    """Score tasks, at most two a worker in memory; yield the number of results done."""
    with ThreadPoolExecutor(workers) as pool:
        running: set[Future[int]] = set()
        try:
            for task in release.tasks(frozenset(pending)):
                results = pending[task.task_id]
                running.add(pool.submit(_score_task, release, task, results, scorer))
                while len(running) >= 2 * workers:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            for future in running:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _score_task(release: Release, task: Task, results: list[Pending], scorer: Scorer) -> int:
    read = [(result, result.read()) for result in results]
    whole = [(result, picture) for result, picture in read if not isinstance(picture, str)]
    beside = [result.beside() for result, _ in whole]
    layered = any(not isinstance(one.layers, str) for one in beside)
    people = release.people_of(task.scene_id) if layered else None
    scores = scorer.score(task, [picture for _, picture in whole], beside, people=people)
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
