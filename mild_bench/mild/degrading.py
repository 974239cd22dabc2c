"""Priors made worse on purpose, to see how much depends on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Grey, Mask
from mild_bench.mild.picture import MildInput
from mild_bench.mild.priors import JOINTS
from mild_bench.scene import Keypoint

Joints = tuple[Keypoint, ...]
MIRRORED = (0, *(joint + 1 if joint % 2 else joint - 1 for joint in range(1, JOINTS)))
"""COCO's joints with left and right exchanged."""


@dataclass(frozen=True)
class Degradation:
    """How priors are made worse.

    Attributes:
        drop: probability of each joint and of each parsing map to be missing, in [0, 1].
        jitter: standard deviation of each joint, and of a parsing map as a whole, in pixels.
        swap: probability of a person's left and right joints being exchanged, in [0, 1].
        seen_only: what other things hide is not known, as to a detector.

    Raises:
        BadInput: a value out of range.
    """

    drop: float = 0.0
    jitter: float = 0.0
    swap: float = 0.0
    seen_only: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.drop <= 1 and 0 <= self.swap <= 1 and 0 <= self.jitter < 1e4):
            raise BadInput(
                "priors: expected drop and swap in [0, 1] and jitter of 0 or more pixels, got "
                f"{self.drop}, {self.swap} and {self.jitter}"
            )


def degraded(given: MildInput, how: Degradation, rng: np.random.Generator) -> MildInput:
    """Return the input with worse priors; picture and masks stay as they are.

    Each person draws from ``rng`` in the order of ``person_ids``, and as much whatever ``how``
    says, so that more of one kind of damage leaves the others as they were.
    """
    keypoints: dict[str, Joints] = {}
    parts: dict[str, Grey] = {}
    for name in given.person_ids:
        own = np.random.default_rng(rng.integers(2**63, dtype=np.uint64))
        joints = _joints(given.keypoints.get(name, ()), how, own)
        if any(seen for _, _, seen in joints):
            keypoints[name] = joints
        moved = own.normal(0, 1, 2) * how.jitter
        lost = own.random() < how.drop
        if name in given.parts and not lost:
            shown = given.visible(name) if how.seen_only else None
            parts[name] = _map(given.parts[name], shown, moved)
    return replace(given, keypoints=keypoints, parts=parts)


def _joints(joints: Joints, how: Degradation, own: np.random.Generator) -> Joints:
    lost = own.random(JOINTS) < how.drop
    moved = own.normal(0, 1, (JOINTS, 2)) * how.jitter
    if own.random() < how.swap and joints:
        joints = tuple(joints[joint] for joint in MIRRORED)
    least = 2 if how.seen_only else 1
    return tuple(
        (x + float(dx), y + float(dy), seen) if seen >= least and not gone else (0.0, 0.0, 0)
        for (x, y, seen), (dx, dy), gone in zip(joints, moved, lost, strict=False)
    )


def _map(parts: Grey, shown: Mask | None, by: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Grey:
    seen = parts if shown is None else np.where(shown, parts, 0).astype(np.uint8)
    down, right = (round(one) for one in by)
    height, width = seen.shape
    rows, columns = np.arange(height)[:, None] - down, np.arange(width) - right
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    found = seen[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    return np.where(inside, found, 0).astype(np.uint8)
