"""What is known beforehand of the people in a branch: joints, body parts, where they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mild_bench.errors import BadInput

JOINTS = 17
"""COCO's: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; left before right."""

PARTS = 10
"""Labels 0 to 9: nothing, hair, head, arms, legs, upper clothes, lower clothes, -, shoes, other."""


@dataclass(frozen=True)
class Priors:
    """The priors of one branch, in the pixels of its picture (frame or crop).

    Attributes:
        place: float height x width in [0, 1]: what is to be painted (background branch), or the
            person as far as it shows (person branch).
        keypoints: float people x 17 x 3: x and y as shares of width and height (outside of
            [0, 1] when not in the picture), COCO visibility 0, 1, 2. No people: not known.
        parts: integers height x width, labels below ``PARTS``; None: not known.
        others: float height x width in [0, 1]: visible people who are not this branch's to paint,
            behind whom something may go on; None: nobody.

    Raises:
        BadInput: another shape or label.
    """

    place: Tensor
    keypoints: Tensor
    parts: Tensor | None = None
    others: Tensor | None = None

    def __post_init__(self) -> None:
        if self.place.ndim != 2:
            raise BadInput(f"place: expected height x width, got {tuple(self.place.shape)}")
        if self.keypoints.ndim != 3 or self.keypoints.shape[1:] != (JOINTS, 3):
            raise BadInput(
                f"keypoints: expected people x {JOINTS} x 3, got {tuple(self.keypoints.shape)}"
            )
        if self.others is not None and self.others.shape != self.place.shape:
            raise BadInput(
                f"others: expected the shape of place {tuple(self.place.shape)}, got "
                f"{tuple(self.others.shape)}"
            )
        if self.parts is not None and not 0 <= int(self.parts.max()) < PARTS:
            raise BadInput(f"parts: expected labels below {PARTS}, got {int(self.parts.max())}")


NOBODY = torch.zeros(0, JOINTS, 3)
"""No keypoints."""
