"""A small real release for tests: drawn scenes with exact layers, frozen as the contract says."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from mild_bench.images import Rgb, encode_png, mask_to_grey
from mild_bench.scene import Layer, Scene
from mild_bench.store import canonical_json, sha256_file
from mild_bench.task import Strata, Task, occlusion_bin

KINDS = ("all", "occluder", "occluded", "pair", "single", "free")
CLOSENESS = (1.25, 0.8, 0.55, 0.3)  # distance between neighbours in body widths: none .. heavy


def make_release(
    folder: Path, *, tasks: int = 6, size: tuple[int, int] = (64, 64), seed: int = 0
) -> Path:
    """Write a release of ``tasks`` tasks and return ``folder``.

    ``size`` is width, height; every other picture is half as wide again. Same arguments, same
    bytes. Task ids are ``scene-000-all``, ``scene-001-occluder``, ...
    """
    scenes = [draw_scene(number, size=size, seed=seed) for number in range(tasks)]
    questions = [ask(scene, number) for number, scene in enumerate(scenes)]
    data = folder / "data"
    data.mkdir(parents=True)
    parquet.write_table(_task_table(questions), data / "tasks-test.parquet")
    parquet.write_table(_scene_table(scenes), data / "scenes-test.parquet")
    (folder / "README.md").write_text("# A release for tests\n")
    names = ("README.md", "data/scenes-test.parquet", "data/tasks-test.parquet")
    manifest = {
        "name": "toy",
        "version": "1.0",
        "files": {name: sha256_file(folder / name) for name in names},
        "recipe": {"seed": seed},
        "versions": {"mild-bench": "0.1.0"},
        "tasks": [
            {"task_id": t.task_id, "scene_id": t.scene_id, "kind": t.kind, **_strata(t)}
            for t in questions
        ],
        "licence": "CC0-1.0",
        "credits": ["drawn by a test"],
    }
    (folder / "manifest.json").write_bytes(canonical_json(manifest))
    return folder


def draw_scene(number: int, *, size: tuple[int, int], seed: int) -> Scene:
    """Draw a textured plate with two to five people on it."""
    rng = np.random.default_rng([seed, number])
    width, height = size[0] + size[0] // 2 * (number % 2), size[1]
    people = 2 + number % 4
    body = width / (people + 2.5)
    step = body * CLOSENESS[number % 4]
    start = width / 2 - step * (people - 1) / 2
    layers = tuple(
        _person(f"person-{k}", start + step * k, body, (height, width), rng) for k in range(people)
    )
    return Scene(
        scene_id=f"scene-{number:03d}",
        split="test",
        group=f"place-{number // 2}",
        truth_kind="exact",
        plate=_plate(height, width, rng),
        layers=layers,
        credits=("drawn by a test",),
        provenance={"seed": seed, "number": number},
    )


def ask(scene: Scene, number: int) -> Task:
    """Ask to erase some of a scene's people, with the exact truth."""
    kind = KINDS[number % len(KINDS)]
    ids = tuple(person.layer_id for person in scene.people)
    chosen = {"all": ids, "occluder": ids[-1:], "occluded": ids[:1], "pair": ids[:2]}
    erase = chosen.get(kind, ids[1:2])
    source, truth = scene.recompose(), scene.recompose(without=erase)
    mask = np.any([scene.visible(name) for name in erase], axis=0) | (source != truth).any(axis=2)
    hidden = [1 - scene.visible(p.layer_id).sum() / p.amodal.sum() for p in scene.people]
    occlusion = round(float(max(hidden)), 6)
    strata = Strata(
        people=len(ids),
        erased=len(erase),
        occlusion=occlusion,
        occlusion_bin=occlusion_bin(occlusion),
        human_human=number % 2 == 0,
        human_object=number % 3 == 0,
        human_background=number % 4 < 2,
        mask_area=round(float(mask.mean()), 6),
        mask_source="effects",
        truth_kind="exact",
        group=scene.group,
    )
    return Task(
        task_id=f"{scene.scene_id}-{kind}",
        scene_id=scene.scene_id,
        kind=kind,
        erase=erase,
        input=source,
        mask=mask,
        truth=truth,
        people=scene.label_map(),
        person_ids=ids,
        strata=strata,
    )


