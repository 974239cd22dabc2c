"""Run an eraser over a release: resumable, one failing task does not stop it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from mild_bench.erasure import Eraser, Erasure
from mild_bench.errors import BadInput, explain
from mild_bench.images import check_mask
from mild_bench.plugins import load_eraser
from mild_bench.progress import progress
from mild_bench.release import Release
from mild_bench.run.attention import Watch, check_probe
from mild_bench.run.environment import environment
from mild_bench.run.peak import Cost, measured
from mild_bench.run.run_folder import RunFolder, release_path
from mild_bench.task import Task, task_seed


@dataclass(frozen=True)
class RunSummary:
    """How a run ended.

    Attributes:
        erased: tasks done now.
        kept: tasks that an earlier run of the same command had done.
        failed: the reason by task id.
        unread: why a task done now has no trace or no picture of it, by task id; only with a
            probe.
    """

    out: Path
    erased: int
    kept: int
    failed: dict[str, str]
    unread: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Outcome:
    task_id: str
    answer: Erasure | str  # a string: why there is none
    cost: Cost


def erase_release(
    release: Path,
    spec: str,
    out: Path,
    *,
    seed: int = 0,
    limit: int | None = None,
    probe: str | None = None,
) -> RunSummary:
    """Erase every task of a release into the run folder ``out``.

    Tasks that are done there are kept, failed ones are tried again, so that the same command
    goes on after a kill and ends with the same bytes (``measured/`` apart). ``limit`` takes the
    first tasks only. Erasers see no truth unless their card says ``needs_truth``. ``probe``
    ``"cag"`` reads the attention of erasers that have any into ``traces/``; pictures stay the same.

    Raises:
        BadInput: no such release, eraser or probe, a changed release, or ``out`` holds something
            else.
        MissingPart: the eraser lacks a part on this machine.
    """
    if limit is not None and limit < 1:
        raise BadInput(f"limit must be at least 1, got {limit}")
    check_probe(probe)
    opened = Release.open(release)
    eraser = load_eraser(spec)
    changed = opened.changed_files()
    if changed:
        raise BadInput(
            f"{release}: changed since it was frozen ({', '.join(changed[:3])}); fetch it again"
        )
    folder = RunFolder.claim(out, _header(opened, eraser, spec, out, seed, probe))
    wanted = opened.task_ids()[:limit]
    pending = frozenset(name for name in wanted if not folder.is_done(name))
    kept = len(wanted) - len(pending)
    watch = Watch(eraser, probe) if probe else None
    failed, unread = _erase_pending(opened, eraser, folder, pending, watch, seed=seed, kept=kept)
    return RunSummary(out, len(pending) - len(failed), kept, failed, unread)


def _erase_pending(
    release: Release,
    eraser: Eraser,
    folder: RunFolder,
    pending: frozenset[str],
    watch: Watch | None,
    *,
    seed: int,
    kept: int,
) -> tuple[dict[str, str], dict[str, str]]:
    failed: dict[str, str] = {}
    unread: dict[str, str] = {}
    _use_all_cores()
    with progress(f"erase {eraser.card.name}", total=kept + len(pending), done=kept) as advance:
        for batch in _batches(release.tasks(pending), eraser.card.batch):
            for outcome in _erase_batch(eraser, batch, seed, watch):
                name = outcome.task_id
                probed = watch.take(name) if watch else None
                if isinstance(outcome.answer, str):
                    failed[name] = outcome.answer
                    folder.fail(name, outcome.answer, seed=task_seed(seed, name))
                else:
                    own_seed = task_seed(seed, name)
                    folder.keep(outcome.answer, outcome.cost, seed=own_seed, probed=probed)
                    if probed is not None and probed.reason:
                        unread[name] = probed.reason
                advance(1)
    return failed, unread


def _header(
    release: Release, eraser: Eraser, spec: str, out: Path, seed: int, probe: str | None
) -> dict[str, object]:
    return {
        "schema": 1,
        "eraser": eraser.card.as_json(),
        "spec": spec,
        "release": {
            "name": release.manifest["name"],
            "version": release.manifest["version"],
            "hash": release.hash,
            "folder": release_path(out, release.folder),
        },
        "seed": seed,
        "probe": probe,
        "environment": environment("pypatchmatch"),
    }


def _batches(tasks: Iterator[Task], size: int) -> Iterator[list[Task]]:
    batch: list[Task] = []
    for task in tasks:
        batch.append(task)
        if len(batch) >= size:
            yield batch
            batch = []
    if batch:
        yield batch


def _erase_batch(
    eraser: Eraser, tasks: Sequence[Task], seed: int, watch: Watch | None
) -> list[_Outcome]:
    """Erase a batch at once; where that fails, one by one, so that only the culprit fails.

    A task that fails under a probe is erased again without: the probe may be to blame.
    """
    cost = Cost()
    try:
        shown = [_without_answer(task, eraser) for task in tasks]
        with watch.attached() if watch else nullcontext(), measured() as cost:
            answers = list(eraser(shown, seed=seed))
        _check_ids(answers, tasks)
    except Exception as error:  # whatever a stranger's code raises is that task's reason
        if len(tasks) > 1:
            return [
                outcome for task in tasks for outcome in _erase_batch(eraser, [task], seed, watch)
            ]
        if watch and watch.eraser:
            watch.give_up(tasks[0].task_id, explain(error))
            return _erase_batch(eraser, tasks, seed, None)
        return [_Outcome(tasks[0].task_id, explain(error), cost)]
    share = replace(cost, seconds=cost.seconds / len(tasks))
    return [
        _Outcome(task.task_id, problem(answer, task) or answer, share)
        for task, answer in zip(tasks, answers, strict=True)
    ]


def _without_answer(task: Task, eraser: Eraser) -> Task:
    check_mask(task.mask, task.input.shape[:2], name="the task's mask")
    return task if eraser.card.needs_truth else replace(task, truth=None)


def _check_ids(answers: Sequence[Erasure], tasks: Sequence[Task]) -> None:
    got, want = [a.task_id for a in answers], [task.task_id for task in tasks]
    if got != want:
        raise BadInput(f"expected one answer a task, in order ({want}), got {got}")


def problem(answer: Erasure, task: Task) -> str | None:
    """Return why an answer cannot be kept, or None."""
    result, size = answer.result, task.input.shape
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8:
        return f"expected a uint8 array, got {getattr(result, 'dtype', type(result).__name__)}"
    if result.shape != size:
        return (
            f"expected a result of the input's size {size[1]} x {size[0]} x 3, "
            f"got {' x '.join(str(side) for side in (*result.shape[1::-1], *result.shape[2:]))}"
        )
    for person, layer in answer.layers.items():
        if person not in task.person_ids:
            return f"expected layers of {', '.join(task.person_ids)}, got one of {person!r}"
        if layer.shape != (*size[:2], 4) or layer.dtype != np.uint8:
            return f"layer {person}: expected uint8 height x width x 4, got {layer.shape}"
    return None


def _use_all_cores() -> None:
    """Let torch, where the eraser uses it, have the cores this process may run on.

    torch counts the machine's cores, also those a container or ``taskset`` keeps from it.
    """
    if "torch" in sys.modules and hasattr(os, "sched_getaffinity"):
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
