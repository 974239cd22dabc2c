"""Classical fillers: diffusion of the rim's colours into the hole."""

from __future__ import annotations

from importlib.metadata import version
from math import sqrt

import numpy as np

from mild_bench.erasers.one_by_one import OneByOne
from mild_bench.erasers.settings import board_name, number, whole
from mild_bench.erasure import EraserCard
from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb, composite
from mild_bench.task import Task

RADIUS = 5.0
MAX_HOLE = 100_000
MARGIN = 16  # pixels of picture around a hole; the equations look 2 pixels far
TELEA_PAPER = "https://doi.org/10.1080/10867651.2004.10487596"
NAVIER_STOKES_PAPER = "https://doi.org/10.1109/CVPR.2001.990497"
BIHARMONIC_PAPER = "https://doi.org/10.1155/2018/3950312"


def telea(radius: float = RADIUS) -> OneByOne:
    """Return the fast marching filler of Telea 2004 (OpenCV ``INPAINT_TELEA``).

    ``radius`` is the neighbourhood of a filled pixel, in pixels.

    Raises:
        BadInput: ``radius`` outside of [1, 100].
    """
    import cv2

    return _opencv("telea", cv2.INPAINT_TELEA, radius, TELEA_PAPER)


def navier_stokes(radius: float = RADIUS) -> OneByOne:
    """Return the fluid-dynamics filler of Bertalmio et al. 2001 (OpenCV ``INPAINT_NS``).

    ``radius`` is the neighbourhood of a filled pixel, in pixels.

    Raises:
        BadInput: ``radius`` outside of [1, 100].
    """
    import cv2

    return _opencv("navier-stokes", cv2.INPAINT_NS, radius, NAVIER_STOKES_PAPER)


def biharmonic(max_hole: int = MAX_HOLE) -> OneByOne:
    """Return the smooth filler of Damelin and Hoang 2018 (scikit-image, a direct solver).

    Regions of the mask are solved apart. A region of more than ``max_hole`` pixels is solved on
    a smaller copy and brought back to size: the surface is smooth, and the solver's memory
    grows faster than the hole (about 0.5 GB at 100,000 pixels).

    Raises:
        BadInput: ``max_hole`` is not a whole number from 1,000 to 2,000,000.
    """
    limit = whole("biharmonic", "max_hole", max_hole, 1_000, 2_000_000)
    settings = {"max_hole": limit}
    name = board_name("biharmonic", settings, {"max_hole": MAX_HOLE})
    card = EraserCard(
        name, version("scikit-image"), "BSD-3-Clause", settings=settings, paper=BIHARMONIC_PAPER
    )
    return OneByOne(card, lambda task, seed: _biharmonic(task.input, task.mask, limit))


def _opencv(eraser: str, method: int, radius: float, paper: str) -> OneByOne:
    import cv2

    radius = number(eraser, "radius", radius, 1, 100)
    settings = {"radius": radius}
    name = board_name(eraser, settings, {"radius": RADIUS})

    def fill(task: Task, seed: int) -> Rgb:
        # Near the frame OpenCV reads the hole itself: a flat colour there, so that nobody leaks.
        flat = task.input.copy()
        flat[task.mask] = task.input[~task.mask].mean(axis=0).astype(np.uint8)
        hole = task.mask.astype(np.uint8)
        filled = np.asarray(cv2.inpaint(flat, hole, radius, method), np.uint8)
        return composite(filled, task.input, task.mask)

    return OneByOne(
        EraserCard(name, cv2.__version__, "Apache-2.0", settings=settings, paper=paper), fill
    )


def _biharmonic(source: Rgb, mask: Mask, limit: int) -> Rgb:
    from scipy import ndimage

    result = source.copy()
    # Holes closer than the equations look belong together: each would read the other's people.
    labels, _ = ndimage.label(ndimage.binary_dilation(mask, np.ones((5, 5), bool)))
    labels[~mask] = 0
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        crop = tuple(
            slice(max(side.start - MARGIN, 0), min(side.stop + MARGIN, length))
            for side, length in zip(box, mask.shape, strict=True)
        )
        region = labels[crop] == index
        filled = _region(source[crop], mask[crop], region, limit)
        result[crop][region] = filled[region]
    return result


def _region(source: Rgb, mask: Mask, region: Mask, limit: int) -> Rgb:
    import cv2

    area = int(region.sum())
    if area <= limit:
        return _surface(source, region)
    height, width = mask.shape
    scale = sqrt(limit / area)
    size = (max(int(width * scale), 1), max(int(height * scale), 1))
    small = np.asarray(cv2.resize(source, size, interpolation=cv2.INTER_AREA), np.uint8)
    # A small pixel counts as kept only if nothing of it is erased: no person's colour leaks.
    share = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    touched = np.asarray(share > 0)
    if touched.all():
        raise BadInput("biharmonic: the mask leaves too little of the picture to start from")
    filled = _surface(small, touched)
    back = cv2.resize(filled, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(back, np.uint8)


def _surface(source: Rgb, hole: Mask) -> Rgb:
    from skimage.restoration import inpaint_biharmonic

    surface = inpaint_biharmonic(source, hole, channel_axis=-1)
    return np.asarray(np.floor(surface * 255 + 0.5).clip(0, 255).astype(np.uint8))