def _plate(height: int, width: int, rng: np.random.Generator) -> Rgb:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    sky = rng.uniform(90, 200, 3)
    ground = rng.uniform(60, 160, 3)
    share = (y / height)[..., None]
    planks = 18 * np.sin(x / rng.uniform(2, 5) + y / rng.uniform(4, 9))[..., None]
    lamp = 40 * np.exp(-((x - width * rng.uniform()) ** 2 + (y - height / 3) ** 2) / 200)[..., None]
    grain = rng.normal(0, 4, (height, width, 3))
    picture = sky * (1 - share) + ground * share + planks * share + lamp + grain
    return picture.clip(0, 255).astype(np.uint8)


def _person(
    name: str, x0: float, body: float, shape: tuple[int, int], rng: np.random.Generator
) -> Layer:
    height, width = shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    middle, tall = height * 0.62, height * 0.3
    trunk = ((x - x0) / (body / 2)) ** 2 + ((y - middle) / tall) ** 2
    head = ((x - x0) ** 2 + (y - (middle - tall)) ** 2) / (body / 3) ** 2
    alpha = np.clip((1.15 - np.minimum(trunk, head)) / 0.15, 0, 1)  # a soft rim
    stripes = 25 * np.sin(y / 2.5)[..., None]
    shirt = rng.uniform(20, 235, 3) + stripes + rng.normal(0, 3, (height, width, 3))
    colour = np.where((head < trunk)[..., None], rng.uniform(120, 220, 3), shirt)
    rgba = np.dstack([colour.clip(0, 255), alpha * 255]).astype(np.uint8)
    foot = np.exp(-(((x - x0) / body) ** 2 + ((y - middle - tall) / 3) ** 2))
    effect = np.dstack([foot * 60, foot * 90]).astype(np.uint8)
    effect[effect < 4] = 0
    parts = np.where(alpha >= 0.5, np.where(head < trunk, 2, 5), 0).astype(np.uint8)
    return Layer(name, "person", rgba, effect=effect, parts=parts, subject=name)


def _strata(task: Task) -> dict[str, Any]:
    assert task.strata is not None
    return asdict(task.strata)


def _image(array: np.ndarray[Any, Any], name: str) -> dict[str, Any]:
    return {"bytes": encode_png(array), "path": f"{name}.png"}


def _task_table(questions: list[Task]) -> pa.Table:
    rows = [
        {
            "task_id": task.task_id,
            "scene_id": task.scene_id,
            "kind": task.kind,
            "erase": list(task.erase),
            "input": _image(task.input, "input"),
            "mask": _image(mask_to_grey(task.mask), "mask"),
            "truth": None if task.truth is None else _image(task.truth, "truth"),
            "people_map": _image(task.people, "people_map"),
            "person_ids": list(task.person_ids),
            **_strata(task),
        }
        for task in questions
    ]
    return pa.Table.from_pylist(rows)


def _scene_table(scenes: list[Scene]) -> pa.Table:
    rows = [
        {
            "scene_id": scene.scene_id,
            "split": scene.split,
            "group": scene.group,
            "truth_kind": scene.truth_kind,
            "licence": scene.licence,
            "credits": list(scene.credits),
            "input": _image(scene.recompose(), "input"),
            "plate": _image(scene.plate, "plate"),
            "layers": [_layer(layer) for layer in scene.layers],
            "annotations": json.dumps({"people": len(scene.people)}),
            "provenance": json.dumps(scene.provenance),
        }
        for scene in scenes
    ]
    return pa.Table.from_pylist(rows)


def _layer(layer: Layer) -> dict[str, Any]:
    assert layer.effect is not None and layer.parts is not None
    return {
        "layer_id": layer.layer_id,
        "kind": layer.kind,
        "subject": layer.subject,
        "attached_to": layer.attached_to,
        "relation": layer.relation,
        "person": layer.person,
        "truncation": layer.truncation,
        "image": _image(layer.rgba, layer.layer_id),
        "effect": _image(layer.effect, "effect"),
        "parts": _image(layer.parts, "parts"),
        "keypoints": [list(point) for point in layer.keypoints],
    }
