"""What the branches learn from: a branch as in inference, and what it should have painted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mild_bench.images import Mask, Rgb, to_bchw
from mild_bench.mild.branches import (
    Box,
    Branch,
    Fill,
    Known,
    background_branch,
    complete_person,
    person_box,
    person_branch,
    resized,
)
from mild_bench.mild.train.augment import in_sight
from mild_bench.mild.train.holes import erase_hole, random_hole
from mild_bench.scene import Layer, Scene

CHANGED = 4  # grey levels
JITTER = 0.06  # of a person's square: inference's is not to the pixel either


@dataclass(frozen=True)
class Sizes:
    """Pixels of the pictures that the network sees.

    Attributes:
        frame: side of the frame.
        crop: side of a person's square.
        margin: about what shows of a person, as a share of its longer side.
        fill: of the background's hole.
    """

    frame: int
    crop: int
    margin: float
    fill: Fill = "grey"


@dataclass(frozen=True)
class Sample:
    """One branch to learn from. Pictures are half floats in [0, 1], to be sent cheaply.

    Attributes:
        branch: what it is given.
        truth: what it should paint, 3 x height x width.
        alpha: of the complete person, height x width; None for the background.
    """

    branch: Branch
    truth: Tensor
    alpha: Tensor | None = None

    def packed(self) -> Sample:
        """Return it with the smallest types that hold it."""
        priors = self.branch.priors
        parts = None if priors.parts is None else priors.parts.to(torch.uint8)
        branch = replace(
            self.branch,
            picture=self.branch.picture.half(),
            unknown=self.branch.unknown.bool(),
            labels=self.branch.labels.to(torch.uint8),
            priors=replace(
                priors,
                place=priors.place.bool(),
                parts=parts,
                others=None if priors.others is None else priors.others.half(),
            ),
        )
        alpha = None if self.alpha is None else self.alpha.half()
        return Sample(branch, self.truth.half(), alpha)

    def unpacked(self) -> Sample:
        """Return it in float32, which every device and precision takes."""
        branch = replace(
            self.branch, picture=self.branch.picture.float(), unknown=self.branch.unknown.float()
        )
        alpha = None if self.alpha is None else self.alpha.float()
        return Sample(branch, self.truth.float(), alpha)


def erase_samples(
    rng: np.random.Generator, scene: Scene, sizes: Sizes, *, people: int
) -> list[Sample]:
    """Erase a random set of people: the background's sample, then up to ``people`` persons'.

    Nobody in sight makes it a sample of a scene without people: a random hole.
    """
    seen = in_sight(scene)
    if not seen:
        return [hole_sample(rng, scene.recompose(), sizes, [])]
    count = int(rng.integers(1, len(seen) + 1))
    chosen = [seen[index] for index in sorted(rng.permutation(len(seen))[:count])]
    order = rng.permutation(count)[:people]
    persons = [person_sample(rng, scene, chosen[index], sizes) for index in order]
    return [_background(rng, scene, chosen, sizes), *persons]


def hole_sample(
    rng: np.random.Generator, picture: Rgb, sizes: Sizes, outlines: Sequence[Mask]
) -> Sample:
    """Make a random hole in a picture; what was there is to come back."""
    side = sizes.frame
    truth = resized(to_bchw(picture)[0], (side, side)).clamp(0, 1)
    hole = torch.from_numpy(random_hole(rng, side, list(outlines)))
    branch = background_branch(truth, hole, hole.long(), (side, side), fill=sizes.fill)
    return Sample(branch, truth).packed()


def person_sample(rng: np.random.Generator, scene: Scene, person: Layer, sizes: Sizes) -> Sample:
    """Complete one person of a scene, who shows somewhere."""
    visible = torch.from_numpy(scene.visible(person.layer_id))
    box = _shaken(rng, person_box(visible, sizes.margin))
    picture = to_bchw(scene.recompose())[0]
    others = torch.from_numpy(scene.label_map() > 0) & ~visible
    branch = person_branch(
        person.layer_id, picture, visible, others, box, sizes.crop, _known([person])
    )
    rgba = torch.from_numpy(person.rgba).permute(2, 0, 1).float() / 255
    truth, alpha = complete_person(rgba, box, sizes.crop)
    return Sample(branch, truth.clamp(0, 1), alpha.clamp(0, 1)).packed()


def outlines_of(scene: Scene) -> list[Mask]:
    """Return the shapes of the people of a scene, to make holes of."""
    return [person.amodal for person in scene.people]


def _background(
    rng: np.random.Generator, scene: Scene, chosen: Sequence[Layer], sizes: Sizes
) -> Sample:
    gone = scene.belongings([person.layer_id for person in chosen])
    before, after = scene.recompose(), scene.recompose(without=gone)
    change = np.abs(before.astype(np.int16) - after).max(axis=2) > CHANGED
    hole = torch.from_numpy(erase_hole(rng, scene, gone, change))
    size = (sizes.frame, sizes.frame)
    people = torch.from_numpy(scene.label_map().astype(np.int64))
    branch = background_branch(
        to_bchw(before)[0], hole, people, size, _known(chosen), fill=sizes.fill
    )
    return Sample(branch, resized(to_bchw(after)[0], size).clamp(0, 1)).packed()


def _known(people: Sequence[Layer]) -> Known:
    return Known(
        {one.layer_id: torch.tensor(one.keypoints) for one in people if one.keypoints},
        {
            one.layer_id: torch.from_numpy(one.parts.copy()).long()
            for one in people
            if one.parts is not None
        },
    )


def _shaken(rng: np.random.Generator, box: Box) -> Box:
    side = max(4, round(box.side * rng.uniform(1 - JITTER, 1 + JITTER)))
    shift = [round(box.side * value) for value in rng.uniform(-JITTER / 2, JITTER / 2, 2)]
    return Box(box.top + shift[0], box.left + shift[1], side)
