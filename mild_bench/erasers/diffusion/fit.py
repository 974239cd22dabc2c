"""How a picture of any size becomes one that a network takes, and comes back to its own size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.images import Mask, Rgb

SizePolicy = Literal["resize", "pad", "crop"]
SIZE_POLICIES: tuple[SizePolicy, ...] = get_args(SizePolicy)
MOST_ENLARGED = 4  # a crop is never smaller than side / 4, so that it keeps some context


@dataclass(frozen=True)
class Fit:
    """Which part of a picture a network sees, and how large.

    Attributes:
        box: top, left, bottom, right of the part, in the picture's pixels.
        size: height, width the part is resized to.
        frame: height, width with padding below and to the right, in the network's pixels.
    """

    box: tuple[int, int, int, int]
    size: tuple[int, int]
    frame: tuple[int, int]

    def picture(self, rgb: Rgb) -> Rgb:
        """Return what the network sees of a picture; padding repeats the last row and column."""
        top, left, bottom, right = self.box
        seen = _resized(rgb[top:bottom, left:right], self.size)
        return np.pad(seen, (*self._padding(), (0, 0)), mode="edge")

    def mask(self, mask: Mask) -> Mask:
        """Return a mask in the network's frame: True where any of it is; never in the padding."""
        return np.asarray(self._share(mask) > 0)

    def area(self, mask: Mask) -> Mask:
        """Return a mask in the network's frame: True where it covers half of a pixel or more."""
        return np.asarray(self._share(mask) >= 0.5 - 1e-6)

    def padding(self) -> Mask:
        """Return the frame's pixels that are no part of the picture."""
        return np.pad(np.zeros(self.size, bool), self._padding(), constant_values=True)

    def back(self, result: Rgb, source: Rgb) -> Rgb:
        """Return ``source`` with the network's answer, back at its size, in its place."""
        top, left, bottom, right = self.box
        answer = _resized(result[: self.size[0], : self.size[1]], (bottom - top, right - left))
        whole = source.copy()
        whole[top:bottom, left:right] = answer
        return whole

    def _share(self, mask: Mask) -> npt.NDArray[np.float32]:
        top, left, bottom, right = self.box
        part = mask[top:bottom, left:right].astype(np.float32)
        rows, columns = (_overlap(n, m) for n, m in zip(part.shape, self.size, strict=True))
        return np.pad(rows @ part @ columns.T, self._padding())

    def _padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        return (0, self.frame[0] - self.size[0]), (0, self.frame[1] - self.size[1])


def fit(mask: Mask, policy: SizePolicy, *, side: int, multiple: int, margin: float) -> Fit:
    """Return the fit of a picture whose hole is ``mask`` (bool height x width, not empty).

    ``resize`` makes the longer side ``side`` pixels, ``pad`` keeps the size, ``crop`` takes the
    hole's bounding box with ``margin`` (a share of the box's longer side) on every side and makes
    that ``side`` pixels. Every frame is a multiple of ``multiple`` pixels; resizing keeps the
    proportions but for that rounding.
    """
    height, width = mask.shape
    if policy == "pad":
        frame = (_up(height, multiple), _up(width, multiple))
        return Fit((0, 0, height, width), (height, width), frame)
    box = (0, 0, height, width)
    if policy == "crop":
        box = _around(mask, margin=margin, least=max(side // MOST_ENLARGED, multiple))
    shape = (box[2] - box[0], box[3] - box[1])
    scale = side / max(shape)
    size = (_near(shape[0] * scale, multiple), _near(shape[1] * scale, multiple))
    return Fit(box, size, size)


def dilate(mask: Mask, pixels: int) -> Mask:
    """Return the pixels within ``pixels`` of the mask (Euclidean)."""
    import cv2

    if not pixels:
        return mask.copy()
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(mask | (far <= pixels)) if mask.any() else mask.copy()


def dilate_cells(mask: Mask, cells: int, *, cell: int) -> Mask:
    """Grow a mask to whole cells of ``cell`` pixels, and by ``cells`` of them all around.

    The mask's sides are multiples of ``cell``; 0 cells leave the mask as it is.
    """
    from scipy import ndimage

    if not cells:
        return mask.copy()
    height, width = mask.shape
    grid = mask.reshape(height // cell, cell, width // cell, cell).any(axis=(1, 3))
    square = np.ones((2 * cells + 1, 2 * cells + 1), bool)
    grown = ndimage.binary_dilation(grid, square)
    return np.asarray(grown.repeat(cell, axis=0).repeat(cell, axis=1))


def _around(mask: Mask, *, margin: float, least: int) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    spans = [(int(hits[0]), int(hits[-1]) + 1) for hits in (rows, columns)]
    grow = margin * max(stop - start for start, stop in spans)
    (top, bottom), (left, right) = (
        _widened(span, grow, least, length) for span, length in zip(spans, mask.shape, strict=True)
    )
    return top, left, bottom, right


def _widened(span: tuple[int, int], grow: float, least: int, length: int) -> tuple[int, int]:
    """Widen a span about its middle; where the frame is in the way, the other side gives more."""
    wide = min(max(round(span[1] - span[0] + 2 * grow), least), length)
    start = round((span[0] + span[1] - wide) / 2)
    start = min(max(start, 0), length - wide)
    return start, start + wide


def _resized(rgb: Rgb, size: tuple[int, int]) -> Rgb:
    if rgb.shape[:2] == size:
        return np.array(rgb)
    picture = Image.fromarray(np.ascontiguousarray(rgb))
    return np.asarray(picture.resize(size[::-1], Image.Resampling.LANCZOS))


def _overlap(have: int, want: int) -> npt.NDArray[np.float32]:
    """Return want x have: the share of each new pixel that each old one covers."""
    edges = np.arange(want + 1) * (have / want)
    old = np.arange(have)
    over = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    # Rounding of the edges must not count as a touch.
    return np.where(over > 1e-9 * have, over * (want / have), 0).astype(np.float32)


def _near(length: float, multiple: int) -> int:
    return max(round(length / multiple), 1) * multiple


def _up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
