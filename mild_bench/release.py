"""Read a frozen release: a folder of parquet files with a manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Rgba, decode_mask_array, decode_png
from mild_bench.morphology import Morphologies, Morphology
from mild_bench.scene_table import SceneTable
from mild_bench.store import inside, read_json, sha256_file
from mild_bench.task import Strata, Task

MANIFEST = "manifest.json"
TASKS, SCENES = "tasks", "scenes"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
STRATA_COLUMNS = tuple(Strata.__dataclass_fields__)
PICTURES = ("input", "mask", "truth", "people_map")
TASK_COLUMNS = {"task_id", "scene_id", "kind", "erase", "person_ids", *PICTURES, *STRATA_COLUMNS}


@dataclass(frozen=True)
class Release:
    """A frozen data set.

    Layout: ``manifest.json`` (``name``, ``version``, ``files`` {path: sha256}, ``recipe``,
    ``tasks`` [{task_id, scene_id, kind, ...strata}] in order), ``data/tasks-<split>.parquet`` and
    ``data/scenes-<split>.parquet``, ``README.md``, ``croissant.json``.
    """

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Release:
        """Open a release folder; reads the manifest only.

        Raises:
            BadInput: not a release, or a file is missing or leads out of the folder.
        """
        if not (folder / MANIFEST).is_file():
            raise BadInput(
                f"{folder}: expected a release folder with {MANIFEST}, got none; "
                "make one with 'mild-bench curate release'"
            )
        manifest = read_json(inside(folder, MANIFEST))
        _check_manifest(folder / MANIFEST, manifest)
        for name in manifest["files"]:
            if not inside(folder, name).is_file():
                raise BadInput(f"{folder}: the manifest names {name!r}, but it is not there")
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """Name and version, such as ``mild-mini 1.0``."""
        return f"{self.manifest['name']} {self.manifest['version']}"

    @cached_property
    def hash(self) -> str:
        """SHA-256 over the manifest's file hashes: two equal releases share it."""
        from mild_bench.store import canonical_json, sha256

        return sha256(canonical_json(self.manifest["files"]))

    def changed_files(self) -> list[str]:
        """Return the files whose content is not what the manifest says; reads everything."""
        files: dict[str, str] = self.manifest["files"]
        return [name for name, want in files.items() if sha256_file(self.folder / name) != want]

    def faults(self) -> list[str]:
        """Return what is not as the manifest says, in words; reads everything, decodes no picture.

        Raises:
            BadInput: a ``tasks`` file that is damaged although its hash is right.
        """
        faults = [f"{name} is not what was frozen" for name in self.changed_files()]
        if not faults and [row["task_id"] for _, row in self._task_rows()] != self.task_ids():
            faults = [f"{MANIFEST} lists other tasks than the parquet files hold"]
        return faults

    def task_ids(self) -> list[str]:
        """Return the ids of all tasks, in order."""
        return [str(task["task_id"]) for task in self.manifest["tasks"]]

    def tasks(self, only: frozenset[str] | None = None) -> Iterator[Task]:
        """Yield the tasks in order, one in memory at a time; ``only`` keeps the named ones.

        Raises:
            BadInput: a file is damaged, or lacks columns or values.
        """
        for path, row in self._task_rows(only):
            yield replace(_task(path, row), **self._known_of(path, row["scene_id"]))

    def _known_of(self, path: Path, scene_id: str) -> dict[str, Any]:
        """Return what the scenes beside a ``tasks`` file say of a scene's people."""
        if path not in self._known:
            beside = self._scenes.get(f"data/{path.name.replace(TASKS, SCENES, 1)}")
            self._known[path] = None if beside is None else Morphologies(beside)
        scenes = self._known[path]
        found = Morphology() if scenes is None else scenes.of(scene_id)
        return {"keypoints": found.keypoints, "parts": found.parts}

    def people_of(self, scene_id: str) -> dict[str, Rgba]:
        """Return a scene's people by id, complete, farthest first: the truth of an eraser's layers.

        RGBA, uint8, as large as the scene; empty where the release does not know them.

        Raises:
            BadInput: a ``scenes`` file is damaged.
        """
        for table in self._scenes.values():
            if found := table.people(scene_id):
                return found
        return {}

    @cached_property
    def _scenes(self) -> dict[str, SceneTable]:
        start = f"data/{SCENES}-"
        names = sorted(name for name in self.manifest["files"] if name.startswith(start))
        return {name: SceneTable(inside(self.folder, name)) for name in names}

    @cached_property
    def _known(self) -> dict[Path, Morphologies | None]:
        return {}

    def _task_rows(
        self, only: frozenset[str] | None = None
    ) -> Iterator[tuple[Path, dict[str, Any]]]:
        for name in sorted(self.manifest["files"]):
            if name.startswith(f"data/{TASKS}-"):
                path = inside(self.folder, name)
                yield from ((path, row) for row in _rows(path, only))


