"""What a scene looked like when it was released, small enough to commit, to check a rebuilt one.

One line of JSON a scene. ``input``, ``plate``, ``labels`` and ``layers`` are SHA-256 of the
pixels: equal ones are the same bytes. Processors may round a pixel differently; then the tile
checksums (see ``tile_sums``) find the changed pixels of input and plate, and the SHA-256 of the
picture with these steps taken back proves that nothing is off by more than one grey level. The
label map is kept whole: a label may only flip on the outline of somebody, which is what one grey
level of alpha can do. About 30 kB a scene of 512 x 512. The thumbnail is for people and messages.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.curation.releasing.tile_sums import step_back, tile_sums
from mild_bench.errors import BadInput
from mild_bench.images import Grey, Mask, Rgb
from mild_bench.scene import Scene

Verdict = Literal["same bytes", "within one grey level", "differs"]
TILE = {"input": 16, "plate": 32}  # pixels; the plate is not composed, so less of it can change
THUMBNAIL = 16


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of a scene.

    Attributes:
        size: width, height in pixels.
        input, plate, labels, layers: SHA-256 of the pixels; ``layers`` of all of them with their
            effects, hidden parts included.
        thumbnail: the input at 16 x 16 x 3, 0 to 255.
        input_sums, plate_sums: tile checksums, base 85.
        label_map: the label map, zlib, base 85.
    """

    scene_id: str
    size: tuple[int, int]
    input: str
    plate: str
    labels: str
    layers: str
    thumbnail: list[list[list[int]]]
    input_sums: str
    plate_sums: str
    label_map: str


@dataclass(frozen=True)
class Agreement:
    """How a scene compares with a fingerprint, and what differs."""

    verdict: Verdict
    detail: str


def fingerprint(scene: Scene) -> Fingerprint:
    """Take the fingerprint of a scene."""
    picture, labels = scene.recompose(), scene.label_map()
    return Fingerprint(
        scene_id=scene.scene_id,
        size=(picture.shape[1], picture.shape[0]),
        input=_hash(picture),
        plate=_hash(scene.plate),
        labels=_hash(labels),
        layers=_hash(*_layer_pixels(scene)),
        thumbnail=_thumbnail(picture),
        input_sums=_text(tile_sums(picture, TILE["input"])),
        plate_sums=_text(tile_sums(scene.plate, TILE["plate"])),
        label_map=_text(zlib.compress(labels.tobytes(), 9)),
    )


def check(scene: Scene, known: Fingerprint) -> Agreement:
    """Compare a rebuilt scene with the fingerprint of the first one.

    ``same bytes``: input, plate, label map and all layers are the same. ``within one grey level``:
    proven for input and plate; labels flip on outlines only. ``differs``: anything else, also
    what cannot be proven.

    Raises:
        BadInput: a fingerprint of another scene, or a broken one.
    """
    if scene.scene_id != known.scene_id:
        raise BadInput(
            f"fingerprint: expected that of {scene.scene_id}, got that of {known.scene_id}"
        )
    picture, labels = scene.recompose(), scene.label_map()
    if (picture.shape[1], picture.shape[0]) != tuple(known.size):
        return Agreement("differs", f"{picture.shape[1]} x {picture.shape[0]} pixels")
    same = {
        "input": _hash(picture) == known.input,
        "plate": _hash(scene.plate) == known.plate,
        "label map": _hash(labels) == known.labels,
        "layers": _hash(*_layer_pixels(scene)) == known.layers,
    }
    changed = [name for name, equal in same.items() if not equal]
    if not changed:
        return Agreement("same bytes", "")
    faults = [
        *_beyond_one_level("input", picture, known.input, known.input_sums),
        *_beyond_one_level("plate", scene.plate, known.plate, known.plate_sums),
        *_beyond_outlines(labels, known),
    ]
    if not faults:
        return Agreement("within one grey level", f"not the same bytes: {', '.join(changed)}")
    apart = np.abs(np.subtract(_thumbnail(picture), known.thumbnail)).max()
    return Agreement("differs", f"{'; '.join(faults)}; thumbnails are up to {apart} levels apart")


def _beyond_one_level(name: str, picture: Rgb, digest: str, sums: str) -> list[str]:
    if _hash(picture) == digest:
        return []
    back = step_back(picture, _bytes(sums), TILE[name])
    if back is not None and _hash(back) == digest:
        return []
    return [f"{name}: not proven to be within one grey level"]


def _beyond_outlines(labels: Grey, known: Fingerprint) -> list[str]:
    if _hash(labels) == known.labels:
        return []
    try:
        old = np.frombuffer(zlib.decompress(_bytes(known.label_map)), np.uint8)
        flipped = labels != old.reshape(labels.shape)
    except (zlib.error, ValueError) as error:
        raise BadInput(f"fingerprint of {known.scene_id}: broken label map ({error})") from error
    inner = int((flipped & ~_outlines(old.reshape(labels.shape))).sum())
    return [f"labels: {inner} pixels differ away from any outline"] if inner else []


def _outlines(labels: Grey) -> Mask:
    """Pixels with another label among their eight neighbours."""
    near = np.pad(labels, 1, mode="edge")
    height, width = labels.shape
    shifts = [(y, x) for y in range(3) for x in range(3)]
    others = [near[y : y + height, x : x + width] != labels for y, x in shifts]
    return np.asarray(np.any(others, axis=0))


def _layer_pixels(scene: Scene) -> list[npt.NDArray[np.uint8]]:
    pictures = [(layer.rgba, layer.effect) for layer in scene.layers]
    return [array for pair in pictures for array in pair if array is not None]


def _hash(*arrays: npt.NDArray[np.uint8]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _thumbnail(picture: Rgb) -> list[list[list[int]]]:
    small = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    values: list[list[list[int]]] = np.asarray(small).tolist()
    return values


def _text(data: bytes) -> str:
    return base64.b85encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b85decode(text)
    except ValueError as error:
        raise BadInput(f"fingerprint: broken base 85 ({error})") from error
