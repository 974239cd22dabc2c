"""A cut-out that stands in a scene."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mild_bench.curation.composing.frame import Camera, Frame
from mild_bench.curation.composing.pack import Cutout, Point, cutout_picture, flip
from mild_bench.scene import Relation

APART_M = 0.42  # two people cannot stand closer


@dataclass(frozen=True)
class Placed:
    """A cut-out in the scene: its ground point stands at ``x, y``."""

    asset: Cutout
    mirrored: bool
    x: float
    y: float
    scale: float
    order: float  # nearer is larger
    relation: Relation | None = None
    partner: Cutout | None = None  # the person it goes with
    attached: bool = False

    def corner(self) -> Point:
        """Left and top of its picture in the scene."""
        return (
            self.x - self.asset.ground[0] * self.scale,
            self.y - self.asset.ground[1] * self.scale,
        )

    def at(self, point: Point) -> Point:
        """Where a point of its picture is in the scene."""
        left, top = self.corner()
        return (left + point[0] * self.scale, top + point[1] * self.scale)


def put(frame: Frame, asset: Cutout, mirrored: bool, spot: Point, size: float = 1.0) -> Placed:
    """Stand a cut-out on a spot at its natural size there, times ``size``."""
    if mirrored:
        asset = flip(asset, cutout_picture(asset).width)
    scale = frame.camera.px_per_m(spot[1]) / asset.px_per_m * size
    x, y = float(spot[0]), float(spot[1])
    return Placed(asset, mirrored, x, y, float(scale), order=y)


def apart(camera: Camera, spot: Point, other: Placed) -> bool:
    """Whether a spot on the ground leaves room for someone who stands there already."""
    centre = camera.size / 2
    across = (spot[0] - centre) / camera.px_per_m(spot[1]) - (other.x - centre) / camera.px_per_m(
        other.y
    )
    return math.hypot(across, camera.depth(spot[1]) - camera.depth(other.y)) >= APART_M
