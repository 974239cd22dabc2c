"""The branches of a picture in pixels: one for the background, one for each erased person.

The background branch sees the whole frame with a grey hole and paints what is behind; a person
branch sees a square around the person, all of it grey but the person's visible pixels, and paints
the complete person on grey.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mild_bench.errors import BadInput
from mild_bench.mild.adapters import Kind
from mild_bench.mild.priors import NOBODY, Priors

GREY = 0.5
"""What is not known; 0 to the autoencoder, as in the inpainting models of Stable Diffusion."""

BACKGROUND = "background"

Fill = Literal["grey", "smooth"]
FILLS: tuple[Fill, ...] = get_args(Fill)
"""What a hole holds in the background's picture: nothing, or its surroundings continued into it."""

REACH = 3  # pixels that continuing looks at around each pixel
LEAST_BOX = 16  # pixels: a smaller square shows nothing


@dataclass(frozen=True)
class Box:
    """A square of a picture, in pixels; it may reach beyond the picture."""

    top: int
    left: int
    side: int


@dataclass(frozen=True)
class Branch:
    """What one branch starts from.

    Attributes:
        name: ``background`` or the person's id.
        kind: its adapter.
        picture: float 3 x height x width in [0, 1], grey where ``unknown`` (or smooth, see
            ``FILLS``).
        unknown: float height x width, 1 = to be painted.
        labels: integers height x width for spatially-modulated attention, 0 = what the branch
            goes on from: the background, or in a person's branch that person as far as it shows.
        priors: for the guidance.
        box: of a person in the picture's pixels; None for the whole frame.
    """

    name: str
    kind: Kind
    picture: Tensor
    unknown: Tensor
    labels: Tensor
    priors: Priors
    box: Box | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return int(self.picture.shape[1]), int(self.picture.shape[2])


@dataclass(frozen=True)
class Known:
    """What is known of people, by id, in the picture's pixels; empty where nothing is.

    Attributes:
        keypoints: float 17 x 3: x, y in pixels and COCO visibility.
        parts: integers height x width, parsing labels.
    """

    keypoints: Mapping[str, Tensor]
    parts: Mapping[str, Tensor]


NOTHING = Known({}, {})


def person_box(visible: Tensor, margin: float) -> Box:
    """Return the square about a person's visible pixels.

    Args:
        visible: bool height x width, not empty.
        margin: added on every side, as a share of the longer side of what shows.

    Raises:
        BadInput: nobody is there.
    """
    rows, columns = (torch.nonzero(visible.any(dim=dim)).flatten() for dim in (1, 0))
    if not len(rows):
        raise BadInput("visible: expected some pixels of a person, got none")
    spans = [(int(hits[0]), int(hits[-1]) + 1) for hits in (rows, columns)]
    longer = max(stop - start for start, stop in spans)
    side = max(round(longer * (1 + 2 * margin)), LEAST_BOX)
    side = min(side, max(visible.shape))
    top, left = (
        _start(span, side, length) for span, length in zip(spans, visible.shape, strict=True)
    )
    return Box(top, left, side)


def cut(picture: Tensor, box: Box, *, outside: float = 0.0) -> Tensor:
    """Return the part of a picture (... x height x width) in a box."""
    height, width = picture.shape[-2:]
    pads = (
        max(-box.left, 0), max(box.left + box.side - width, 0),
        max(-box.top, 0), max(box.top + box.side - height, 0),
    )  # fmt: skip
    padded = functional.pad(picture, pads, value=outside)
    top, left = max(box.top, 0), max(box.left, 0)
    return padded[..., top : top + box.side, left : left + box.side]


