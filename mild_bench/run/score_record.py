"""The record of a scored run: what boards are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mild_bench.release import Release
from mild_bench.run.environment import environment
from mild_bench.run.scored_run import ScoredRun
from mild_bench.store import read_json

if TYPE_CHECKING:
    from mild_bench.metrics.scorer import Scorer

SCHEMA = 1
NOT_STRATA = ("task_id", "scene_id", "kind")


def record_of(run: ScoredRun, release: Release, scorer: Scorer) -> dict[str, Any]:
    """Return what a scored run says of its eraser, as plain JSON values."""
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
    done = run.has_result(task_id)
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
