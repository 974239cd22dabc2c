"""Where a metric is measured: whole, hole, band, outside."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask
from mild_bench.score import Region


def split(mask: Mask, *, band_px: int) -> dict[Region, Mask]:
    """Return the four regions of an erase mask, each bool height x width.

    ``hole`` is the mask, ``outside`` the rest, ``band`` the pixels within ``band_px / 2`` of the
    mask's outline on either side (Euclidean, the picture's own edge is no outline), ``whole`` all.
    """
    half = band_px / 2
    near = np.where(mask, _distance_to_zero(mask), _distance_to_zero(~mask)) <= half
    return {"whole": np.ones_like(mask), "hole": mask, "band": near, "outside": ~mask}


def mean_over(values: npt.NDArray[np.floating], region: Mask) -> float:
    """Return the mean of a height x width map over a region that is not empty, in float64."""
    return float(values[region].mean(dtype=np.float64))


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """Return top, left, bottom, right (exclusive) of what is True; the mask is not empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    columns = np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def square_around(mask: Mask, *, margin: float) -> tuple[slice, slice]:
    """Return rows and columns of a square about the mask, with ``margin`` of its longer side added.

    Moved inside the picture; where the picture's shorter side is less, it is cut to that.
    """
    top, left, bottom, right = bounding_box(mask)
    wanted = round((1 + 2 * margin) * max(bottom - top, right - left))
    side = min(wanted, *mask.shape)
    return _span(top, bottom, side, mask.shape[0]), _span(left, right, side, mask.shape[1])


def _span(low: int, high: int, side: int, limit: int) -> slice:
    start = min(max(0, (low + high - side) // 2), limit - side)
    return slice(start, start + side)


def _distance_to_zero(mask: Mask) -> npt.NDArray[np.floating]:
    if mask.all():
        return np.full(mask.shape, np.inf)
    import cv2

    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance)