def resized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a float picture, channels x height x width, without aliasing or overshoot."""
    if tuple(picture.shape[-2:]) == size:
        return picture
    return functional.interpolate(
        picture[None], size=size, mode="bilinear", align_corners=False, antialias=True
    )[0]


def background_branch(
    picture: Tensor,
    hole: Tensor,
    people: Tensor,
    size: tuple[int, int],
    known: Known = NOTHING,
    *,
    fill: Fill = "grey",
) -> Branch:
    """Return the branch of the whole frame.

    Args:
        picture: float 3 x height x width in [0, 1].
        hole: bool height x width, True = erase.
        people: integers height x width: visible people, erased or not, 0 nobody.
        size: height and width of the branch.
        known: of the people who are erased.
        fill: of the hole.
    """
    unknown = (_area(hole.float(), size) > 0).float()
    seen = resized(torch.where(hole, torch.full_like(picture, GREY), picture), size)
    labels = functional.interpolate(people[None, None].float(), size=size, mode="nearest-exact")
    whole = Box(0, 0, 0)
    scale = picture.new_tensor([picture.shape[2], picture.shape[1]])
    points = _points(known, whole, scale)
    return Branch(
        name=BACKGROUND,
        kind="bg",
        picture=FILLERS[fill](seen, unknown),
        unknown=unknown,
        labels=labels[0, 0].long(),
        priors=Priors(
            unknown, points, _parts(known, size, None), _area(((people > 0) & ~hole).float(), size)
        ),
    )


def person_branch(
    name: str,
    picture: Tensor,
    visible: Tensor,
    others: Tensor,
    box: Box,
    side: int,
    known: Known = NOTHING,
) -> Branch:
    """Return the branch of a person.

    Args:
        name: the person's id.
        picture: float 3 x height x width in [0, 1].
        visible: bool height x width, where the person shows.
        others: bool height x width, where other people show; this one may go on behind them.
        box: around the person.
        side: of the branch, in pixels.
        known: of this person only.
    """
    shown = cut(visible.float(), box)
    colours = cut(picture, box) * shown
    share = resized(shown[None], (side, side))
    seen = resized(colours, (side, side)) + GREY * (1 - share)
    mine = share[0] >= 0.5
    scale = picture.new_tensor([box.side, box.side])
    hiding = resized(cut(others.float(), box)[None], (side, side))[0]
    return Branch(
        name=name,
        kind="fg",
        picture=torch.where(mine, seen, torch.full_like(seen, GREY)),
        unknown=(~mine).float(),
        labels=(~mine).long(),
        priors=Priors(
            mine.float(), _points(known, box, scale), _parts(known, (side, side), box), hiding
        ),
        box=box,
    )


def complete_person(rgba: Tensor, box: Box, side: int) -> tuple[Tensor, Tensor]:
    """Return what a person branch is to paint, for training.

    Args:
        rgba: float 4 x height x width in [0, 1], straight alpha, complete.
        box: around the person.
        side: of the branch, in pixels.

    Returns:
        the person on grey, 3 x side x side, and alpha, side x side.
    """
    alpha = cut(rgba[3:], box)
    share = resized(alpha, (side, side))
    return resized(cut(rgba[:3], box) * alpha, (side, side)) + GREY * (1 - share), share[0]


def _greyed(picture: Tensor, unknown: Tensor) -> Tensor:
    return torch.where(unknown > 0, torch.full_like(picture, GREY), picture)


def continued(picture: Tensor, unknown: Tensor) -> Tensor:
    """Fill a hole by Telea's fast marching (2004); with grey where nothing is known.

    Args:
        picture: float 3 x height x width in [0, 1].
        unknown: height x width, above 0 where to fill.
    """
    hole = (unknown > 0).cpu().numpy().astype(np.uint8)
    if hole.all():
        return _greyed(picture, unknown)
    pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    filled = cv2.inpaint(np.ascontiguousarray(pixels), hole, REACH, cv2.INPAINT_TELEA)
    smooth = torch.from_numpy(filled).permute(2, 0, 1).to(picture) / 255
    return torch.where(unknown > 0, smooth, picture)


FILLERS = {"grey": _greyed, "smooth": continued}


def _start(span: tuple[int, int], side: int, length: int) -> int:
    """Centre a box on a span; it leaves the picture only where it is larger."""
    start = round((span[0] + span[1] - side) / 2)
    if side > length:
        return (length - side) // 2
    return min(max(start, 0), length - side)


def _area(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the share of each new pixel that a mask covers, also where it is enlarged."""
    return functional.interpolate(mask[None, None], size=size, mode="area")[0, 0]


def _points(known: Known, box: Box, scale: Tensor) -> Tensor:
    if not known.keypoints:
        return NOBODY.to(scale.device)
    points = torch.stack([one.float() for one in known.keypoints.values()]).to(scale.device)
    places = (points[..., :2] - scale.new_tensor([box.left, box.top])) / scale
    return torch.cat([places, points[..., 2:]], dim=-1)


def _parts(known: Known, size: tuple[int, int], box: Box | None) -> Tensor | None:
    """Return the parsing maps in one, later people over earlier ones."""
    if not known.parts:
        return None
    maps = [one if box is None else cut(one, box) for one in known.parts.values()]
    merged = maps[0].clone()
    for one in maps[1:]:
        merged = torch.where(one > 0, one, merged)
    small = functional.interpolate(merged[None, None].float(), size=size, mode="nearest-exact")
    return small[0, 0].long()