def _check_manifest(path: Path, manifest: Any) -> None:
    kinds = {"name": str, "version": str, "files": dict, "tasks": list}
    if not isinstance(manifest, dict):
        raise BadInput(f"{path}: expected an object, got {type(manifest).__name__}")
    wrong = [key for key, kind in kinds.items() if not isinstance(manifest.get(key), kind)]
    if not wrong and not all(isinstance(value, str) for value in manifest["files"].values()):
        wrong = ["files"]
    if not wrong and not all(isinstance(t, dict) and "task_id" in t for t in manifest["tasks"]):
        wrong = ["tasks"]
    if wrong:
        raise BadInput(
            f"{path}: expected name, version, files (path: sha256) and tasks (with task_id), got "
            f"no usable {', '.join(wrong)}; freeze it again"
        )
    for task in manifest["tasks"]:
        _check_name(path, str(task["task_id"]))


def _check_name(path: Path, name: str) -> None:
    # Runs name files after tasks and people.
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{path}: expected names of letters, digits, '.', '_' and '-', got {name!r}; "
            "do not use this release"
        )


def _rows(path: Path, only: frozenset[str] | None) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ``tasks`` file, one row group in memory at a time.

    Raises:
        BadInput: truncated or damaged (pages carry checksums), or a column is missing.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    def groups() -> Iterator[dict[str, Any]]:
        with parquet.ParquetFile(path, page_checksum_verification=True) as file:
            if missing := sorted(TASK_COLUMNS - set(file.schema_arrow.names)):
                raise BadInput(
                    f"{path}: expected the columns of tasks, got none called "
                    f"{', '.join(missing)}; freeze the release again"
                )
            for number in range(file.num_row_groups):
                names = file.read_row_group(number, columns=["task_id"])["task_id"].to_pylist()
                if only is None or not only.isdisjoint(names):
                    yield from file.read_row_group(number).to_pylist()

    try:
        for row in groups():
            if only is None or row["task_id"] in only:
                yield row
    except (OSError, pa.ArrowException) as error:
        raise BadInput(
            f"{path}: expected a whole parquet file, got a damaged one ({error}); fetch it again"
        ) from error


def _task(path: Path, row: dict[str, Any]) -> Task:
    try:
        task = task_from_row(row)
        for name in (task.task_id, task.scene_id, *task.person_ids, *task.erase):
            _check_name(path, name)
        if task.people.shape != task.mask.shape or not set(task.erase) <= set(task.person_ids):
            raise TypeError("a label map or people of another picture")
        return task
    except (KeyError, TypeError, AttributeError, Image.DecompressionBombError) as error:
        raise BadInput(
            f"{path}: task {row['task_id']}: expected every value of a task, got {error}; "
            "fetch the release again"
        ) from error


def task_from_row(row: dict[str, Any]) -> Task:
    """Build a task from a parquet row; pictures are ``{"bytes": ..., "path": ...}``.

    The label map is the column ``people_map``; ``people`` is how many there are (a stratum).
    """
    name = str(row["task_id"])
    truth = row["truth"]
    return Task(
        task_id=name,
        scene_id=row["scene_id"],
        kind=row["kind"],
        erase=tuple(row["erase"]),
        input=decode_png(row["input"]["bytes"], name=f"task {name}: input"),
        mask=decode_mask_array(decode_png(row["mask"]["bytes"], name=f"task {name}: mask")),
        truth=None if truth is None else decode_png(truth["bytes"], name=f"task {name}: truth"),
        people=decode_png(row["people_map"]["bytes"], name=f"task {name}: people_map"),
        person_ids=tuple(row["person_ids"]),
        strata=Strata(**{column: row[column] for column in STRATA_COLUMNS}),
    )


def read_annotations(row: dict[str, Any]) -> dict[str, Any]:
    """Return the annotations of a ``scenes`` row (stored as JSON text)."""
    annotations: dict[str, Any] = json.loads(row["annotations"])
    return annotations
