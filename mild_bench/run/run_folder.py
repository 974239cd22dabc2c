"""A run folder: what one eraser gave back for the tasks of one release.

``run.json`` says who, on what, with which seed; ``results/<task_id>.png`` are the raw results;
``tasks/<task_id>.json`` says how each task ended and is written last; ``measured/<task_id>.json``
holds seconds and peak memory, the only part that differs between two equal runs;
``layers/<task_id>/<person_id>.png`` are there for erasers that make layers, and in the task's note;
``traces/<task_id>.npz`` and ``.png`` hold what a probe read (``erase --probe``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.erasure import Erasure
from mild_bench.errors import BadInput
from mild_bench.images import encode_png
from mild_bench.run.peak import Cost
from mild_bench.store import (
    canonical_json,
    inside,
    number_or_none,
    read_json,
    sha256,
    sha256_file,
    sweep_parts,
    write_bytes,
    write_json,
)

RUN = "run.json"
FOLDERS = ("results", "tasks", "measured", "layers", "traces")


@dataclass(frozen=True)
class Probed:
    """What a probe brought for one task.

    Attributes:
        name: of the probe.
        trace: the file's content; None when there is none.
        picture: a PNG of the trace; None when there is none.
        reason: why one of them is None.
    """

    name: str
    trace: bytes | None = None
    picture: bytes | None = None
    reason: str | None = None

    def as_note(self) -> dict[str, str | None]:
        """Return what the note of a task says of it."""
        return {
            "name": self.name,
            "sha256": None if self.trace is None else sha256(self.trace),
            "picture": None if self.picture is None else sha256(self.picture),
            "reason": self.reason,
        }


@dataclass(frozen=True)
class RunFolder:
    """A run folder that belongs to one eraser, release, seed and probe (or none)."""

    path: Path

    @classmethod
    def claim(cls, path: Path, header: Mapping[str, Any]) -> RunFolder:
        """Open ``path`` for the run that ``header`` describes; a new folder is made.

        Raises:
            BadInput: the folder holds something else, or another eraser's, release's or seed's run.
        """
        _refuse_odd_names(header)
        _refuse_foreign(path, header)
        for folder in (path, *(path / name for name in FOLDERS)):
            sweep_parts(folder)
        if not (path / RUN).exists():
            write_json(path / RUN, header)
        return cls(path)

    def is_done(self, task_id: str) -> bool:
        """Whether a task has ended well and its picture, trace and layers are those it ended with.

        Raises:
            BadInput: its note is not one that this program writes.
        """
        note = inside(self.path / "tasks", f"{task_id}.json")
        picture = self._picture(task_id)
        if not note.is_file() or not picture.is_file():
            return False
        values: object = read_json(note)
        if not isinstance(values, dict):
            raise BadInput(f"{note}: expected the note of a task, got {values!r}; remove it")
        if values.get("status") != "ok" or values.get("sha256") != sha256_file(picture):
            return False
        noted = values.get("probe", {})
        if self._layer_digests(task_id) != values.get("layers", {}):
            return False
        return isinstance(noted, dict) and self._has_trace(task_id, noted)

    def keep(
        self, erasure: Erasure, cost: Cost, *, seed: int, probed: Probed | None = None
    ) -> None:
        """Store a good result and what a probe read; the note that says so comes last."""
        name = erasure.task_id
        self._forget(name)
        data = encode_png(erasure.result)
        write_bytes(self._picture(name), data)
        layers = {person: encode_png(layer) for person, layer in erasure.layers.items()}
        for person, content in layers.items():
            write_bytes(inside(self.path / "layers", f"{name}/{person}.png"), content)
        if probed is not None:
            for path, kept in zip(self._traces(name), (probed.trace, probed.picture), strict=True):
                if kept is not None:
                    write_bytes(path, kept)
        spent = {
            "seconds": number_or_none(round(cost.seconds, 6)),
            "peak_mb": number_or_none(round(cost.peak_mb, 3)),
        }
        if cost.gpu_peak_mb is not None:
            spent["gpu_peak_mb"] = round(cost.gpu_peak_mb, 3)
        write_json(inside(self.path / "measured", f"{name}.json"), spent)
        self._note(
            name,
            status="ok",
            reason=None,
            digest=sha256(data),
            seed=seed,
            probed=probed,
            layers={person: sha256(content) for person, content in layers.items()},
        )

    def fail(self, task_id: str, reason: str, *, seed: int) -> None:
        """Record that a task has no result, and why."""
        self._forget(task_id)
        self._note(task_id, status="failed", reason=reason, digest=None, seed=seed)

    def _picture(self, task_id: str) -> Path:
        return inside(self.path / "results", f"{task_id}.png")

    def _traces(self, task_id: str) -> tuple[Path, Path]:
        folder = self.path / "traces"
        return inside(folder, f"{task_id}.npz"), inside(folder, f"{task_id}.png")

    def _has_trace(self, task_id: str, noted: Mapping[str, Any]) -> bool:
        wanted = noted.get("sha256"), noted.get("picture")
        return all(
            digest is None or (path.is_file() and sha256_file(path) == digest)
            for path, digest in zip(self._traces(task_id), wanted, strict=True)
        )

    def _layer_digests(self, task_id: str) -> dict[str, str]:
        """Return the SHA-256 of each layer by person."""
        files = inside(self.path / "layers", task_id).glob("[!.]*.png")
        return {path.stem: sha256_file(path) for path in files}

    def _forget(self, task_id: str) -> None:
        inside(self.path / "tasks", f"{task_id}.json").unlink(missing_ok=True)
        self._picture(task_id).unlink(missing_ok=True)
        inside(self.path / "measured", f"{task_id}.json").unlink(missing_ok=True)
        shutil.rmtree(inside(self.path / "layers", task_id), ignore_errors=True)
        for path in self._traces(task_id):
            path.unlink(missing_ok=True)

    def _note(
        self,
        task_id: str,
        *,
        status: str,
        reason: str | None,
        digest: str | None,
        seed: int,
        probed: Probed | None = None,
        layers: Mapping[str, str] | None = None,
    ) -> None:
        note: dict[str, Any] = {
            "task_id": task_id,
            "status": status,
            "reason": reason,
            "sha256": digest,
            "seed": seed,
        }
        if probed is not None:
            note["probe"] = probed.as_note()
        if layers:
            note["layers"] = dict(layers)
        write_json(inside(self.path / "tasks", f"{task_id}.json"), note)


def release_path(run: Path, release: Path) -> str:
    """Return how ``run`` names its release: a relative path with forward slashes."""
    return Path(os.path.relpath(release.resolve(), run.resolve())).as_posix()


def _refuse_odd_names(header: Mapping[str, Any]) -> None:
    try:
        canonical_json(header)
    except UnicodeEncodeError as error:
        near = error.object[max(error.start - 20, 0) : error.end + 20]
        raise BadInput(
            f"{near!r}: a run notes the names of "
            "its release and pictures, and this one is not UTF-8; rename that file or folder"
        ) from error


def _refuse_foreign(path: Path, header: Mapping[str, Any]) -> None:
    if path.exists() and not path.is_dir():
        raise BadInput(f"{path}: expected a folder for the run, got a file; name another --out")
    if not (path / RUN).exists():
        if path.is_dir() and any(not item.name.endswith(".part") for item in path.iterdir()):
            raise BadInput(
                f"{path}: expected an empty folder or an earlier run, got a folder with other "
                "files in it; name another --out"
            )
        return
    old, new = _identity(read_json(path / RUN)), _identity(header)
    differing = [
        f"{key} {old[key]} there, {new[key]} asked for" for key in new if old[key] != new[key]
    ]
    if differing:
        raise BadInput(f"{path}: holds another run ({'; '.join(differing)}); name another --out")


def _identity(header: Mapping[str, Any]) -> dict[str, str]:
    try:
        eraser, release = header["eraser"], header["release"]
        return {
            "eraser": f"{eraser['name']} {eraser['version']} ({eraser['settings_hash']})",
            "release": f"{release['name']} {release['version']} ({release['hash'][:12]})",
            "seed": str(header["seed"]),
            "probe": str(header.get("probe") or "none"),
        }
    except (KeyError, TypeError) as error:
        raise BadInput(f"{RUN}: expected a run, got no {error}; name another --out") from error
