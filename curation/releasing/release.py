"""Freeze workspaces into a release: parquet, card, Croissant metadata and a manifest of hashes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from mild_bench.curation.releasing.croissant import croissant
from mild_bench.curation.releasing.release_card import card
from mild_bench.curation.releasing.release_rules import (
    Candidate,
    candidates,
    check_names,
    check_target,
    refuse_leaks,
)
from mild_bench.curation.releasing.release_tables import (
    Table,
    scene_features,
    scene_row,
    task_features,
    task_row,
)
from mild_bench.curation.releasing.tasks import count_kinds, tasks_of
from mild_bench.curation.scene_folder import read_scene
from mild_bench.errors import BadInput
from mild_bench.progress import tracked
from mild_bench.release import MANIFEST, Release
from mild_bench.scene import Scene
from mild_bench.store import new_folder, read_json, sha256_file, write_bytes, write_json
from mild_bench.task import Task

MAKERS = ("mild-bench", "datasets", "numpy", "pillow", "pyarrow")


def freeze(
    workspaces: list[Path],
    out: Path,
    *,
    name: str,
    version: str,
    recipe: dict[str, Any] | None = None,
    splits: Collection[str] = (),
    seed: int = 0,
) -> Release:
    """Write the scenes of some workspaces, and the tasks about them, as a release.

    Scenes whose newest verdict in the ledger is ``rejected`` stay out; the card and the manifest
    list them with the reason. One scene at a time is in memory. The same scenes, verdicts and
    arguments give the same bytes with the same versions (the manifest names them). ``out`` appears
    whole or not at all, in place of an older release.

    Args:
        out: a folder that does not exist, is empty, or holds an older release and nothing else.
        name, version: small letters, digits and ``-``; numbers such as ``1.0``.
        recipe: what made the scenes, for the manifest and the card; by default what the
            workspaces say.
        splits: which splits to keep; all by default.
        seed: decides which people the tasks are about.

    Raises:
        BadInput: a leak between splits, an id twice, no scene left, a broken scene, ``out`` in
            use, or a full disk.
    """
    found = candidates(workspaces)
    check_names(name, version, {one.split for one in found} | set(splits))
    check_target(out)
    refuse_leaks([one for one in found if one.rejected is None])
    chosen = _choose_splits(found, splits)
    kept = [one for one in chosen if one.rejected is None]
    if not kept:
        raise BadInput(
            f"{', '.join(map(str, workspaces))}: expected a scene to release, got "
            f"{len(chosen)} rejected ones; accept some with 'mild-bench curate accept'"
        )
    _sweep(out)
    with new_folder(out) as folder:
        manifest: dict[str, Any] = {
            "name": name,
            "version": version,
            "recipe": _made_by(workspaces) if recipe is None else recipe,
            "seed": seed,
            "versions": _versions(),
            "rejected": {one.scene_id: one.rejected for one in chosen if one.rejected is not None},
            **_write_tables(folder, kept, seed),
        }
        _describe(folder, manifest)
    return Release.open(out)


def _made_by(workspaces: list[Path]) -> dict[str, Any]:
    files = [path for folder in workspaces if (path := folder / "workspace.json").is_file()]
    makers = [read_json(path) for path in files]
    return {"workspaces": makers} if makers else {}


def _choose_splits(found: list[Candidate], splits: Collection[str]) -> list[Candidate]:
    known = {one.split for one in found}
    if strange := sorted(set(splits) - known):
        raise BadInput(
            f"splits: expected some of {', '.join(sorted(known))}, got {', '.join(strange)}"
        )
    return [one for one in found if not splits or one.split in splits]


def _write_tables(folder: Path, kept: list[Candidate], seed: int) -> dict[str, Any]:
    """Write both tables of each split; return what the manifest says about their rows."""
    data = folder / "data"
    data.mkdir()
    tasks: list[dict[str, Any]] = []
    scenes: list[dict[str, Any]] = []
    with ExitStack() as stack:
        tables = {
            split: (
                stack.enter_context(Table(data / f"scenes-{split}.parquet", scene_features())),
                stack.enter_context(Table(data / f"tasks-{split}.parquet", task_features())),
            )
            for split in sorted({one.split for one in kept})
        }
        kinds: Counter[str] = Counter()
        for one in tracked(kept, "freezing"):
            scene, annotations = read_scene(one.folder)
            asked = tasks_of(scene, annotations, seed=seed, before=kinds)
            kinds += count_kinds(asked)
            scene_table, task_table = tables[one.split]
            scene_table.add(scene_row(scene, annotations))
            for task in asked:
                task_table.add(task_row(task))
            tasks += [_task_entry(one.split, task) for task in asked]
            scenes.append(_scene_entry(scene, annotations))
    return {"tasks": tasks, "scenes": scenes, **_rights(scenes)}


def _task_entry(split: str, task: Task) -> dict[str, Any]:
    assert task.strata is not None  # task_row refused it otherwise
    return {
        "task_id": task.task_id,
        "scene_id": task.scene_id,
        "kind": task.kind,
        "split": split,
        **asdict(task.strata),
    }


def _scene_entry(scene: Scene, annotations: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "scene_id": scene.scene_id,
        "split": scene.split,
        "group": scene.group,
        "truth_kind": scene.truth_kind,
        "people": len(scene.people),
        "occlusion_bin": annotations["occlusion_bin"],
        "challenges": sorted(
            name for name, one in annotations["challenges"].items() if one["present"]
        ),
        "licence": scene.licence,
        "credits": list(scene.credits),
        "size": [scene.plate.shape[1], scene.plate.shape[0]],
    }


def _rights(scenes: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "licence": " AND ".join(sorted({scene["licence"] for scene in scenes})),
        "credits": sorted({line for scene in scenes for line in scene.pop("credits")}),
    }


def _describe(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the card, the Croissant metadata and, over all of them, the manifest."""
    write_bytes(folder / "README.md", card(manifest).encode())
    tables = {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in sorted(folder.glob("data/*.parquet"))
    }
    write_json(folder / "croissant.json", croissant(manifest, tables))
    others = {name: sha256_file(folder / name) for name in ("README.md", "croissant.json")}
    write_json(folder / MANIFEST, {**manifest, "files": {**tables, **others}})


def _versions() -> dict[str, str]:
    return {package: metadata.version(package) for package in MAKERS}


def _sweep(out: Path) -> None:
    """Remove what a killed run for the same folder left."""
    for part in out.parent.glob(f".{out.name}.*.part"):
        shutil.rmtree(part, ignore_errors=True)
