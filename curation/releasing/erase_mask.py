"""The masks an eraser may get: how much is known about what has to go."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Mask
from mild_bench.scene import Scene

EFFECTS_MARGIN = 3  # pixels around silhouette and shadow, for their soft rims
EFFECTS_LEVELS = 4  # a shadow weaker than this many of 255 grey levels is not seen at the rim


def erase_mask(scene: Scene, people: Collection[str], source: str) -> Mask:
    """Return the mask for erasing some people and what they hold, bool h x w, True = erase.

    Args:
        people: ids of the people to erase.
        source: ``exact``: the pixels where they show (at least half covered, nothing nearer);
            ``dilated:<px>``: those and all within so many pixels; ``box``: for each person the
            upright box around them; ``effects``: where they show and every pixel that changes by
            more than 4 grey levels when they leave (their shadows, too), and all within 3
            pixels of those. Outside of an ``effects`` mask the truth is within 4 grey levels of
            the input.

    Raises:
        BadInput: an unknown source, or an id that is no person of the scene.
    """
    ids = {person.layer_id for person in scene.people}
    if not set(people) <= ids:
        strange = ", ".join(sorted(set(people) - ids))
        raise BadInput(
            f"scene {scene.scene_id}: erase: expected some of {', '.join(sorted(ids))}, "
            f"got {strange}"
        )
    if source == "box":
        return _boxes(scene, people)
    shown = _shown(scene, people)
    if source == "exact":
        return shown
    if source == "effects":
        return dilate(shown | _changed(scene, people), EFFECTS_MARGIN)
    kind, _, pixels = source.partition(":")
    if kind != "dilated" or not pixels.isascii() or not pixels.isdigit():
        raise BadInput(
            f"mask source: expected exact, dilated:<pixels>, box or effects, got {source!r}"
        )
    return dilate(shown, int(pixels))


def dilate(mask: Mask, pixels: int) -> Mask:
    """Return all pixels whose centre is at most ``pixels`` away from one of the mask."""
    import cv2

    steps = np.arange(-pixels, pixels + 1)
    disc = (steps[:, None] ** 2 + steps**2 <= pixels**2).astype(np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc) > 0)


def _shown(scene: Scene, people: Collection[str]) -> Mask:
    mask = np.zeros(scene.plate.shape[:2], np.bool_)
    for name in scene.belongings(people):
        mask |= scene.visible(name)
    return mask


def _changed(scene: Scene, people: Collection[str]) -> Mask:
    if scene.truth_kind == "masks-only":
        return np.zeros(scene.plate.shape[:2], np.bool_)
    truth = scene.recompose(without=scene.belongings(people))
    change = np.abs(scene.recompose().astype(np.int16) - truth)
    return np.asarray(change.max(axis=2) > EFFECTS_LEVELS)


def _boxes(scene: Scene, people: Collection[str]) -> Mask:
    mask = np.zeros(scene.plate.shape[:2], np.bool_)
    for name in people:
        rows, columns = np.nonzero(_shown(scene, [name]))
        if rows.size:
            mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    return mask
