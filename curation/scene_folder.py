"""Scenes on disk: one folder each, in a workspace that curation fills and reviews.

``WORKSPACE/scenes/<scene_id>/`` holds ``scene.json``, ``input.png``, ``plate.png`` and, by layer
id, ``layers/`` (RGBA), ``effects/`` (grey + alpha: cast and contact shadow) and ``parts/``. A
scene folder appears whole or not at all. ``WORKSPACE/workspace.json`` says what made it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import decode_png, encode_png
from mild_bench.scene import Layer, Scene
from mild_bench.store import canonical_json, inside, new_folder, read_json

SCENES = "scenes"


def write_scene(workspace: Path, scene: Scene, annotations: dict[str, Any]) -> Path:
    """Write a scene and its annotations; replaces an older one of the same id. Atomic."""
    target = inside(workspace / SCENES, scene.scene_id)
    with new_folder(target) as folder:
        (folder / "plate.png").write_bytes(encode_png(scene.plate))
        (folder / "input.png").write_bytes(encode_png(scene.recompose()))
        for layer in scene.layers:
            for name, array in _pictures(layer).items():
                path = folder / name / f"{layer.layer_id}.png"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(encode_png(array))
        (folder / "scene.json").write_bytes(canonical_json(_as_json(scene, annotations)))
    return target


def read_scene(folder: Path) -> tuple[Scene, dict[str, Any]]:
    """Read a scene folder back: the scene and its annotations.

    Raises:
        BadInput: a file is missing or broken, or leads out of the folder.
    """
    values = read_json(folder / "scene.json")
    try:
        layers = tuple(_read_layer(folder, layer) for layer in values["layers"])
        scene = Scene(
            scene_id=values["scene_id"],
            split=values["split"],
            group=values["group"],
            truth_kind=values["truth_kind"],
            plate=_read(folder, "plate.png"),
            layers=layers,
            licence=values["licence"],
            credits=tuple(values["credits"]),
            provenance=values["provenance"],
        )
        return scene, dict(values["annotations"])
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'scene.json'}: expected a scene, got no {error}") from error


def scene_folders(workspace: Path) -> list[Path]:
    """Return the finished scene folders of a workspace, by id.

    Raises:
        BadInput: the workspace has no scenes.
    """
    found = sorted(path.parent for path in (workspace / SCENES).glob("[!.]*/scene.json"))
    if not found:
        raise BadInput(
            f"{workspace}: expected a workspace with scenes, found none; "
            "make one with 'mild-bench curate compose' or 'curate video'"
        )
    return found


def read_scenes(workspace: Path) -> Iterator[tuple[Scene, dict[str, Any]]]:
    """Yield the scenes of a workspace in order of id, one in memory at a time."""
    for folder in scene_folders(workspace):
        yield read_scene(folder)


def _pictures(layer: Layer) -> dict[str, Any]:
    pictures = {"layers": layer.rgba, "effects": layer.effect, "parts": layer.parts}
    return {name: array for name, array in pictures.items() if array is not None}


def _as_json(scene: Scene, annotations: dict[str, Any]) -> dict[str, Any]:
    layers = [
        {
            "layer_id": layer.layer_id,
            "kind": layer.kind,
            "subject": layer.subject,
            "attached_to": layer.attached_to,
            "relation": layer.relation,
            "person": layer.person,
            "truncation": layer.truncation,
            "keypoints": [list(point) for point in layer.keypoints],
            "pictures": sorted(_pictures(layer)),
        }
        for layer in scene.layers
    ]
    return {
        "scene_id": scene.scene_id,
        "split": scene.split,
        "group": scene.group,
        "truth_kind": scene.truth_kind,
        "licence": scene.licence,
        "credits": list(scene.credits),
        "provenance": scene.provenance,
        "layers": layers,
        "annotations": annotations,
    }


def _read_layer(folder: Path, values: dict[str, Any]) -> Layer:
    name = values["layer_id"]
    has = values["pictures"]
    return Layer(
        layer_id=name,
        kind=values["kind"],
        rgba=_read(folder, f"layers/{name}.png"),
        effect=_read(folder, f"effects/{name}.png") if "effects" in has else None,
        parts=_read(folder, f"parts/{name}.png") if "parts" in has else None,
        keypoints=tuple((float(x), float(y), int(v)) for x, y, v in values["keypoints"]),
        subject=values["subject"],
        attached_to=values["attached_to"],
        relation=values["relation"],
        person=values["person"],
        truncation=float(values["truncation"]),
    )


def _read(folder: Path, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    path = inside(folder, name)
    if not path.is_file():
        raise BadInput(f"{path}: the scene names it, but it is not there; make the scene again")
    return decode_png(path.read_bytes(), name=str(path))
