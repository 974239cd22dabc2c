"""From what a person branch painted to that person's RGBA layer."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mild_bench.images import Mask, Rgb, Rgba
from mild_bench.mild.branches import GREY, Box, resized

LEAST_ALPHA = 0.1  # below it grey can no longer be taken out of a colour


def layer_of(painted: Tensor, alpha: Tensor, box: Box, picture: Rgb, visible: Mask) -> Rgba:
    """Return a layer on the full frame, straight alpha, uint8.

    Where the person shows, alpha is 255 and the colours are the picture's.

    Args:
        painted: float 3 x side x side in [0, 1], the complete person on grey.
        alpha: float side x side in [0, 1].
        box: where in the picture that is.
        picture: the input.
        visible: where the person shows.
    """
    share = alpha.clamp(0, 1)[None].cpu()
    # On grey, a colour c with alpha a is a c + (1 - a) grey.
    mixed = painted.cpu().float()
    colour = ((mixed - GREY) / share.clamp(min=LEAST_ALPHA) + GREY).clamp(0, 1)
    straight = _on_frame(torch.cat([colour * share, share]), box, picture.shape[:2])
    whole = straight[3:]
    rgba = torch.cat([straight[:3] / whole.clamp(min=1e-6), whole]).clamp(0, 1)
    layer = (rgba * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    layer[visible, :3] = picture[visible]
    layer[visible, 3] = 255
    return np.ascontiguousarray(layer)


def _on_frame(part: Tensor, box: Box, frame: tuple[int, ...]) -> Tensor:
    """Return a box's content at its place in an empty frame, channels x height x width."""
    small = resized(part, (box.side, box.side))
    whole = small.new_zeros(len(part), *frame[:2])
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.side, frame[0]), min(box.left + box.side, frame[1])
    whole[:, top:bottom, left:right] = small[
        :, top - box.top : bottom - box.top, left - box.left : right - box.left
    ]
    return whole
