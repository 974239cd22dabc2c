"""Quality rules over one scene: each returns the decisions it would enter into the ledger."""

from __future__ import annotations

from typing import Any

import numpy as np

from mild_bench.curation.ledger import Decision
from mild_bench.images import Mask, Rgb
from mild_bench.scene import Scene

# Below this LPIPS's AlexNet has nothing left to compare: its last maps shrink to 3 x 3.
SMALLEST_SIDE = 64
# Measured at 512 px: the softest bare plate of the asset pack has 27, scenes with people 104 and
# more; the plates blurred by 2 px (sigma) have 6 in the median.
LEAST_SHARPNESS = 15.0
# 0.1 % of the frame is 262 px at 512 x 512, a person 30 px high: nobody can judge that by eye.
LEAST_VISIBLE = 0.001


def check_size(scene_id: str, picture: Rgb) -> list[Decision]:
    """Reject a picture with a side below ``SMALLEST_SIDE`` pixels."""
    height, width = picture.shape[:2]
    if min(height, width) >= SMALLEST_SIDE:
        return []
    reason = f"{width} x {height} px; at least {SMALLEST_SIDE} x {SMALLEST_SIDE} are needed"
    return [Decision(scene_id, "rejected", reason, "rule:tiny")]


def check_sharpness(scene_id: str, picture: Rgb) -> list[Decision]:
    """Send a picture to review whose ``sharpness`` is below ``LEAST_SHARPNESS``."""
    value = sharpness(picture)
    if value >= LEAST_SHARPNESS:
        return []
    reason = f"blurred: variance of the Laplacian {value:.1f}, below {LEAST_SHARPNESS:g}"
    return [Decision(scene_id, "to-review", reason, "rule:blur")]


def sharpness(picture: Rgb) -> float:
    """Return the variance of the 4-neighbour Laplacian of the 8-bit grey picture, 0 and up.

    Higher = sharper (Pech-Pacheco et al. 2000, "Diatom autofocusing in brightfield microscopy").
    It depends on the size of the picture: compare pictures of one size.
    """
    import cv2

    grey = cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    return float(cv2.Laplacian(grey, cv2.CV_64F).var())


def check_plate(scene: Scene, picture: Rgb) -> list[Decision]:
    """Reject a scene whose picture without people differs where no person or shadow was.

    An exact comparison, pixel by pixel: a difference elsewhere means that picture, plate and
    layers do not belong together, so the truth would be wrong where an eraser must not touch.
    Scenes without a plate (``masks-only``) have no truth to check.

    Args:
        picture: the scene as it is stored, uint8 height x width x 3.
    """
    if scene.truth_kind == "masks-only":
        return []
    if picture.shape != scene.plate.shape:
        reason = f"the picture is {picture.shape[:2]}, the plate {scene.plate.shape[:2]}"
        return [Decision(scene.scene_id, "rejected", reason, "rule:plate")]
    gone = scene.belongings([person.layer_id for person in scene.people])
    changed = (scene.recompose(without=gone) != picture).any(axis=2)
    outside = int(np.count_nonzero(changed & ~touched_by(scene, gone)))
    if not outside:
        return []
    reason = f"picture and truth differ in {outside} px that no erased person or shadow touches"
    return [Decision(scene.scene_id, "rejected", reason, "rule:plate")]


def touched_by(scene: Scene, layers: frozenset[str]) -> Mask:
    """Return where the given layers can change the picture: their visible pixels and effects.

    Soft edges count from the first trace of alpha on; what opaque other layers hide does not.
    """
    touched = np.zeros(scene.plate.shape[:2], np.bool_)
    hidden = np.zeros_like(touched)
    effects = np.zeros_like(touched)
    for layer in reversed(scene.layers):
        alpha = layer.rgba[..., 3]
        if layer.layer_id not in layers:
            hidden |= alpha == 255
            continue
        touched |= (alpha > 0) & ~hidden
        if layer.effect is not None:
            effects |= layer.effect.any(axis=2)
    return np.asarray(touched | (effects & ~hidden))


def check_visibility(scene: Scene, annotations: dict[str, Any]) -> list[Decision]:
    """Send a scene to review in which a person shows on less than ``LEAST_VISIBLE`` of the frame.

    Args:
        annotations: what ``occlusion.annotate`` made of the scene.
    """
    frame = scene.plate.shape[0] * scene.plate.shape[1]
    areas = {p.layer_id: annotations["layers"][p.layer_id]["visible_area"] for p in scene.people}
    hidden = [f"{name} ({area} px)" for name, area in areas.items() if area < LEAST_VISIBLE * frame]
    if not hidden:
        return []
    reason = f"hardly visible, below {LEAST_VISIBLE:.1%} of the frame: {', '.join(hidden)}"
    return [Decision(scene.scene_id, "to-review", reason, "rule:few-pixels")]
