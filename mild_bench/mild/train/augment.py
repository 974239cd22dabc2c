"""Other scenes from a scene: part of it, mirrored, in another light. Layers stay exact."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from mild_bench.images import Rgb
from mild_bench.scene import Keypoint, Layer, Scene

FLIPPED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
"""COCO-17 after a left-right flip."""
WHOLE = 0.4  # share of examples that show the whole scene
LEAST_PEOPLE = 24  # pixels that must show of one
ANY_HUE = 0.5  # share of examples whose hues are turned by any angle, at strength 1


@dataclass(frozen=True)
class Augmentation:
    """How much pictures are changed.

    Attributes:
        colour: strength of gain, gamma, tint, hue and saturation; 0 leaves colours alone.
        zoom: the smallest part of the scene's side that is shown, in (0, 1].
        flip: whether half of them are mirrored.
    """

    colour: float = 1.0
    zoom: float = 0.6
    flip: bool = True


@dataclass(frozen=True)
class Light:
    """Hue and saturation, then one table for each channel: the same for all pictures of an example.

    Attributes:
        mix: 3 x 3, what each channel becomes of all.
        table: 256 x 3.
    """

    mix: npt.NDArray[np.float32]
    table: npt.NDArray[np.uint8]

    @classmethod
    def random(cls, rng: np.random.Generator, strength: float) -> Light:
        """Draw gain, gamma, tint, hue and saturation.

        Hues are turned a little, or by any angle: the few photographs that there are shall not
        teach which colours the world has.
        """
        levels = np.arange(256)[:, None] / 255
        gamma = np.exp(rng.normal(0, 0.25 * strength))
        gain = np.exp(rng.normal(0, 0.12 * strength) + rng.normal(0, 0.07 * strength, 3))
        saturation = np.exp(rng.normal(0, 0.4 * strength))
        little, any_angle = rng.normal(0, 0.15 * strength), rng.uniform(-np.pi, np.pi)
        angle = any_angle if rng.random() < ANY_HUE * strength else little
        table = (255 * (levels**gamma * gain).clip(0, 1) + 0.5).astype(np.uint8)
        return cls(hue_and_saturation(angle, saturation), table)

    @classmethod
    def unchanged(cls) -> Light:
        """Return the light that changes nothing."""
        table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
        return cls(np.eye(3, dtype=np.float32), table)

    def on(self, rgb: Rgb) -> Rgb:
        """Return the picture in this light."""
        mixed = cv2.transform(np.ascontiguousarray(rgb), self.mix)
        return np.asarray(cv2.LUT(mixed, self.table[None]), np.uint8)


def hue_and_saturation(angle: float, saturation: float) -> npt.NDArray[np.float32]:
    """Return the 3 x 3 matrix that turns colours about the grey axis and stretches them from it.

    Args:
        angle: in radians.
        saturation: factor; 0 leaves grey.
    """
    turn, _ = cv2.Rodrigues(np.full(3, angle / np.sqrt(3)))
    grey = np.full((3, 3), 1 / 3)
    return np.asarray(grey + saturation * (turn @ (np.eye(3) - grey)), np.float32)


def vary(rng: np.random.Generator, scene: Scene, how: Augmentation) -> Scene:
    """Return a square part of a scene, maybe mirrored, in another light."""
    side = min(scene.plate.shape[:2])
    part = side if rng.random() < WHOLE else round(side * rng.uniform(how.zoom, 1))
    top, left = (int(rng.integers(0, length - part + 1)) for length in scene.plate.shape[:2])
    window = (slice(top, top + part), slice(left, left + part))
    mirrored = how.flip and rng.random() < 0.5
    return _part(scene, window, mirrored, Light.random(rng, how.colour))


def middle(scene: Scene) -> Scene:
    """Return the square in the middle of a scene; one that is square stays as it is."""
    sides = scene.plate.shape[:2]
    top, left = ((length - min(sides)) // 2 for length in sides)
    window = (slice(top, top + min(sides)), slice(left, left + min(sides)))
    return scene if sides[0] == sides[1] else _part(scene, window, False, Light.unchanged())


def vary_plate(rng: np.random.Generator, plate: Rgb, least: int, how: Augmentation) -> Rgb:
    """Return a square part of a photograph of at least ``least`` pixels (or all there is)."""
    most = min(plate.shape[:2])
    part = int(rng.integers(min(least, most), most + 1))
    top, left = (int(rng.integers(0, length - part + 1)) for length in plate.shape[:2])
    window = (slice(top, top + part), slice(left, left + part))
    mirrored = how.flip and rng.random() < 0.5
    return Light.random(rng, how.colour).on(_seen(plate, window, mirrored))


def in_sight(scene: Scene) -> list[Layer]:
    """Return the people of whom enough shows to be erased."""
    return [
        person
        for person in scene.people
        if np.count_nonzero(scene.visible(person.layer_id)) >= LEAST_PEOPLE
    ]


def _part(scene: Scene, window: tuple[slice, slice], mirrored: bool, light: Light) -> Scene:
    return replace(
        scene,
        plate=light.on(_seen(scene.plate, window, mirrored)),
        layers=tuple(_layer(layer, window, mirrored, light) for layer in scene.layers),
    )


def _seen(
    array: npt.NDArray[np.uint8], window: tuple[slice, slice], mirrored: bool
) -> npt.NDArray[np.uint8]:
    part = array[window]
    return np.ascontiguousarray(part[:, ::-1] if mirrored else part)


def _layer(layer: Layer, window: tuple[slice, slice], mirrored: bool, light: Light) -> Layer:
    rgba = _seen(layer.rgba, window, mirrored)
    lit = np.concatenate([light.on(rgba[..., :3]), rgba[..., 3:]], axis=2)
    return replace(
        layer,
        rgba=lit,
        effect=None if layer.effect is None else _seen(layer.effect, window, mirrored),
        parts=None if layer.parts is None else _seen(layer.parts, window, mirrored),
        keypoints=_points(layer.keypoints, window, mirrored),
    )


def _points(
    points: tuple[Keypoint, ...], window: tuple[slice, slice], mirrored: bool
) -> tuple[Keypoint, ...]:
    """Move joints; those that leave the picture are no longer known."""
    rows, columns = window
    high, wide = rows.stop - rows.start, columns.stop - columns.start
    moved = []
    for x, y, seen in points:
        to_x, to_y = x - columns.start, y - rows.start
        inside = 0 <= to_x < wide and 0 <= to_y < high
        moved.append((wide - to_x if mirrored else to_x, to_y, seen if inside else 0))
    return tuple(moved[index] for index in FLIPPED) if mirrored and moved else tuple(moved)
