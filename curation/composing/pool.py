"""A pool of composed scenes for training: made fast, by many processes, and kept in one folder.

``POOL/pool.json`` says what made it; ``POOL/<number>.npz`` is one scene, its layers cut to what
they cover. Scenes are pure functions of recipe, number and pack: a pool that is stopped and started
again ends the same, and a larger one keeps the first scenes. ``pool_workspace`` fills one with
scenes that are there already.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.curation.composing.compose import COMPOSER, sketch_scene
from mild_bench.curation.composing.pack import load_pack, plate_picture
from mild_bench.curation.composing.recipe import Recipe
from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.progress import progress
from mild_bench.scene import Layer, Scene
from mild_bench.store import read_json, write_bytes, write_json

SAME = ("layer_id", "kind", "subject", "attached_to", "relation", "person", "truncation")


def fill_pool(recipe: Recipe, pool: Path, *, workers: int) -> list[Path]:
    """Compose what is missing of a recipe's scenes and return the files of all, in order.

    Raises:
        BadInput: the folder holds another recipe's scenes, or nothing fits the recipe.
    """
    made_by = {"recipe_hash": recipe.hash, "pack": load_pack(recipe.split).hash, "by": COMPOSER}
    claim_pool(pool, made_by)
    return fill(partial(_make, recipe, pool), pool, recipe.scenes, workers)


def claim_pool(pool: Path, made_by: Mapping[str, str | int]) -> None:
    """Say in a pool's folder what makes its scenes.

    Raises:
        BadInput: something else made those in it, or it is no pool.
    """
    about = pool / "pool.json"
    if pool.exists() and not (pool.is_dir() and about.is_file()):
        raise BadInput(f"{pool}: expected a new folder or a pool of scenes; name another")
    if not about.exists():
        write_json(about, dict(made_by))
    elif read_json(about) != made_by:
        raise BadInput(f"{pool}: holds scenes of another recipe or version; name another folder")


def fill(make: Callable[[int], None], pool: Path, scenes: int, workers: int) -> list[Path]:
    """Make the scenes that a pool lacks, each by its number; returns the files of all, in order."""
    files = [pool / f"{number:06d}.npz" for number in range(scenes)]
    missing = [number for number, file in enumerate(files) if not file.exists()]
    if not missing:
        return files
    with progress("composing", total=len(files), done=len(files) - len(missing)) as advance:
        for _ in _made(make, missing, workers):
            advance(1)
    return files


def write_pooled(scene: Scene, pool: Path, number: int) -> None:
    """Write a scene to a pool. Atomic."""
    arrays: dict[str, Any] = {"plate": scene.plate}
    layers = []
    for index, layer in enumerate(scene.layers):
        box = _box(layer)
        arrays[f"{index}.rgba"] = _cut(layer.rgba, box)
        if layer.parts is not None:
            arrays[f"{index}.parts"] = _cut(layer.parts, box)
        if layer.effect is not None:
            arrays[f"{index}.effect"] = layer.effect
        about = {name: getattr(layer, name) for name in SAME}
        layers.append({**about, "at": box[:2], "keypoints": layer.keypoints})
    about = {
        "scene_id": scene.scene_id, "split": scene.split, "group": scene.group,
        "provenance": scene.provenance, "layers": layers,
    }  # fmt: skip
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
    write_bytes(pool / f"{number:06d}.npz", buffer.getvalue())


def read_pooled(file: Path) -> Scene:
    """Read a scene of a pool.

    Raises:
        BadInput: the file is missing or broken.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            size = arrays["plate"].shape[:2]
            cuts = {name: arrays[name] for name in arrays.files}
            layers = tuple(
                _layer(layer, f"{index}.", cuts, size)
                for index, layer in enumerate(about["layers"])
            )
            return Scene(
                about["scene_id"], about["split"], about["group"], "exact", cuts["plate"], layers,
                provenance=about["provenance"],
            )  # fmt: skip
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{file}: expected a scene of a pool, got {error}; remove it") from error


def training_plates() -> list[Rgb]:
    """Return every plate of the train part, also those on which nobody can stand."""
    return [plate_picture(plate) for plate in load_pack("train").plates]


def _layer(about: dict[str, Any], start: str, cuts: dict[str, Any], size: Any) -> Layer:
    parts = cuts.get(f"{start}parts")
    return Layer(
        **{name: about[name] for name in SAME},
        rgba=_spread(cuts[f"{start}rgba"], about["at"], size),
        effect=cuts.get(f"{start}effect"),
        parts=None if parts is None else _spread(parts, about["at"], size),
        keypoints=tuple((x, y, int(seen)) for x, y, seen in about["keypoints"]),
    )


def _made(make: Callable[[int], None], numbers: list[int], workers: int) -> Iterator[None]:
    if workers <= 1:
        yield from map(make, numbers)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        yield from processes.map(make, numbers, chunksize=4)


def _make(recipe: Recipe, pool: Path, number: int) -> None:
    write_pooled(sketch_scene(recipe, number, load_pack(recipe.split)), pool, number)


def _box(layer: Layer) -> tuple[int, int, int, int]:
    """Top, left, bottom, right of what a layer covers at all."""
    rows, columns = np.nonzero(layer.rgba[..., 3])
    if not rows.size:
        return 0, 0, 0, 0
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def _cut(array: Any, box: tuple[int, int, int, int]) -> Any:
    return array[box[0] : box[2], box[1] : box[3]]


def _spread(cut: Any, at: list[int], size: tuple[int, ...]) -> Any:
    whole = np.zeros((*size, *cut.shape[2:]), cut.dtype)
    whole[at[0] : at[0] + cut.shape[0], at[1] : at[1] + cut.shape[1]] = cut
    return whole
