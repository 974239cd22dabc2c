"""One person's layer for the page: cut out, small, and with the outline of what was painted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.images import Grey, Mask, Rgba, mask_to_grey
from mild_bench.leaderboards.pictures import box, outline, webp_uri

LONGEST = 192  # pixels: the page shows layers no larger
MARGIN = 4  # pixels of the frame around a layer
SEEN, HALF = 8, 128  # of 255: less alpha is not seen; where a layer counts as solid


@dataclass(frozen=True)
class LayerPicture:
    """A layer cut out of its frame.

    Attributes:
        uri: a WebP with straight alpha; empty for a layer in which nothing is seen.
        outline: the part of the layer where the input does not show the person, as an SVG path in
            pixels of the picture.
        painted: the share of the layer that this is, in [0, 1]. Rims of a pixel do not count:
            there a layer is soft and the mask of what shows is not.
    """

    width: int
    height: int
    uri: str
    outline: str
    painted: float


def layer_picture(layer: Rgba, visible: Mask, *, size: int) -> LayerPicture:
    """Shrink and encode a layer; equal layers give equal bytes.

    ``visible``, as large as ``layer``, is where the input shows the person; ``size`` is the
    longest side of the page's pictures, in pixels.
    """
    from scipy.ndimage import binary_opening

    alpha = layer[..., 3]
    shown = (alpha >= SEEN) | visible
    if not (alpha >= SEEN).any():
        return LayerPicture(0, 0, "", "", 0.0)
    x, y, width, height = box(shown, MARGIN)
    part = np.s_[y : y + height, x : x + width]
    scale = min(1.0, min(size, LONGEST) / max(width, height))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    cut = np.where(alpha[..., None] >= SEEN, layer, 0)[part]
    small = _resized(cut, target)
    solid = small[..., 3] >= HALF
    painted = binary_opening(solid & (_resized(mask_to_grey(visible[part]), target) < HALF))
    return LayerPicture(
        width=target[0],
        height=target[1],
        uri=webp_uri(small),
        outline=outline(painted, painted.shape),
        painted=float(painted.sum() / max(solid.sum(), 1)),
    )


def _resized(picture: Rgba | Grey, target: tuple[int, int]) -> npt.NDArray[np.uint8]:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.resize(target, Image.Resampling.LANCZOS))
