"""The asset pack in the package: people, props and plates, split into train and test."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Grey, Rgb
from mild_bench.scene import Keypoint
from mild_bench.store import sha256

PACK = Path(__file__).parent / "assets"
Point = tuple[float, float]

# COCO-17 order after a left-right flip.
FLIPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)


@dataclass(frozen=True)
class Cutout:
    """A cut-out person or prop. Coordinates are pixels of its picture, centres at .5.

    Attributes:
        subject: the character of a person, the id of a prop.
        yaw: where it faces in degrees, 0 the camera, + the camera's right.
        elevation: camera elevation in degrees that it was rendered from.
        ground: ground point under its centre.
        feet: ground points that touch the ground.
        light: unit vector to the key light, x right, y up, z to the camera.
        seat, grip: where one sits on it, where a hand holds it.
    """

    asset_id: str
    kind: str
    subject: str
    pose: str
    yaw: float
    elevation: float
    px_per_m: float
    height_m: float
    ground: Point
    feet: tuple[Point, ...]
    light: tuple[float, float, float]
    keypoints: tuple[Keypoint, ...] = ()
    seat: Point | None = None
    grip: Point | None = None

    @property
    def is_person(self) -> bool:
        """Whether this is a person."""
        return self.kind == "person"


@dataclass(frozen=True)
class Plate:
    """A clean photograph. Heights are fractions of its height, widths of its width.

    Attributes:
        horizon: height of the horizon; None where nobody can be placed.
        ground: polygon where feet can be (below 1 = under the frame).
        focal: focal length over picture height.
        blur_px: blur of the photo, standard deviation in its own pixels.
        light: ``direction`` to the key light; strength of ``cast``, ``ambient`` shadow in [0, 1].
    """

    plate_id: str
    split: str
    group: str
    place: str
    licence: str
    credit: str
    horizon: float | None
    camera_height_m: float
    focal: float
    ground: tuple[Point, ...]
    blur_px: float
    light: dict[str, Any]


@dataclass(frozen=True)
class Pack:
    """What may be used for one split."""

    split: str
    people: tuple[Cutout, ...]
    props: tuple[Cutout, ...]
    plates: tuple[Plate, ...]
    hash: str


@functools.cache
def load_pack(split: str) -> Pack:
    """Read the index of the pack for ``train`` or ``test``.

    Raises:
        BadInput: no such split, or no pack.
    """
    if split not in ("train", "test"):
        raise BadInput(f"split: expected train or test, got {split!r}")
    path = PACK / "index.json"
    if not path.is_file():
        raise BadInput(f"{path}: the asset pack is missing; install the package again")
    data = path.read_bytes()
    index = json.loads(data)
    side = "_0" if split == "train" else "_1"  # one view of each prop for each split
    return Pack(
        split,
        tuple(_person(record) for record in index["people"] if record["split"] == split),
        tuple(_prop(record) for record in index["props"] if record["id"].endswith(side)),
        tuple(_plate(record) for record in index["plates"] if record["split"] == split),
        sha256(data),
    )


def cutout_picture(asset: Cutout) -> Image.Image:
    """Return the RGBA picture of a cut-out, not mirrored (do not change it)."""
    return _picture(f"{'people' if asset.is_person else 'props'}/{asset.asset_id}.webp", "RGBA")


def person_parts(asset: Cutout) -> Grey:
    """Return the parsing labels of a person, uint8 height x width, not mirrored."""
    with Image.open(PACK / "people" / f"{asset.asset_id}.parts.png") as image:
        return np.asarray(image)


def plate_picture(plate: Plate) -> Rgb:
    """Return a plate, uint8 height x width x 3."""
    return np.asarray(_picture(f"plates/{plate.plate_id}.jpg", "RGB"))


@functools.lru_cache(maxsize=256)
def _picture(name: str, mode: str) -> Image.Image:
    with Image.open(PACK / name) as image:
        return image.convert(mode)


def flip(asset: Cutout, width: int) -> Cutout:
    """Return the description of a cut-out mirrored left to right (``width`` of its picture)."""

    def mirror(point: Point) -> Point:
        return (width - point[0], point[1])

    points = tuple((width - x, y, v) for x, y, v in asset.keypoints)
    return Cutout(
        **{
            **asset.__dict__,
            "yaw": -asset.yaw,
            "ground": mirror(asset.ground),
            "feet": tuple(mirror(foot) for foot in asset.feet),
            "light": (-asset.light[0], *asset.light[1:]),
            "keypoints": tuple(points[i] for i in FLIPPED) if points else (),
            "seat": mirror(asset.seat) if asset.seat else None,
            "grip": mirror(asset.grip) if asset.grip else None,
        }
    )


def _person(record: dict[str, Any]) -> Cutout:
    return Cutout(
        asset_id=record["id"],
        kind="person",
        subject=record["character"],
        pose=record["pose"],
        yaw=record["yaw"],
        elevation=record["elevation"],
        px_per_m=record["px_per_m"],
        height_m=record["height_m"],
        ground=_point(record["ground"]),
        feet=tuple(_point(foot) for foot in record["feet"]),
        light=tuple(record["light"]),
        keypoints=tuple((float(x), float(y), int(v)) for x, y, v in record["keypoints"]),
    )


def _prop(record: dict[str, Any]) -> Cutout:
    left, right = record["contact_x"]
    x, y = record["ground"]
    inset = (right - left) * 0.18
    return Cutout(
        asset_id=record["id"],
        kind=record["kind"],
        subject=record["id"],
        pose="",
        yaw=record["yaw"],
        elevation=8.0,
        px_per_m=record["px_per_m"],
        height_m=record["height_m"],
        ground=(x, y),
        feet=((left + inset, y), (x, record["ground_y"] - 2), (right - inset, y)),
        light=tuple(record["light"]),
        seat=_point(record["seat"]) if record["seat"] else None,
        grip=_point(record["grip"]) if record["grip"] else None,
    )


def _plate(record: dict[str, Any]) -> Plate:
    return Plate(
        plate_id=record["id"],
        split=record["split"],
        group=record["group"],
        place=record["place"],
        licence=record["licence"],
        credit=record["credit"],
        horizon=record["horizon"],
        camera_height_m=record["camera_height_m"] or 0.0,
        focal=record["focal"],
        ground=tuple(_point(point) for point in record["ground"] or ()),
        blur_px=record["blur_px"],
        light=record["light"],
    )


def _point(values: list[float]) -> Point:
    return (float(values[0]), float(values[1]))
