"""What a run folder holds to be scored, and where its scores go."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mild_bench.errors import BadInput
from mild_bench.run.run_folder import RUN
from mild_bench.store import inside, read_json


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

    def layers(self, task_id: str) -> dict[str, bytes]:
        """The bytes of the layers by person, empty when there are none."""
        folder = inside(self.path / "layers", task_id)
        return {path.stem: path.read_bytes() for path in sorted(folder.glob("[!.]*.png"))}

    def has_result(self, task_id: str) -> bool:
        """Whether the task ended well."""
        return bool(self.note(task_id)["status"] == "ok")

    def measured(self, task_id: str) -> dict[str, Any]:
        """Seconds and peak memory, None where they were not measured; the GPU's where one was."""
        path = inside(self.path / "measured", f"{task_id}.json")
        found = read_json(path) if path.is_file() else {}
        gpu = {name: found[name] for name in ("gpu_peak_mb",) if name in found}
        return {"seconds": found.get("seconds"), "peak_mb": found.get("peak_mb"), **gpu}
