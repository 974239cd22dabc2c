"""A pool for training from scenes that are there: composed, filmed, or written by yourself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mild_bench.curation.composing.pool import claim_pool, fill, write_pooled
from mild_bench.curation.releasing.release_rules import Candidate, candidates
from mild_bench.curation.scene_folder import read_scene
from mild_bench.errors import BadInput
from mild_bench.images import Rgba
from mild_bench.scene import Layer, Scene
from mild_bench.store import canonical_json, read_json, sha256, sha256_file

MADE = "1"  # goes up when the same scenes would give other pictures
LEARNT_FROM = "train"


@dataclass(frozen=True)
class TrainScenes:
    """Scenes to learn from.

    Attributes:
        folders: of the scenes, by id; those that the ledger rejects are left out.
        hash: SHA-256 of what is in them, wherever they lie.
        licences, credits: of their pictures.
    """

    folders: tuple[Path, ...]
    hash: str
    licences: tuple[str, ...]
    credits: tuple[str, ...]


def train_scenes(workspace: Path) -> TrainScenes:
    """Return the scenes of a workspace to learn from.

    Raises:
        BadInput: no scenes, or some of another split than ``train``.
    """
    kept = [one for one in candidates([workspace]) if one.rejected is None]
    others = [one for one in kept if one.split != LEARNT_FROM]
    if others:
        raise BadInput(
            f"{workspace}: expected scenes of the split {LEARNT_FROM} only, got {len(others)} of "
            f"others (split {others[0].split}: {others[0].scene_id}): a test's people and places "
            "are never learnt from; reject these scenes or make them anew"
        )
    if not kept:
        raise BadInput(f"{workspace}: expected scenes to learn from, got rejected ones only")
    files = {one.scene_id: _hashes(one) for one in kept}
    about = [read_json(one.folder / "scene.json") for one in kept]
    return TrainScenes(
        folders=tuple(one.folder for one in kept),
        hash=sha256(canonical_json(files)),
        licences=tuple(sorted({str(one["licence"]) for one in about})),
        credits=tuple(sorted({str(line) for one in about for line in one["credits"]})),
    )


def fill_from(scenes: TrainScenes, pool: Path, *, side: int, workers: int) -> list[Path]:
    """Write what is missing of a pool with these scenes and return the files of all, in order.

    Args:
        scenes: what to learn from.
        pool: folder of the pool.
        side: pixels that the shorter side of a scene has at most; larger ones are scaled down.
        workers: processes.

    Raises:
        BadInput: the folder holds other scenes, or a scene is broken or has no truth.
    """
    claim_pool(pool, {"scenes": scenes.hash, "side": side, "by": MADE})
    return fill(partial(_make, scenes.folders, side, pool), pool, len(scenes.folders), workers)


def scaled(scene: Scene, side: int) -> Scene:
    """Return a scene whose shorter side has ``side`` pixels, or a smaller one as it is."""
    high, wide = scene.plate.shape[:2]
    if min(high, wide) <= side:
        return scene
    size = (round(wide * side / min(high, wide)), round(high * side / min(high, wide)))
    layers = tuple(_layer(layer, size) for layer in scene.layers)
    return replace(scene, plate=_averaged(scene.plate, size), layers=layers)


def _make(folders: tuple[Path, ...], side: int, pool: Path, number: int) -> None:
    scene, _ = read_scene(folders[number])
    if scene.truth_kind == "masks-only":
        raise BadInput(
            f"{folders[number]}: expected a scene with the place behind the people, got masks "
            "only; reject it"
        )
    write_pooled(scaled(scene, side), pool, number)


def _hashes(one: Candidate) -> dict[str, str]:
    files = sorted(path for path in one.folder.rglob("*") if path.is_file())
    return {path.relative_to(one.folder).as_posix(): sha256_file(path) for path in files}


def _layer(layer: Layer, size: tuple[int, int]) -> Layer:
    high, wide = layer.rgba.shape[:2]
    across, down = size[0] / wide, size[1] / high
    nearest = cv2.INTER_NEAREST
    return replace(
        layer,
        rgba=_averaged_rgba(layer.rgba, size),
        effect=None if layer.effect is None else _averaged(layer.effect, size),
        parts=None if layer.parts is None else cv2.resize(layer.parts, size, interpolation=nearest),
        keypoints=tuple((x * across, y * down, seen) for x, y, seen in layer.keypoints),
    )


def _averaged_rgba(rgba: Rgba, size: tuple[int, int]) -> Rgba:
    """Scale with colours weighted by alpha: those where nothing is must not bleed in."""
    alpha = rgba[..., 3:].astype(np.float32)
    mixed = _averaged(np.concatenate([rgba[..., :3] * alpha, alpha], axis=2), size)
    colour = mixed[..., :3] / np.maximum(mixed[..., 3:], 1e-6)
    straight = np.concatenate([colour, mixed[..., 3:]], axis=2)
    return np.asarray(np.floor(straight + 0.5).clip(0, 255).astype(np.uint8))


def _averaged(picture: Any, size: tuple[int, int]) -> Any:
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
