"""Holes to learn inpainting from: strokes, boxes, and the outlines of people."""

from __future__ import annotations

import cv2
import numpy as np

from mild_bench.images import Mask
from mild_bench.scene import Scene

LEAST, MOST = 0.02, 0.6  # share of the picture that a hole covers
TRIES = 8


def random_hole(rng: np.random.Generator, side: int, outlines: list[Mask]) -> Mask:
    """Return a hole in a square picture, bool side x side, True = erase.

    Args:
        rng: where chance comes from.
        side: pixels.
        outlines: masks of things (any size), some of which are used, moved and scaled.
    """
    for _ in range(TRIES):
        hole = np.zeros((side, side), np.uint8)
        kind = rng.random()
        if kind < 0.4 and outlines:
            for _ in range(int(rng.integers(1, 4))):
                _stamp(rng, hole, outlines[int(rng.integers(len(outlines)))])
        elif kind < 0.8:
            for _ in range(int(rng.integers(1, 5))):
                _stroke(rng, hole)
        else:
            for _ in range(int(rng.integers(1, 3))):
                _box(rng, hole)
        if LEAST <= hole.mean() <= MOST:
            return np.asarray(hole > 0)
    hole = np.zeros((side, side), np.uint8)
    hole[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = 1
    return np.asarray(hole > 0)


def erase_hole(rng: np.random.Generator, scene: Scene, gone: frozenset[str], change: Mask) -> Mask:
    """Return the mask that an eraser might get for some layers, as the benchmark draws them.

    Half the time where they and their shadows are, else where they show, grown by up to 6 pixels
    of 256; one in eight is boxes around them.

    Args:
        rng: where chance comes from.
        scene: what they are in.
        gone: ids of the layers to erase.
        change: where the picture changes visibly when they leave, bool height x width.
    """
    side = scene.plate.shape[0]
    shown = np.zeros(scene.plate.shape[:2], np.bool_)
    boxes = np.zeros_like(shown)
    for name in gone:
        mask = scene.visible(name)
        shown |= mask
        if mask.any():
            rows, columns = np.nonzero(mask)
            boxes[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    kind = rng.random()
    if kind < 0.5:
        return grown(shown | change, max(1, round(side * rng.uniform(1, 3) / 256)))
    if kind < 0.875:
        return grown(shown, round(side * rng.uniform(0, 6) / 256))
    return boxes


def grown(mask: Mask, pixels: int) -> Mask:
    """Return all pixels at most ``pixels`` away from the mask."""
    steps = np.arange(-pixels, pixels + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= pixels**2).astype(np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)


def _stamp(rng: np.random.Generator, hole: cv2.typing.MatLike, outline: Mask) -> None:
    side = hole.shape[0]
    rows, columns = np.nonzero(outline)
    if rows.size < 16:
        return
    shape = outline[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.uint8)
    scale = side * rng.uniform(0.25, 0.9) / max(shape.shape)
    wide, high = (max(4, round(length * scale)) for length in shape.shape[::-1])
    small = cv2.resize(shape, (min(wide, side), min(high, side)), interpolation=cv2.INTER_NEAREST)
    if rng.random() < 0.5:
        small = small[:, ::-1]
    top = int(rng.integers(0, side - small.shape[0] + 1))
    left = int(rng.integers(0, side - small.shape[1] + 1))
    view = hole[top : top + small.shape[0], left : left + small.shape[1]]
    np.maximum(view, small, out=view)


def _stroke(rng: np.random.Generator, hole: cv2.typing.MatLike) -> None:
    side = hole.shape[0]
    at = rng.uniform(0, side, 2)
    angle = rng.uniform(0, 2 * np.pi)
    width = int(side * rng.uniform(0.04, 0.16))
    for _ in range(int(rng.integers(2, 7))):
        angle += rng.normal(0, 0.9)
        to = at + side * rng.uniform(0.05, 0.25) * np.array([np.cos(angle), np.sin(angle)])
        cv2.line(hole, _pixel(at), _pixel(to), 1, width)
        cv2.circle(hole, _pixel(to), width // 2, 1, -1)
        at = to


def _pixel(at: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[int, int]:
    return int(at[0]), int(at[1])


def _box(rng: np.random.Generator, hole: cv2.typing.MatLike) -> None:
    side = hole.shape[0]
    high, wide = (int(side * rng.uniform(0.12, 0.6)) for _ in range(2))
    top, left = int(rng.integers(0, side - high + 1)), int(rng.integers(0, side - wide + 1))
    hole[top : top + high, left : left + wide] = 1
