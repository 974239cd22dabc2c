"""A result that has no valid scores yet: what its scores depend on, reading it, keeping them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Rgb, decode_png
from mild_bench.metrics.asked import Beside
from mild_bench.run.attention import read_attention
from mild_bench.run.layers import read_layers
from mild_bench.run.scored_run import ScoredRun
from mild_bench.score import Score
from mild_bench.store import canonical_json, number_or_none, read_json, sha256, write_json

DECIMALS = 6


@dataclass(frozen=True)
class Pending:
    """One result that has no valid scores yet."""

    run: ScoredRun
    task_id: str
    key: str

    @classmethod
    def of(cls, run: ScoredRun, task_id: str, stamp: str) -> Pending | None:
        """Return a task's result that is to be scored; None without one, or with valid scores.

        ``stamp`` changes with the release and everything that could change a number.
        """
        file = run.score_file(task_id)
        if not run.has_result(task_id):
            file.unlink(missing_ok=True)
            return None
        key = sha256(canonical_json({"stamp": stamp, **_parts(run, task_id)}))
        return None if file.is_file() and _key(file) == key else cls(run, task_id, key)

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

    def beside(self) -> Beside:
        """Return what the run kept beside the picture, each or the reason why there is none."""
        note = self.run.note(self.task_id)
        return Beside(
            read_attention(self.run.header, note, self.run.trace(self.task_id)),
            read_layers(note, self.run.layers(self.task_id)),
        )

    def keep(self, scores: Sequence[Score]) -> None:
        """Write the scores."""
        values = {score.key: number_or_none(round(score.value, DECIMALS)) for score in scores}
        reasons = {score.key: score.reason for score in scores if score.reason is not None}
        content = {"task_id": self.task_id, "key": self.key, "scores": values, "reasons": reasons}
        write_json(self.run.score_file(self.task_id), content)


def _parts(run: ScoredRun, task_id: str) -> dict[str, Any]:
    """Return what of the run decides over the task's scores: files, and what is noted of them."""
    note = run.note(task_id)
    parts = {"result": sha256(run.picture(task_id)), "noted": note.get("sha256")}
    if probed := note.get("probe"):
        parts |= {"probe": probed, "trace": sha256(run.trace(task_id))}
    layers = {person: sha256(data) for person, data in run.layers(task_id).items()}
    if layers or note.get("layers"):
        parts |= {"layers": layers, "noted_layers": note.get("layers")}
    return parts


def _key(file: Path) -> object:
    try:
        content = read_json(file)
    except BadInput:  # somebody else's bytes: score it anew
        return None
    return content.get("key") if isinstance(content, dict) else None
