"""Pictures for the page: each task's input once, and crops of where the others differ from it.

A crop is laid over the input by the page, so that nine erasers of one task cost one picture and
nine crops of the mask's bounding box.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.images import Mask, Rgb, Rgba

QUALITY = 80
MARGIN = 2  # pixels around a crop: lossy coding rings at its edges
OUTLINE_TOLERANCE = 0.6  # pixels that the drawn outline may be off


@dataclass(frozen=True)
class Crop:
    """A picture to lay over the input at ``x``, ``y`` (pixels of the small input)."""

    x: int
    y: int
    width: int
    height: int
    uri: str


@dataclass(frozen=True)
class TaskPictures:
    """One task at the page's size.

    Attributes:
        outline: the erase mask's outline as an SVG path.
        focus: x, y, width, height around what was erased, for thumbnails.
        truth: None without one; a crop of width 0 equals the input.
        results: by label.
    """

    width: int
    height: int
    input: str
    outline: str
    focus: tuple[int, int, int, int]
    truth: Crop | None
    results: Mapping[str, Crop]


def task_pictures(
    source: Rgb, mask: Mask, truth: Rgb | None, results: Mapping[str, Rgb], *, size: int
) -> TaskPictures:
    """Shrink and encode one task; equal pictures give equal bytes.

    ``results`` are as large as ``source``; ``size`` is the longest side on the page, in pixels.
    """
    small = shrink(source, size)
    height, width = small.shape[:2]
    return TaskPictures(
        width=width,
        height=height,
        input=webp_uri(small),
        outline=outline(mask, (height, width)),
        focus=_focus(mask, (height, width)),
        truth=None if truth is None else _crop(small, shrink(truth, size)),
        results={label: _crop(small, shrink(result, size)) for label, result in results.items()},
    )


def shrink(picture: Rgb, size: int) -> Rgb:
    """Scale so that the longest side is at most ``size`` pixels; never enlarges."""
    height, width = picture.shape[:2]
    scale = min(1.0, size / max(height, width))
    if scale == 1:
        return picture
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(target, Image.Resampling.LANCZOS))


def webp_uri(picture: Rgb | Rgba, *, quality: int = QUALITY) -> str:
    """Encode as a WebP data address, alpha without loss; ``quality`` in [0, 100]."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(
        buffer, format="WEBP", quality=quality, method=4
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def outline(mask: Mask, shape: tuple[int, int]) -> str:
    """Trace the mask's edge as an SVG path in pixels of a picture of ``shape``."""
    from skimage.measure import approximate_polygon, find_contours

    height, width = shape
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(
        (width, height), Image.Resampling.BILINEAR
    )
    padded = np.pad(np.asarray(grey), 1)  # so that a mask at the frame is closed
    paths = []
    for contour in find_contours(padded, 127.5):
        points = approximate_polygon(contour, OUTLINE_TOLERANCE) - 0.5
        if len(points) > 3:
            paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points[:-1]) + "Z")
    return "".join(paths)


def _crop(small: Rgb, other: Rgb) -> Crop:
    differs = (small != other).any(axis=2)
    if not differs.any():
        return Crop(0, 0, 0, 0, "")
    x, y, width, height = box(differs, MARGIN)
    return Crop(x, y, width, height, webp_uri(other[y : y + height, x : x + width]))


def _focus(mask: Mask, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    grey = Image.fromarray(mask.astype(np.uint8) * 255).resize(shape[::-1])
    small = np.asarray(grey) > 0
    return box(small if small.any() else ~small, max(shape) // 16)


def box(where: npt.NDArray[np.bool_], margin: int) -> tuple[int, int, int, int]:
    """Return x, y, width and height around what is True, with a margin inside the frame."""
    height, width = where.shape
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    x, y = max(int(columns[0]) - margin, 0), max(int(rows[0]) - margin, 0)
    right = min(int(columns[-1]) + 1 + margin, width)
    bottom = min(int(rows[-1]) + 1 + margin, height)
    return x, y, right - x, bottom - y
