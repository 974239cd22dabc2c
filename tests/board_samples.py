"""Records and runs for the tests of boards, drawn from a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from make_release import make_release

from mild_bench.erasure import EraserCard
from mild_bench.images import Rgb, encode_png
from mild_bench.leaderboards.record import Record, parse_record
from mild_bench.protocol import PROTOCOLS
from mild_bench.release import Release
from mild_bench.score import MetricCard
from mild_bench.store import canonical_json, read_json, sha256, write_bytes, write_json
from mild_bench.task import Task

ERROR = MetricCard(
    "error", "Error", "1", "lower", 0, 1, "", ("hole", "outside"), ("truth",), "", "mean error"
)
LIKENESS = MetricCard(
    "likeness", "Likeness", "1", "higher", 0, 1, "", ("hole",), ("truth",), "", "1 - error"
)
PRIMARY = "error/hole/composited"
BINS = ("none", "light", "moderate", "heavy")

Json = dict[str, Any]


def sample_record(
    name: str,
    *,
    quality: float = 0.5,
    scenes: int = 12,
    per_scene: int = 3,
    control: str | None = None,
    seed: int = 0,
    bootstrap: int = 500,
) -> Json:
    """Draw a record; ``quality`` in [0, 1], 1 is the answer. Scenes differ in difficulty."""
    rng = np.random.default_rng([seed, *name.encode()])
    hardness = np.random.default_rng(seed).uniform(0.5, 1.5, scenes)
    tasks = []
    for scene in range(scenes):
        for number in range(per_scene):
            noise = rng.uniform(0.9, 1.1)
            error = float((1 - quality) * 0.4 * hardness[scene] * noise)
            tasks.append(_task(scene, number, error))
    protocol = {**PROTOCOLS["mild"].as_json(), "primary": PRIMARY, "bootstrap": bootstrap}
    record = {
        "schema": 1,
        "eraser": EraserCard(name, "1", "Apache-2.0", control=control).as_json(),
        "spec": name,
        "release": {"name": "toy", "version": "1.0", "hash": "ab" * 32, "tasks": len(tasks)},
        "protocol": protocol,
        "metrics": [ERROR.as_json(), LIKENESS.as_json()],
        "weights": {},
        "environment": {"python": "3.11"},
        "seed": 0,
        "tasks": tasks,
    }
    read_back: Json = json.loads(canonical_json(record))
    return read_back


def _task(scene: int, number: int, error: float) -> Json:
    return {
        "task_id": f"scene-{scene:03d}-{number}",
        "scene_id": f"scene-{scene:03d}",
        "kind": ("all", "occluder", "occluded")[number % 3],
        "status": "ok",
        "reason": None,
        "strata": {
            "people": 2 + scene % 4,
            "erased": 1,
            "occlusion": 0.2 * (scene % 4),
            "occlusion_bin": BINS[scene % 4],
            "human_human": scene % 2 == 0,
            "human_object": scene % 3 == 0,
            "human_background": False,
            "mask_area": 0.04 + 0.1 * number,
            "mask_source": "exact",
            "truth_kind": "exact",
            "group": f"place-{scene // 2}",
        },
        "seconds": 0.1 * (2 + scene % 4),
        "peak_mb": 50.0,
        "scores": {
            PRIMARY: error,
            "error/outside/raw": error / 10,
            "likeness/hole/composited": 1 - error,
        },
        "reasons": {},
    }


def parsed(*values: Json) -> list[Record]:
    return [parse_record(one, name=one["spec"]) for one in values]


def without_task(values: Json, task_id: str, *, how: str) -> Json:
    """Take a task's scores away: ``failed``, ``missing``, ``null`` or ``gone``."""
    changed = copy.deepcopy(values)
    [task] = [task for task in changed["tasks"] if task["task_id"] == task_id]
    if how == "gone":
        changed["tasks"].remove(task)
    elif how in ("failed", "missing"):
        task.update(status=how, reason="ran out of memory", scores={}, reasons={})
    else:
        task["scores"][PRIMARY] = None
        task["reasons"][PRIMARY] = "no truth"
    return changed


def shuffled(values: Json, seed: int) -> Json:
    """Put the tasks in another order."""
    order = np.random.default_rng(seed).permutation(len(values["tasks"]))
    return {**values, "tasks": [values["tasks"][place] for place in order]}


def sample_runs(folder: Path, names: Sequence[str], *, tasks: int = 12) -> list[Path]:
    """Freeze a small release and run simple erasers on it; their errors are measured.

    ``truth`` answers, ``copy-input`` does nothing, any other name is a mixture with its own share
    of the truth.
    """
    release = Release.open(make_release(folder / "release", tasks=tasks, size=(96, 96)))
    return [_sample_run(folder, release, name, place) for place, name in enumerate(names)]


def _sample_run(folder: Path, release: Release, name: str, place: int) -> Path:
    run = folder / f"run-{place}"
    control = {"truth": "first", "copy-input": "last"}.get(name)
    values = sample_record(name, control=control, scenes=1, per_scene=1)
    template, lines = values["tasks"][0], []
    for task in release.tasks():
        result = _erase(task, name, place)
        data = encode_png(result)
        note = {"task_id": task.task_id, "status": "ok", "reason": None, "seed": 0}
        write_bytes(run / "results" / f"{task.task_id}.png", data)
        write_json(run / "tasks" / f"{task.task_id}.json", {**note, "sha256": sha256(data)})
        assert task.truth is not None and task.strata is not None
        gap = np.abs(result[task.mask].astype(float) - task.truth[task.mask]).mean() / 255
        line = {"task_id": task.task_id, "scene_id": task.scene_id, "kind": task.kind}
        scores = {PRIMARY: float(gap), "likeness/hole/composited": 1 - float(gap)}
        lines.append({**template, **line, "strata": vars(task.strata), "scores": scores})
    about = {"name": "toy", "version": "1.0", "hash": release.hash}
    header = {"release": {**about, "folder": "../release"}}
    write_json(run / "run.json", {"schema": 1, "spec": name, "seed": 0, **header})
    values.update(release={**about, "tasks": len(lines)}, tasks=lines)
    write_json(run / "record-mild.json", values)
    return run


def add_layers(run: Path) -> None:
    """Give a run a layer for each person who is erased: the box around what shows of them."""
    for task in Release.open(run.parent / "release").tasks():
        digests = {}
        for number, name in enumerate(task.person_ids, start=1):
            visible = task.people == number
            if name not in task.erase or not visible.any():
                continue
            layer = np.zeros((*visible.shape, 4), np.uint8)
            rows, columns = np.nonzero(visible)
            box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            layer[box] = 255
            layer[..., :3] = np.where(visible[..., None], task.input, (200, 30, 30))
            layer[..., :3] *= layer[..., 3:] > 0
            path = run / "layers" / task.task_id / f"{name}.png"
            write_bytes(path, encode_png(layer))
            digests[name] = sha256(encode_png(layer))
        note = run / "tasks" / f"{task.task_id}.json"
        write_json(note, {**read_json(note), "layers": digests})


def _erase(task: Task, name: str, place: int) -> Rgb:
    assert task.truth is not None
    share = {"truth": 1.0, "copy-input": 0.0}.get(name, 0.8 - 0.1 * place)
    mixed = task.truth * share + task.input * (1 - share)
    return np.asarray(np.round(mixed).astype(np.uint8))
