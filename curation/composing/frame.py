"""The part of a plate that becomes the scene, and the camera that looks at it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mild_bench.curation.composing.pack import Plate, Point


@dataclass(frozen=True)
class Camera:
    """A level camera over flat ground; pixels of the scene, metres.

    A person whose feet are at row ``y`` has ``px_per_m(y)`` pixels a metre.
    """

    horizon: float
    height_m: float
    focal: float
    size: int

    def px_per_m(self, y: float) -> float:
        """Pixels a metre for what stands at row ``y`` (below the horizon)."""
        return (y - self.horizon) / self.height_m

    def depth(self, y: float) -> float:
        """Distance in metres of the ground at row ``y``."""
        return self.focal / self.px_per_m(y)

    def row(self, depth: float) -> float:
        """Row of the ground at a distance in metres."""
        return self.horizon + self.height_m * self.focal / depth

    def squash(self, y: float) -> float:
        """How flat a circle on the ground looks at row ``y``: height over width."""
        return min(1.0, self.height_m / self.depth(y))


@dataclass(frozen=True)
class Frame:
    """The part of a plate that becomes the scene."""

    plate: Plate
    box: tuple[int, int, int, int]  # left, top, right, bottom in plate pixels
    mirrored: bool
    camera: Camera
    ground: tuple[Point, ...]  # polygon in scene pixels
    light: tuple[float, float, float]

    def on_ground(self, point: Point) -> bool:
        """Whether a point of the scene is on the plate's free ground."""
        inside = False
        x, y = point
        for (x1, y1), (x2, y2) in zip(self.ground, self.ground[1:] + self.ground[:1], strict=True):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
        return inside


def choose_frame(rng: np.random.Generator, plate: Plate, size: tuple[int, int], side: int) -> Frame:
    """Choose a square part of a plate of ``size`` (width, height) for a ``side`` pixel scene."""
    width, height = size
    most = min(width, height)
    window = int(rng.integers(min(most, round(side * 1.1)), most + 1))
    left = int(rng.integers(0, width - window + 1))
    top = int((height - window) * rng.uniform(0.75, 1.0))
    mirrored = bool(rng.random() < 0.5)
    scale = side / window

    def across(x: float) -> float:
        shown = (x * width - left) * scale
        return side - shown if mirrored else shown

    light_x, light_y, light_z = plate.light["direction"]
    assert plate.horizon is not None
    return Frame(
        plate,
        (left, top, left + window, top + window),
        mirrored,
        Camera(
            (plate.horizon * height - top) * scale,
            plate.camera_height_m,
            plate.focal * height * scale,
            side,
        ),
        tuple((across(x), (y * height - top) * scale) for x, y in plate.ground),
        (-light_x if mirrored else light_x, light_y, light_z),
    )
