"""The pictures that the App shows of a scene, and what it says about each layer: files and dicts.

Masks are PNG files as large as the layer's box, because masks in the database itself exhaust its
memory (FiftyOne issue 3438).
"""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.curation.scene_folder import SCENES
from mild_bench.errors import BadInput
from mild_bench.images import Mask, encode_png, mask_to_grey
from mild_bench.scene import Layer, Scene
from mild_bench.store import canonical_json, inside, sha256, sha256_file, write_bytes

REVIEW = "review"
LAYOUT = 1  # raise it when what is shown changes, so that known scenes are shown anew
MEASURES = (
    "occlusion_rate", "truncation", "max_iou_box", "max_iou_mask", "hidden_by_people",
    "hidden_by_props", "contrast",
)  # fmt: skip


@dataclass(frozen=True)
class Overlay:
    """One mask over a picture.

    Attributes:
        box: x, y, width, height as shares of the frame, in [0, 1].
        mask: PNG file of the box's size, 255 = the layer.
        attributes: what the App shows beside it.
    """

    label: str
    box: tuple[float, float, float, float]
    mask: Path
    attributes: dict[str, Any]


def fingerprint(folder: Path) -> str:
    """Return a hash that changes with any file of a scene, with its place, and with LAYOUT."""
    files = {
        str(path.relative_to(folder)): sha256_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return sha256(canonical_json({"layout": LAYOUT, "place": str(folder.resolve()), **files}))


def pictures(workspace: Path, scene: Scene) -> dict[str, Path]:
    """Return the scene's pictures by name: ``input``, and ``truth`` and ``plate`` if it has them.

    ``truth`` is the scene without anybody (and what they hold); it is written if it changed.
    """
    folder = inside(workspace / SCENES, scene.scene_id)
    found = {"input": folder / "input.png"}
    if scene.truth_kind != "masks-only":
        nobody = scene.belongings([person.layer_id for person in scene.people])
        truth = inside(workspace / REVIEW / "truth", f"{scene.scene_id}.png")
        _write_if_new(truth, encode_png(scene.recompose(without=nobody)))
        found |= {"truth": truth, "plate": folder / "plate.png"}
    return {name: path.resolve() for name, path in found.items()}


def overlays(
    workspace: Path, scene: Scene, annotations: dict[str, Any], *, amodal: bool
) -> list[Overlay]:
    """Return a mask for each layer that has one, from farthest to nearest; writes their files.

    Raises:
        BadInput: the scene has no annotations of a layer.
    """
    kind = "amodal" if amodal else "visible"
    shown = []
    for layer in scene.layers:
        mask = layer.amodal if amodal else scene.visible(layer.layer_id)
        if not mask.any():
            continue
        name = f"{scene.scene_id}/{layer.layer_id}.{kind}.png"
        path = inside(workspace / REVIEW / "masks", name).resolve()
        rows, columns = _extent(mask)
        _write_if_new(path, encode_png(mask_to_grey(mask[rows, columns])))
        attributes = _attributes(scene.scene_id, layer, annotations)
        shown.append(Overlay(layer.kind, _relative(mask, rows, columns), path, attributes))
    return shown


def joints(scene: Scene) -> dict[str, list[tuple[float, float, int]]]:
    """Return each person's COCO-17 joints: x and y as shares of the frame, NaN where outside."""
    height, width = scene.plate.shape[:2]
    return {
        person.layer_id: [
            (x / width, y / height, seen) if seen else (float("nan"), float("nan"), 0)
            for x, y, seen in person.keypoints
        ]
        for person in scene.people
        if person.keypoints
    }


def scene_facts(scene: Scene, annotations: dict[str, Any]) -> dict[str, Any]:
    """Return what can be filtered and sorted by, as flat values.

    Raises:
        BadInput: the scene is not annotated.
    """
    try:
        facts = {
            "scene_id": scene.scene_id,
            "split": scene.split,
            "group": scene.group,
            "truth_kind": scene.truth_kind,
            "licence": scene.licence,
            "props": len(scene.layers) - len(scene.people),
            "order_cycles": len(annotations["order_graph"]["cycles"]),
            "people": int(annotations["people"]),
            "occlusion_bin": str(annotations["occlusion_bin"]),
        }
        for name in ("occlusion", "crowd_index", "max_iou_box", "max_iou_mask"):
            facts[name] = float(annotations[name])
        for name, challenge in annotations["challenges"].items():
            facts[name] = bool(challenge["present"])
            facts[f"{name}_value"] = float(challenge["value"])
    except KeyError as error:
        raise BadInput(
            f"scene {scene.scene_id}: expected annotations, found no {error}; make the scene again"
        ) from error
    return facts


def sweep(workspace: Path, scenes: Collection[str]) -> None:
    """Remove what was written for scenes that the workspace does not have any more."""
    for folder in (workspace / REVIEW / "masks").glob("*"):
        if folder.name not in scenes:
            shutil.rmtree(folder)
    for picture in (workspace / REVIEW / "truth").glob("*.png"):
        if picture.stem not in scenes:
            picture.unlink()


def _attributes(scene_id: str, layer: Layer, annotations: dict[str, Any]) -> dict[str, Any]:
    try:
        measured = annotations["layers"][layer.layer_id]
    except KeyError as error:
        raise BadInput(
            f"scene {scene_id}: expected annotations of layer {layer.layer_id}, found none; "
            "make the scene again"
        ) from error
    named = {
        "layer_id": layer.layer_id,
        "kind": layer.kind,
        "subject": layer.subject,
        "attached_to": layer.attached_to,
        "relation": layer.relation,
        "person": layer.person,
    }
    numbers = {name: float(measured[name]) for name in MEASURES if measured.get(name) is not None}
    return {name: value for name, value in named.items() if value} | numbers


def _extent(mask: Mask) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _relative(mask: Mask, rows: slice, columns: slice) -> tuple[float, float, float, float]:
    height, width = mask.shape
    return (
        columns.start / width,
        rows.start / height,
        (columns.stop - columns.start) / width,
        (rows.stop - rows.start) / height,
    )


def _write_if_new(path: Path, data: bytes) -> None:
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)
