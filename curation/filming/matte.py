"""Difference mattes: where a frame differs from the empty place, and how it is cut out of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mild_bench.curation.filming.plate import Floats, strongest
from mild_bench.images import Mask, Rgb, Rgba

LOW, HIGH = 14.0, 30.0  # grey levels: a body pixel, and one that starts a body
LOW_NOISE, HIGH_NOISE = 2.5, 4.0  # the same in standard deviations of the pixel's own noise
SHADOW_RATIO = (0.7, 0.98)  # light left in a soft shadow; darker is taken for cloth or a shoe
SHADOW_HUE = 0.10  # how far the channels' ratios may differ in a shadow
FEET = 0.4  # lowest share of a body, where shadows lie
HEAD = 0.3  # of a body's height: so far above it a head may be missed
DULL_LEAST = 150  # pixels of a body worth completing
EDGE = 3  # pixels around the hard mask in which coverage is estimated
FAINTEST = 40.0  # grey levels between body and plate below which coverage cannot be measured


@dataclass(frozen=True)
class Difference:
    """Where a frame differs from the empty place.

    Attributes:
        body: people and things, bool height x width.
        touched: everything that may differ, shadows included.
    """

    body: Mask
    touched: Mask


def find_difference(frame: Rgb, expected: Floats, noise: Floats) -> Difference:
    """Compare a frame with the plate in its light; hysteresis over noise, shadows kept apart."""
    import cv2

    smooth = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 0.8)
    behind = cv2.GaussianBlur(expected, (0, 0), 0.8)
    away = strongest(smooth - behind)
    low = away > np.maximum(LOW, LOW_NOISE * noise)
    high = away > np.maximum(HIGH, HIGH_NOISE * noise)
    bright = _is_shadow(smooth, behind)
    body = _hysteresis(_thick(low & ~bright), high & ~bright)
    body = _with_dull_cloth(body, low, high)
    closed = cv2.morphologyEx(body.astype(np.uint8), cv2.MORPH_CLOSE, _disc(2)).astype(bool)
    return Difference(fill_holes(closed), _hysteresis(low, high) | closed)


def light_lost(frame: Rgb, expected: Floats, body: Mask) -> Floats:
    """Return the share of light that shadows around ``body`` take, smooth, in [0, 0.8].

    Only darkening that keeps the hue counts; under the body it is carried on from around it.
    """
    import cv2

    smooth = cv2.GaussianBlur(frame.astype(np.float32), (0, 0), 1.0)
    behind = cv2.GaussianBlur(expected, (0, 0), 1.0)
    ratio = (smooth.sum(2) + 12) / (behind.sum(2) + 12)
    blocked = cv2.dilate(body.astype(np.uint8), _disc(EDGE)) > 0
    weight = (~blocked).astype(np.float32)
    lost = (1 - ratio).clip(-0.1, 0.8) * weight
    total = cv2.GaussianBlur(lost, (0, 0), 3.0) / (cv2.GaussianBlur(weight, (0, 0), 3.0) + 1e-3)
    return np.asarray(((total - 0.02) / 0.98).clip(0, 0.8), np.float32)


def cut_out(frame: Rgb, behind: Floats, body: Mask, others: Mask) -> Rgba:
    """Cut ``body`` out of ``frame``: straight-alpha RGBA that gives the frame back over ``behind``.

    Coverage is 1 inside, 0 beyond ``EDGE`` pixels, and in between how far the pixel is on the way
    from the known background to the body colour next to it. ``others`` stay untouched.
    """
    import cv2

    now = frame.astype(np.float32)
    solid = cv2.erode(body.astype(np.uint8), _disc(2)) > 0
    if not solid.any():
        solid = body
    reach = (cv2.dilate(body.astype(np.uint8), _disc(EDGE)) > 0) & ~others
    towards = nearest(now, solid) - behind
    length = (towards**2).sum(2)
    share = ((now - behind) * towards).sum(2) / np.maximum(length, 1.0)
    feather = cv2.GaussianBlur(body.astype(np.float32), (0, 0), 1.0)
    # In the body a colour of its own (a hand, a collar) counts as fully as a mixture would.
    away = np.sqrt(((now - behind) ** 2).sum(2) / np.maximum(length, 1.0))
    clear = length > FAINTEST**2
    inner = np.where(clear, away, np.maximum(feather, 0.55))
    outer = np.minimum(np.where(clear, share, feather), 0.45)
    measured = np.where(body, inner, outer)
    alpha = np.where(solid, 1.0, np.where(reach, measured.clip(0, 1), 0.0))
    alpha[alpha < 0.04] = 0
    levels = np.rint(alpha * 255).astype(np.uint8)
    cover = np.maximum(levels.astype(np.float32) / 255, 1e-3)[..., None]
    colour = np.where(levels[..., None] > 0, (now - (1 - cover) * behind) / cover, 0)
    rgb = np.rint(colour).clip(0, 255).astype(np.uint8)
    return np.dstack([rgb, levels])


def nearest(values: Floats, known: Mask) -> Floats:
    """Return ``values`` with every pixel replaced by the nearest one that is ``known``."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(values[rows, columns])


