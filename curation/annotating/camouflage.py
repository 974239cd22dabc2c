"""How far a person stands out from the plate behind: contrast across the visible silhouette.

At a pixel just inside the silhouette, take the mean CIE Lab colour and the standard deviation of
L* of the person's edge strip and of the plate's edge strip, both within a window around the pixel.
The local contrast is ``sqrt(dE^2 + dT^2)``: dE is the distance of the two mean colours (CIE 1976
delta E*ab), dT the difference of the two standard deviations (texture), both in units of L*, so
0 = nothing tells person from plate, 100 = black on white. Only the plate counts as background:
edges against other layers are occlusion, not camouflage.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mild_bench.curation.annotating.coverage import Box, box_of
from mild_bench.images import Mask, Rgb

# Strips and windows reach this share of the frame's shorter side (5 px at 512): wide enough for a
# texture, narrow enough for one piece of clothing.
REACH = 0.01
# Chosen by eye on 120 random placements of rendered people on photographs: at 15 the order of the
# blended shares is the order in which a viewer misses limbs. (The just noticeable difference of
# large even fields side by side, about 2.3 after Mahy et al. 1994, is far too strict for photos.)
BLENDS_BELOW = 15.0
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Outline:
    """The contrast along one silhouette.

    Attributes:
        contrast: mean local contrast, 0 to about 150, in units of L*; lower blends in more.
        blended: share of the silhouette with a local contrast below ``BLENDS_BELOW``.
    """

    contrast: float
    blended: float


def to_lab(picture: Rgb) -> Floats:
    """Turn sRGB uint8 into CIE Lab (D65), float32 height x width x 3, L* in [0, 100]."""
    import cv2

    scaled = picture.astype(np.float32) / np.float32(255)
    return np.asarray(cv2.cvtColor(scaled, cv2.COLOR_RGB2LAB), np.float32)


def outline(lab: Floats, visible: Mask, plate: Mask) -> Outline | None:
    """Measure the contrast of ``visible`` against ``plate`` where the two touch.

    Args:
        lab: the picture, from ``to_lab``.
        visible: where the person shows.
        plate: where no layer covers the plate.

    Returns:
        None where they touch nowhere (hidden, or in front of others only).
    """
    box = box_of(visible)
    if box is None:
        return None
    reach = max(2, round(REACH * min(visible.shape)))
    around = _grown(box, reach)
    lab, visible, plate = lab[around], visible[around], plate[around]
    inner = visible & (_window_sum(plate, reach) > 0.5)
    outer = plate & (_window_sum(visible, reach) > 0.5)
    if not inner.any():
        return None
    person, behind = (_statistics(lab, strip, inner, reach) for strip in (inner, outer))
    local = np.sqrt(np.square(person - behind).sum(axis=1))
    return Outline(float(local.mean()), float((local < BLENDS_BELOW).mean()))


def _statistics(lab: Floats, strip: Mask, at: Mask, reach: int) -> Floats:
    """Mean L*, a*, b* and deviation of L* of the strip in the windows around ``at``, n x 4."""
    values = np.empty((*strip.shape, 4), np.float32)
    values[..., :3] = lab
    values[..., 3] = np.square(lab[..., 0])
    values[~strip] = 0
    means = _window_sum(values, reach)[at] / _window_sum(strip, reach)[at][:, None]
    variance = means[:, 3] - np.square(means[:, 0])
    means[:, 3] = np.sqrt(np.clip(variance, 0, None))
    return means


def _grown(box: Box, by: int) -> tuple[slice, slice]:
    left, top, width, height = box
    rows = slice(max(0, top - by), top + height + by)
    return rows, slice(max(0, left - by), left + width + by)


def _window_sum(values: npt.NDArray[np.bool_] | Floats, reach: int) -> Floats:
    import cv2

    side = 2 * reach + 1
    floats = np.ascontiguousarray(values, np.float32)
    edge = cv2.BORDER_CONSTANT
    return np.asarray(cv2.boxFilter(floats, -1, (side, side), normalize=False, borderType=edge))
