"""A task: one picture and which people to erase from it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Grey, Mask, Rgb
from mild_bench.scene import Keypoint

TaskKind = Literal["all", "occluder", "occluded", "pair", "single", "free"]
OcclusionBin = Literal["none", "light", "moderate", "heavy"]
BIN_EDGES = {"none": 0.0, "light": 0.05, "moderate": 0.25, "heavy": 0.5}  # lower edges


@dataclass(frozen=True)
class Strata:
    """What a task is like: the columns that boards slice by.

    Attributes:
        occlusion: the highest occlusion rate among the people of the scene, in [0, 1].
        human_human, human_object, human_background: the paper's three challenges.
        mask_area: erased share of the frame, in [0, 1].
        mask_source: the mask the eraser gets: ``exact``, ``dilated:<px>``, ``box``, ``effects``.
    """

    people: int
    erased: int
    occlusion: float
    occlusion_bin: OcclusionBin
    human_human: bool
    human_object: bool
    human_background: bool
    mask_area: float
    mask_source: str
    truth_kind: str
    group: str


@dataclass(frozen=True)
class Task:
    """One question to an eraser, and its answer where there is one.

    Attributes:
        erase: ids of the people to erase.
        input: uint8 height x width x 3.
        mask: bool height x width, True = erase.
        truth: the scene recomposed without them, like ``input``; None when unknown.
        people: visible people as a label map, uint8 height x width; k = ``person_ids[k - 1]``.
        keypoints: annotated COCO-17 joints by person, in pixels, hidden ones too; where known.
        parts: annotated parsing map by person, uint8 height x width, hidden parts too; where
            known.
    """

    task_id: str
    scene_id: str
    kind: TaskKind
    erase: tuple[str, ...]
    input: Rgb
    mask: Mask
    truth: Rgb | None
    people: Grey
    person_ids: tuple[str, ...]
    strata: Strata | None = None
    keypoints: Mapping[str, tuple[Keypoint, ...]] = field(default_factory=dict)
    parts: Mapping[str, Grey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.input.ndim != 3 or self.input.shape[2] != 3 or self.input.dtype != np.uint8:
            raise BadInput(f"task {self.task_id}: input must be uint8 h x w x 3")
        if self.mask.shape != self.input.shape[:2] or self.mask.dtype != np.bool_:
            raise BadInput(f"task {self.task_id}: the mask must be bool and as large as the input")
        if self.truth is not None and self.truth.shape != self.input.shape:
            raise BadInput(f"task {self.task_id}: the truth must be as large as the input")


def task_seed(seed: int, task_id: str) -> int:
    """Return the seed of one task, in [0, 2**31): the same in any order, batch or process."""
    digest = hashlib.sha256(f"{seed}/{task_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def occlusion_bin(rate: float) -> OcclusionBin:
    """Name the bin of an occlusion rate: none < .05 <= light < .25 <= moderate < .5 <= heavy."""
    if rate >= BIN_EDGES["heavy"]:
        return "heavy"
    if rate >= BIN_EDGES["moderate"]:
        return "moderate"
    return "light" if rate >= BIN_EDGES["light"] else "none"