def fill_holes(mask: Mask) -> Mask:
    """Fill what is enclosed by ``mask``, unless it is large against what encloses it."""
    import cv2

    filled = mask.copy()
    holes, labels, stats, _ = cv2.connectedComponentsWithStats(
        (~mask).astype(np.uint8), connectivity=4
    )
    limit = max(30, int(0.1 * mask.sum()))
    height, width = mask.shape
    for label in range(1, holes):
        x, y, w, h, area = stats[label]
        inside = x > 0 and y > 0 and x + w < width and y + h < height
        if inside and area <= min(limit, 150):
            filled[y : y + h, x : x + w] |= labels[y : y + h, x : x + w] == label
    return filled


def pack(mask: Mask) -> bytes:
    """Return a mask as few bytes, so that one of every frame fits in memory."""
    return zlib.compress(np.packbits(mask).tobytes(), 1)


def unpack(data: bytes, shape: tuple[int, int]) -> Mask:
    """Return the mask that ``pack`` made smaller."""
    bits = np.frombuffer(zlib.decompress(data), np.uint8)
    return np.unpackbits(bits, count=shape[0] * shape[1]).reshape(shape).astype(bool)


def _with_dull_cloth(body: Mask, low: Mask, high: Mask) -> Mask:
    """Give back what looked like shadow but lies within a body's outline: grey cloth on grey.

    Around the feet, where true shadows are, it takes a strong difference.
    """
    import cv2

    whole = body.copy()
    count, labels, stats, _ = cv2.connectedComponentsWithStats(body.astype(np.uint8))
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area < DULL_LEAST:
            continue
        box = np.s_[y : y + height, x : x + width]
        feet = round(height * (1 - FEET))
        cloth = np.vstack([low[box][:feet], high[box][feet:]])
        whole[box] |= _hull(labels[box] == label) & cloth
        head = np.s_[max(0, y - round(height * HEAD)) : y + height // 2, x : x + width]
        whole[head] |= low[head]
    return whole


def _hull(mask: Mask) -> Mask:
    import cv2

    rows, columns = np.nonzero(mask)
    outline = cv2.convexHull(np.stack([columns, rows], axis=1).astype(np.int32))
    return np.asarray(cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), outline, 1) > 0)


def _is_shadow(smooth: Floats, behind: Floats) -> Mask:
    ratio = (smooth + 4) / (behind + 4)
    red, green, blue = ratio[..., 0], ratio[..., 1], ratio[..., 2]
    light = (red + green + blue) / 3
    highest, lowest = (
        np.maximum(np.maximum(red, green), blue),
        np.minimum(np.minimum(red, green), blue),
    )
    same_hue = highest - lowest < SHADOW_HUE
    return np.asarray(same_hue & (light > SHADOW_RATIO[0]) & (light < SHADOW_RATIO[1]))


def _thick(mask: Mask) -> Mask:
    """Drop lines thinner than three pixels (a flapping tape, the edge of a pole)."""
    import cv2

    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _disc(1)) > 0)


def _hysteresis(low: Mask, high: Mask) -> Mask:
    import cv2

    count, labels = cv2.connectedComponents(low.astype(np.uint8), connectivity=8)
    keep = np.zeros(count, bool)
    keep[np.unique(labels[high & low])] = True
    keep[0] = False
    return np.asarray(keep[labels])


def _disc(radius: int) -> npt.NDArray[Any]:
    import cv2

    size = 2 * radius + 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)))
