"""Compose scenes with exact truth: people and props from the pack on clean photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench import __version__
from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.composing.frame import Frame, choose_frame
from mild_bench.curation.composing.light import Look, grade, measure_look, photograph, shadow
from mild_bench.curation.composing.pack import (
    Pack,
    cutout_picture,
    load_pack,
    person_parts,
    plate_picture,
)
from mild_bench.curation.composing.place import Wishes, lay_out
from mild_bench.curation.composing.placed import Placed
from mild_bench.curation.composing.recipe import Recipe
from mild_bench.curation.scene_folder import SCENES, write_scene
from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.progress import progress
from mild_bench.scene import Keypoint, Layer, Scene
from mild_bench.store import read_json, sweep_parts, write_json

LAYOUTS = 24  # plates and parts of them to try for one scene
GOLDEN = 0.6180339887498949
CAMOUFLAGE = 0.75  # how far clothes go towards the colours of the plate
CLOTHES = (5, 6)
COMPOSER = "1"  # goes up when the same recipe would give other pictures


@dataclass(frozen=True)
class ComposeSummary:
    """What ``compose`` did: finished scenes, how many of them were there already."""

    workspace: Path
    scenes: int
    kept: int


def compose(recipe: Recipe, workspace: Path) -> ComposeSummary:
    """Compose every scene of a recipe; those that are there already are kept.

    Each scene is a pure function of recipe, number and pack, and appears whole or not at all, so
    a killed run that is started again ends with the same bytes.

    Raises:
        BadInput: the folder holds another recipe's scenes, or no layout fits the recipe.
    """
    pack = load_pack(recipe.split)
    made_by = {
        "kind": "compose", "recipe": recipe.model_dump(mode="json"),
        "recipe_hash": recipe.hash, "pack": pack.hash, "composer": COMPOSER,
        "mild_bench": __version__,
    }  # fmt: skip
    _claim(workspace, made_by)
    missing = [
        number for number in range(recipe.scenes) if not _is_there(workspace, recipe, number)
    ]
    kept = recipe.scenes - len(missing)
    with progress("composing", total=recipe.scenes, done=kept) as advance:
        for number in missing:
            scene, annotations = compose_scene(recipe, number, pack)
            write_scene(workspace, scene, annotations)
            advance(1)
    return ComposeSummary(workspace, recipe.scenes, kept)


def _is_there(workspace: Path, recipe: Recipe, number: int) -> bool:
    return (workspace / SCENES / scene_id(recipe, number) / "scene.json").is_file()


def scene_id(recipe: Recipe, number: int) -> str:
    """Return the id of the scene of a number."""
    return f"{recipe.name}-{number:05d}"


def compose_scene(recipe: Recipe, number: int, pack: Pack) -> tuple[Scene, dict[str, Any]]:
    """Compose one scene and annotate it.

    Raises:
        BadInput: nothing fits what the recipe asks for.
    """
    for scene, wishes in _attempts(recipe, number, pack):
        annotations = annotate(scene)
        if annotations["occlusion_bin"] == wishes.occlusion_bin:
            return scene, annotations
    raise _no_layout(recipe, number)


def sketch_scene(recipe: Recipe, number: int, pack: Pack) -> Scene:
    """Compose one scene without annotations: its occlusion bin is that of the coarse layout.

    Raises:
        BadInput: nothing fits what the recipe asks for.
    """
    for scene, _ in _attempts(recipe, number, pack):
        return scene
    raise _no_layout(recipe, number)


def _attempts(recipe: Recipe, number: int, pack: Pack) -> Iterator[tuple[Scene, Wishes]]:
    wishes = _wishes(recipe, number)
    for attempt in range(LAYOUTS):
        rng = np.random.default_rng([recipe.seed, number, attempt])
        frame = _frame(rng, recipe, number, attempt, pack)
        placed = lay_out(rng, frame, pack, wishes)
        if placed is not None:
            yield _render(rng, recipe, number, frame, placed, pack), wishes


def _no_layout(recipe: Recipe, number: int) -> BadInput:
    return BadInput(
        f"recipe {recipe.name}: no layout found for scene {number} ({_wishes(recipe, number)}); "
        "ask for fewer people, smaller scenes or another occlusion bin"
    )


def _claim(workspace: Path, made_by: dict[str, Any]) -> None:
    path = workspace / "workspace.json"
    if workspace.exists() and not workspace.is_dir():
        raise BadInput(f"{workspace}: expected a folder to write to, got a file; name another")
    if path.exists():
        before = read_json(path)
        if any(before.get(key) != made_by[key] for key in ("recipe_hash", "pack", "composer")):
            raise BadInput(
                f"{workspace}: holds scenes of another recipe or version; name another folder"
            )
    elif workspace.exists() and any(workspace.iterdir()):
        raise BadInput(f"{workspace}: expected an empty or new folder, got one with other files")
    write_json(path, made_by)
    if (workspace / SCENES).is_dir():
        sweep_parts(workspace / SCENES)


def _wishes(recipe: Recipe, number: int) -> Wishes:
    low, high = recipe.people
    people = low + int(_spread(recipe.seed, number, 0) * (high - low + 1))
    return Wishes(
        people=people,
        occlusion_bin=_pick(recipe.occlusion, _spread(recipe.seed, number, 1)),
        entanglement=_pick(recipe.entanglement, _spread(recipe.seed, number, 2)),
        truncated=_spread(recipe.seed, number, 3) < recipe.truncation,
    )


def _spread(seed: int, number: int, which: int) -> float:
    """Return evenly spread values in [0, 1): twenty scenes in a row cover it, more keep them."""
    start, shuffle = np.random.default_rng([seed, 7919 + which]).random(2)
    block, place = divmod(number, 20)
    order = np.random.default_rng([seed, 104729 + which, block]).permutation(20)
    return float((start + shuffle * block * GOLDEN + order[place] / 20) % 1.0)


def _pick(shares: dict[Any, float], at: float) -> str:
    total = sum(shares.values())
    passed = 0.0
    for name, share in shares.items():
        passed += share / total
        if at < passed:
            return str(name)
    return str(next(name for name, share in reversed(shares.items()) if share > 0))


def _frame(
    rng: np.random.Generator, recipe: Recipe, number: int, attempt: int, pack: Pack
) -> Frame:
    plates = [plate for plate in pack.plates if plate.ground]
    order = np.random.default_rng([recipe.seed, 15485863, number // len(plates)])
    first = int(order.permutation(len(plates))[number % len(plates)])
    # Places that cannot hold the scene give way to the next ones.
    plate = plates[first] if attempt < 3 else plates[int(rng.integers(len(plates)))]
    high, wide = plate_picture(plate).shape[:2]
    return choose_frame(rng, plate, (wide, high), recipe.size)


def _render(
    rng: np.random.Generator, recipe: Recipe, number: int, frame: Frame, placed: list[Placed],
    pack: Pack,
) -> Scene:  # fmt: skip
    plate = _plate(frame, recipe.size)
    scale = recipe.size / (frame.box[2] - frame.box[0])
    look = measure_look(plate, frame.plate.blur_px * scale)
    disguised = _disguised(recipe, number, placed)
    names = _names(placed)
    layers = [
        _layer(rng, item, names, placed, frame, plate, look, camouflage=index == disguised)
        for index, item in enumerate(placed)
    ]
    return Scene(
        scene_id=scene_id(recipe, number),
        split=recipe.split,
        group=frame.plate.group,
        truth_kind="exact",
        plate=plate,
        layers=tuple(_seen(layers)),
        licence=frame.plate.licence,
        credits=(frame.plate.credit, "People and props: mild-bench asset pack, CC0-1.0"),
        provenance={
            "recipe": recipe.name, "recipe_hash": recipe.hash, "number": number,
            "seed": recipe.seed, "pack": pack.hash, "composer": COMPOSER,
            "plate": frame.plate.plate_id, "box": list(frame.box), "mirrored": frame.mirrored,
            "assets": [item.asset.asset_id for item in placed],
            "camouflaged": None if disguised is None else names[disguised],
        },
    )  # fmt: skip


def _plate(frame: Frame, size: int) -> Rgb:
    image = Image.fromarray(plate_picture(frame.plate)).crop(frame.box)
    image = image.resize((size, size), Image.Resampling.LANCZOS)
    if frame.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(image)


def _disguised(recipe: Recipe, number: int, placed: list[Placed]) -> int | None:
    if _spread(recipe.seed, number, 4) >= recipe.camouflage:
        return None
    people = [index for index, item in enumerate(placed) if item.asset.is_person]
    return people[number % len(people)]


def _names(placed: list[Placed]) -> list[str]:
    counts = {True: 0, False: 0}
    names = []
    for item in placed:
        counts[item.asset.is_person] += 1
        names.append(f"{'p' if item.asset.is_person else 'o'}{counts[item.asset.is_person]}")
    return names


def _layer(
    rng: np.random.Generator, item: Placed, names: list[str], placed: list[Placed], frame: Frame,
    plate: Rgb, look: Look, *, camouflage: bool,
) -> Layer:  # fmt: skip
    picture, parts, corner = _sized(item)
    colours = np.asarray(picture).astype(np.float32) / np.float32(255)
    rgb = grade(colours[..., :3], look)
    if camouflage and parts is not None:
        rgb = _disguise(rgb, parts, _behind(plate, corner, rgb.shape[:2]))
    graded = np.concatenate([rgb, colours[..., 3:]], axis=2)
    whole = Image.fromarray(np.floor(graded * 255 + np.float32(0.5)).astype(np.uint8))
    canvas, truncation = _on_frame(whole, corner, frame.camera.size)
    rgba = photograph(canvas, plate, look, rng)
    alpha = rgba[..., 3].astype(np.float32) / np.float32(255)
    partner = _partner(item, placed)
    return Layer(
        layer_id=names[placed.index(item)],
        kind="person" if item.asset.is_person else "prop",
        rgba=rgba,
        effect=shadow(item, alpha, frame.camera, {**frame.plate.light, "direction": frame.light}),
        parts=None if parts is None else _parts_on_frame(parts, corner, rgba),
        keypoints=tuple((*item.at((x, y)), int(v)) for x, y, v in item.asset.keypoints),
        subject=item.asset.subject,
        attached_to=names[placed.index(partner)] if partner and item.attached else None,
        relation=item.relation,
        person=names[placed.index(partner)] if partner else None,
        truncation=truncation,
    )


def _partner(item: Placed, placed: list[Placed]) -> Placed | None:
    if item.partner is None:
        return None
    return next(other for other in placed if other.asset == item.partner)


def _sized(item: Placed) -> tuple[Image.Image, npt.NDArray[np.uint8] | None, tuple[int, int]]:
    picture = cutout_picture(item.asset)
    size = (max(1, round(picture.width * item.scale)), max(1, round(picture.height * item.scale)))
    scaled = picture.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    parts = None
    if item.asset.is_person:
        labels = Image.fromarray(person_parts(item.asset)).resize(size, Image.Resampling.NEAREST)
        parts = np.asarray(
            labels.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if item.mirrored else labels
        )
    if item.mirrored:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    left, top = item.corner()
    return scaled, parts, (round(left), round(top))


def _behind(plate: Rgb, corner: tuple[int, int], shape: tuple[int, ...]) -> Rgb:
    size = plate.shape[0]
    left, top = (int(np.clip(value, 0, size - 8)) for value in corner)
    right = int(np.clip(corner[0] + shape[1], left + 8, size))
    return plate[top : int(np.clip(corner[1] + shape[0], top + 8, size)), left:right]


def _disguise(
    rgb: npt.NDArray[np.float32], parts: npt.NDArray[np.uint8], behind: Rgb
) -> npt.NDArray[np.float32]:
    """Move the clothes' mean colour towards the plate's behind them, keeping their folds."""
    half = behind.shape[0] // 2
    out = rgb.copy()
    for label, region in zip(CLOTHES, (behind[: half + 1], behind[half:]), strict=True):
        worn = parts == label
        if worn.sum() < 20:
            continue
        wanted = region.reshape(-1, 3).astype(np.float32).mean(axis=0) / 255
        have = rgb[worn].mean(axis=0)
        tuned = rgb[worn] * (wanted / np.maximum(have, 0.03)).clip(0.2, 4)
        out[worn] = rgb[worn] * (1 - CAMOUFLAGE) + tuned * CAMOUFLAGE
    return out.clip(0, 1)


def _on_frame(
    picture: Image.Image, corner: tuple[int, int], size: int
) -> tuple[Image.Image, float]:
    canvas = Image.new("RGBA", (size, size))
    canvas.paste(picture, corner)
    whole = int((np.asarray(picture.getchannel("A")) >= 128).sum())
    shown = int((np.asarray(canvas.getchannel("A")) >= 128).sum())
    return canvas, round(1 - shown / max(whole, 1), 6)


def _parts_on_frame(
    parts: npt.NDArray[np.uint8], corner: tuple[int, int], rgba: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    canvas = Image.new("L", (rgba.shape[1], rgba.shape[0]))
    canvas.paste(Image.fromarray(parts), corner)
    return np.where(rgba[..., 3] >= 128, np.asarray(canvas), 0).astype(np.uint8)


def _seen(layers: list[Layer]) -> Iterator[Layer]:
    """Set each keypoint's visibility to what the finished scene shows."""
    taken = np.zeros(layers[0].rgba.shape[:2], bool)
    finished: list[Layer] = []
    for layer in reversed(layers):
        points = tuple(_point_seen(point, taken) for point in layer.keypoints)
        finished.append(replace(layer, keypoints=points))
        taken = taken | layer.amodal
    yield from reversed(finished)


def _point_seen(point: Keypoint, taken: npt.NDArray[np.bool_]) -> Keypoint:
    x, y, seen = point
    column, row = int(np.floor(x)), int(np.floor(y))
    inside = 0 <= row < taken.shape[0] and 0 <= column < taken.shape[1]
    if not inside:
        return (round(x, 2), round(y, 2), 0)
    return (round(x, 2), round(y, 2), 1 if taken[row, column] else seen)
