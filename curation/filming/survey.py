"""One pass over a video: who is where in each sampled frame, and what the frame is good for."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.curation.filming.figures import (
    Finds,
    Size,
    find_blobs,
    find_figures,
    learn_size,
    size_points,
)
from mild_bench.curation.filming.matte import find_difference, pack, unpack
from mild_bench.curation.filming.plate import Place, fit_drift, outside_difference, read_frames
from mild_bench.curation.filming.tracks import Tracks, link
from mild_bench.curation.ledger import Decision
from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.progress import progress

RULE = "rule:video"


@dataclass(frozen=True)
class Settings:
    """What decides which scenes come out.

    Attributes:
        every: take every so many frames.
        people_min: frames with fewer people are rejected.
        max_scenes: at most so many scenes of each kind (real frames, moved people).
        limit: mean absolute difference in grey levels between a frame and the plate in its light,
            outside the masks, over which a frame is rejected.
        split, name: of the scenes; the name is their group, so that one video is in one split.
        licence, credits: of the video; every scene carries them.
    """

    every: int = 5
    people_min: int = 2
    max_scenes: int = 60
    limit: float = 6.0
    seed: int = 0
    split: str = "test"
    name: str = ""
    licence: str = "unknown"
    credits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low = {"every": 1, "people_min": 1, "max_scenes": 1, "seed": 0}
        for field, least in low.items():
            if getattr(self, field) < least:
                raise BadInput(f"{field}: expected at least {least}, got {getattr(self, field)}")
        if not 0 < self.limit <= 255:
            raise BadInput(f"limit: expected grey levels in (0, 255], got {self.limit:g}")
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise BadInput(
                f"name: expected small letters, digits and '-', got {self.name!r}; pass --name"
            )
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.split):
            raise BadInput(f"split: expected small letters, digits and '_', got {self.split!r}")


@dataclass(frozen=True)
class Look:
    """What the survey keeps of a frame: packed masks and the outside difference, no pixels."""

    number: int
    body: bytes
    touched: bytes
    mean: float
    p95: float


@dataclass(frozen=True)
class Survey:
    """The whole video after one pass: who is where, and what each frame is good for."""

    looks: list[Look]
    finds: list[Finds]
    size: Size
    tracks: Tracks
    decisions: dict[int, Decision]
    shape: tuple[int, int]


def scene_name(name: str, number: int) -> str:
    """Return the id of the scene made of frame ``number``."""
    return f"{name}-f{number:06d}"


def survey_video(source: Path, place: Place, settings: Settings) -> Survey:
    """Look at every sampled frame once, then decide about all of them together."""
    looks, points = [], []
    shape = (place.plate.shape[0], place.plate.shape[1])
    with progress("surveying frames", total=-(-place.frames // settings.every)) as advance:
        for number, frame in read_frames(source, every=settings.every):
            look, body = _look(number, frame, place)
            looks.append(look)
            points += size_points(find_blobs(body), shape)
            advance(1)
    size = learn_size(points)
    if size is None:
        raise BadInput(
            f"{source}: found no people: {len(points)} figures of a standing person's shape move "
            f"in {len(looks)} sampled frames, at least 5 are needed; use a video with people, or "
            "a smaller --every"
        )
    finds = [find_figures(find_blobs(unpack(look.body, shape)), size, shape) for look in looks]
    tracks = link([find.figures for find in finds], size)
    decisions = {}
    for look, find in zip(looks, finds, strict=True):
        decision = _decide(look, find, settings)
        if decision:
            decisions[look.number] = decision
    return Survey(looks, finds, size, tracks, decisions, shape)


def _look(number: int, frame: Rgb, place: Place) -> tuple[Look, Any]:
    import cv2

    expected = fit_drift(frame, place.plate, place.noise).apply(place.plate)
    difference = find_difference(frame, expected, place.noise)
    near = cv2.dilate(difference.touched.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    keep = ~near if not near.all() else near
    mean, p95 = outside_difference(frame, expected, keep)
    return Look(number, pack(difference.body), pack(difference.touched), mean, p95), difference.body


def _decide(look: Look, find: Finds, settings: Settings) -> Decision | None:
    scene = scene_name(settings.name, look.number)
    reason = None
    if look.mean > settings.limit:
        reason = (
            f"differs from the plate by {look.mean:.2f} grey levels outside the masks (mean), "
            f"over the limit of {settings.limit:g}"
        )
    elif find.faults:
        reason = "; ".join(find.faults)
    elif len(find.figures) < settings.people_min:
        reason = f"{len(find.figures)} people, at least {settings.people_min} are wanted"
    if reason:
        return Decision(scene, "rejected", reason, RULE)
    hidden = [n for n, f in enumerate(find.figures, start=1) if f.touching and not f.whole]
    if hidden:
        names = ", ".join(f"person-{number}" for number in hidden)
        return Decision(
            scene,
            "to-review",
            f"touching people were split and {names} may be partly hidden: the truth without "
            "only one of them is not known there",
            RULE,
        )
    return None


def rejections(survey: Survey) -> dict[str, int]:
    """Return how many frames were rejected, by reason."""
    kinds = {
        "over the limit": "differs from the plate",
        "touching people not split": "touching people could not be split",
        "part of somebody left": "stays in the plate",
        "too few people": "are wanted",
    }
    counts: Counter[str] = Counter()
    for decision in survey.decisions.values():
        if decision.verdict == "rejected":
            counts[next(kind for kind, text in kinds.items() if text in decision.reason)] += 1
    return dict(sorted(counts.items()))


def reasons(survey: Survey) -> str:
    """Return the same in words."""
    return ", ".join(f"{count} x {kind}" for kind, count in rejections(survey).items())
