"""What the pipeline is given, and how it is laid out for the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from mild_bench.errors import BadInput
from mild_bench.images import Grey, Mask, Rgb, check_mask, to_bchw
from mild_bench.mild.branches import (
    Branch,
    Fill,
    Known,
    background_branch,
    person_box,
    person_branch,
    resized,
)
from mild_bench.mild.train.holes import grown
from mild_bench.scene import Keypoint

GROW = 8  # pixels by which a hole and its rim are larger than its masks, as no mask is exact
EDGE = 2  # pixels at the edge of a mask that may be partly the person's


@dataclass(frozen=True)
class MildInput:
    """A picture and whom to erase.

    Attributes:
        picture: uint8 height x width x 3.
        hole: bool height x width, True = erase; who is in ``people`` but not in ``erase`` stays.
        people: label map of who shows where, erased or not; k = ``person_ids[k - 1]``.
        person_ids: ids of the people.
        erase: ids of those to erase; each that shows gets a layer.
        keypoints: COCO-17 by id, in pixels, where known.
        parts: parsing map by id, uint8 height x width, where known.
        rim: pixels beside the hole that may be partly the person's: they are painted anew, too.

    Raises:
        BadInput: maps of another size, unknown ids, a negative rim, or a hole with nothing in it.
    """

    picture: Rgb
    hole: Mask
    people: Grey
    person_ids: tuple[str, ...] = ()
    erase: tuple[str, ...] = ()
    keypoints: Mapping[str, tuple[Keypoint, ...]] = field(default_factory=dict)
    parts: Mapping[str, Grey] = field(default_factory=dict)
    rim: int = 0

    def __post_init__(self) -> None:
        strange = sorted({*self.erase, *self.keypoints, *self.parts} - set(self.person_ids))
        if strange:
            raise BadInput(
                f"erase: expected ids among {', '.join(self.person_ids) or 'none'}, got "
                f"{', '.join(strange)}"
            )
        if self.picture.ndim != 3 or self.picture.shape[2] != 3 or self.picture.dtype != np.uint8:
            raise BadInput(f"picture: expected uint8 h x w x 3, got {self.picture.shape}")
        if self.rim < 0:
            raise BadInput(f"rim: expected 0 pixels or more, got {self.rim}")
        size = (self.picture.shape[0], self.picture.shape[1])
        check_mask(self.hole, size, name="hole")
        for name, one in (("people", self.people), *self.parts.items()):
            if one.shape != size:
                raise BadInput(f"{name}: expected the picture's size {size}, got {one.shape}")

    @classmethod
    def from_masks(
        cls,
        picture: Rgb,
        masks: Mapping[str, Mask],
        *,
        erase: Sequence[str],
        also: Mask | None = None,
        grow: int = GROW,
    ) -> MildInput:
        """Return the input for a picture of one's own.

        Args:
            picture: uint8 height x width x 3.
            masks: where each person shows, erased or not, by name, bool height x width; where two
                overlap, the later one shows.
            erase: names of those to erase.
            also: what else to erase: their shadows, what they hold.
            grow: pixels by which the hole and its rim are larger than all that.

        Raises:
            BadInput: unknown names, or masks that are empty or of another size.
        """
        size = (picture.shape[0], picture.shape[1])
        people = np.zeros(size, np.uint8)
        hole = np.zeros(size, np.bool_)
        for number, (name, mask) in enumerate(masks.items(), start=1):
            people[check_mask(mask, size, name=f"mask of {name}")] = number
            hole |= mask if name in erase else False
        if also is not None:
            hole |= check_mask(also, size, name="mask of what else to erase")
        rim = min(max(grow, 0), EDGE)
        hole = with_rim(hole, grow - rim)
        return cls(picture, hole, people, tuple(masks), tuple(erase), rim=rim)

    def unseen(self) -> Mask:
        """Return what is painted anew: the hole and its rim."""
        return with_rim(self.hole, self.rim)

    def at_the_hole(self) -> tuple[str, ...]:
        """Return who stays and shows at the hole: they may go on behind those who go."""
        edge = grown(self.unseen(), 1)
        stay = [name for name in self.person_ids if name not in self.erase]
        return tuple(name for name in stay if (edge & self.visible(name)).any())

    def with_staying(self) -> MildInput:
        """Return the input with those at the hole among the erased, as far as they show.

        Where nothing would be left to look at, it stays as it is.
        """
        names = self.at_the_hole()
        hole = self.hole | self.shown(names)
        return self if hole.all() else replace(self, hole=hole, erase=(*self.erase, *names))

    def shown(self, names: Iterable[str]) -> Mask:
        """Return where any of some people shows."""
        every = [np.zeros_like(self.hole), *map(self.visible, names)]
        return np.asarray(np.any(every, axis=0))

    def visible(self, name: str) -> Mask:
        """Return where a person shows."""
        return np.asarray(self.people == self.person_ids.index(name) + 1)

    def known(self, names: tuple[str, ...]) -> Known:
        """Return what is known of some of the people."""
        return Known(
            {n: torch.tensor(self.keypoints[n]) for n in names if self.keypoints.get(n)},
            {n: torch.from_numpy(self.parts[n].copy()).long() for n in names if n in self.parts},
        )

    def back(self, painted: Tensor) -> Tensor:
        """Return the network's frame, 3 x height x width, at the picture's size."""
        return resized(painted.cpu(), (self.picture.shape[0], self.picture.shape[1]))


def with_rim(mask: Mask, pixels: int) -> Mask:
    """Grow a mask, but not over the whole picture: something must be left to look at."""
    wide = grown(mask, pixels)
    return mask if wide.all() else wide


@dataclass(frozen=True)
class Layout:
    """Sizes of the branches in pixels, the margin about a person, and what the hole holds."""

    frame: tuple[int, int]
    crop_side: int
    margin: float
    fill: Fill = "grey"


def picture_layout(
    size: tuple[int, ...],
    side: int,
    crop_side: int,
    margin: float,
    multiple: int,
    fill: Fill = "grey",
) -> Layout:
    """Return the layout of a picture.

    Args:
        size: height and width of the picture.
        side: of the frame's longer side; the shorter keeps the proportions but for rounding.
        crop_side: of a person's square.
        margin: about what shows of a person, as a share of its longer side.
        multiple: of all sides, in pixels.
        fill: of the background's hole.

    Raises:
        BadInput: sides below ``multiple``.
    """
    if min(side, crop_side) < multiple:
        raise BadInput(
            f"side: expected at least {multiple} pixels for frame and crop, got {side} and "
            f"{crop_side}"
        )
    scale = side / max(size)
    height, width = (max(round(length * scale / multiple), 1) * multiple for length in size)
    return Layout((height, width), max(crop_side // multiple, 1) * multiple, margin, fill)


def branches_of(given: MildInput, layout: Layout, *, layers: bool) -> list[Branch]:
    """Return the background's branch and, with ``layers``, one for each erased person in sight."""
    picture = to_bchw(given.picture)[0]
    hole = torch.from_numpy(given.unseen().copy())
    people = torch.from_numpy(given.people.astype(np.int64))
    known = given.known(given.erase)
    background = background_branch(picture, hole, people, layout.frame, known, fill=layout.fill)
    shown = [name for name in given.erase if layers and given.visible(name).any()]
    return [background, *(_person(given, picture, name, layout) for name in shown)]


def _person(given: MildInput, picture: Tensor, name: str, layout: Layout) -> Branch:
    visible = torch.from_numpy(given.visible(name))
    others = torch.from_numpy(given.people > 0) & ~visible
    box = person_box(visible, layout.margin)
    known = given.known((name,))
    return person_branch(name, picture, visible, others, box, layout.crop_side, known)
