"""Records of erasers whose attention was read, for the tests of boards."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import numpy as np
from board_samples import PRIMARY, Json, sample_record

from mild_bench.images import encode_png
from mild_bench.score import MetricCard
from mild_bench.store import canonical_json, read_json, sha256, write_bytes, write_json

CAG = MetricCard(
    "cag", "CAG", "1", "higher", -math.inf, math.inf, "nats", ("hole",), ("attention",), "", "gap"
)
LEAKAGE = MetricCard(
    "leakage", "Leakage", "1", "lower", 0, 1, "share", ("hole",), ("attention",), "", "on people"
)
RESIDUE = MetricCard(
    "residue", "Residue", "1", "lower", 0, 1, "", ("hole",), ("truth",), "", "what is left"
)
NO_ATTENTION = "this eraser has no attention to read"
CARDS = (CAG, LEAKAGE, RESIDUE)


def attentive(
    values: Json, *, strength: float = 1.0, level: float = 0.0, seed: int = 0, noise: float = 0.05
) -> Json:
    """Give every task a CAG of ``level - strength * (its error)`` and some noise."""
    changed = _with_cards(values)
    rng = np.random.default_rng([seed, *values["spec"].encode()])
    for task in changed["tasks"]:
        error = task["scores"][PRIMARY]
        cag = level - strength * error + noise * rng.normal()
        leakage = 1 / (1 + 3 * math.exp(cag))
        for mode in ("raw", "composited"):
            task["scores"][f"cag/hole/{mode}"] = cag
            task["scores"][f"leakage/hole/{mode}"] = leakage
            task["scores"][f"residue/hole/{mode}"] = error / 2
    return changed


def without_attention(values: Json, reason: str = NO_ATTENTION) -> Json:
    """Give every task a null of each attention metric."""
    changed = _with_cards(values)
    for task in changed["tasks"]:
        for metric in ("cag", "leakage"):
            for mode in ("raw", "composited"):
                task["scores"][f"{metric}/hole/{mode}"] = None
                task["reasons"][f"{metric}/hole/{mode}"] = reason
        task["scores"]["residue/hole/composited"] = task["scores"][PRIMARY] / 2
    return changed


def five_erasers(*, scenes: int = 12, strength: float = 2.0, bootstrap: int = 300) -> list[Json]:
    """Controls, one eraser without attention, and three with."""

    def drawn(name: str, quality: float, control: str | None = None) -> Json:
        return sample_record(
            name, quality=quality, control=control, scenes=scenes, bootstrap=bootstrap
        )

    seen = {"sd": 0.8, "sdxl": 0.6, "flux": 0.4}
    return [
        without_attention(drawn("truth", 1, "first")),
        without_attention(drawn("copy-input", 0, "last")),
        without_attention(drawn("telea", 0.3)),
        *(attentive(drawn(name, q), strength=strength) for name, q in seen.items()),
    ]


def add_traces(run: Path, *, seed: int) -> dict[str, float]:
    """Give a run attention scores and a picture of a trace for each task; return its leakage."""
    record = attentive(read_json(run / "record-mild.json"), seed=seed)
    write_json(run / "record-mild.json", record)
    for number, task in enumerate(record["tasks"]):
        picture = np.full((60, 150, 3), 20 * number + 5, dtype=np.uint8)
        data = encode_png(picture)
        write_bytes(run / "traces" / f"{task['task_id']}.png", data)
        note = run / "tasks" / f"{task['task_id']}.json"
        probe = {"name": "cag", "sha256": None, "picture": sha256(data), "reason": None}
        write_json(note, {**read_json(note), "probe": probe})
    return {t["task_id"]: t["scores"]["leakage/hole/composited"] for t in record["tasks"]}


def _with_cards(values: Json) -> Json:
    changed = copy.deepcopy(values)
    changed["metrics"] += json.loads(canonical_json([card.as_json() for card in CARDS]))
    return changed
