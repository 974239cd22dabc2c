"""Quality rules between scenes: near duplicates, and places or people in two splits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.curation.ledger import Decision
from mild_bench.images import Rgb
from mild_bench.scene import Scene

HASH_SIDE = 16
# Of 256 bits: JPEG at quality 30, half the size or 8 % more light flip at most 29 on the 39 plates
# of the asset pack with people on them. Only a first sieve: other people on the same plate flip
# 3 to 73.
DUPLICATE_BITS = 40
THUMB_SIDE = 32
# Grey levels, the verdict: the same changes move a 1/32 block by at most 12, other people on the
# same plate (117 pairs) move one by at least 49.
DUPLICATE_LEVELS = 20.0


@dataclass(frozen=True)
class Likeness:
    """What of a picture is compared.

    Attributes:
        bits: difference hash (dHash), 256 bits: whether grey rises from a block to its right.
        thumb: grey 32 x 32 with mean 0, so that exposure does not count.
    """

    bits: int
    thumb: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """A scene as its neighbours see it.

    Attributes:
        subjects: the people in it (``Layer.subject``); unnamed ones are left out.
        judged: False for scenes of another workspace, which are compared and never rejected.
    """

    scene_id: str
    split: str
    group: str
    subjects: frozenset[str]
    likeness: Likeness
    judged: bool = True


def likeness(picture: Rgb) -> Likeness:
    """Return what of a picture survives scaling, compression and exposure."""
    grey = Image.fromarray(picture).convert("L")
    steps = np.asarray(grey.resize((HASH_SIDE + 1, HASH_SIDE), Image.Resampling.BOX), np.int16)
    bits = np.packbits(steps[:, 1:] > steps[:, :-1]).tobytes()
    small = np.asarray(grey.resize((THUMB_SIDE, THUMB_SIDE), Image.Resampling.BOX), np.float32)
    return Likeness(int.from_bytes(bits, "big"), small - small.mean())


def entry(scene: Scene, picture: Rgb, *, judged: bool = True) -> Entry:
    """Return the scene as its neighbours see it."""
    subjects = frozenset(person.subject for person in scene.people if person.subject)
    return Entry(
        scene.scene_id, scene.split, scene.group, subjects, likeness(picture), judged=judged
    )


def near_duplicates(entries: Iterable[Entry]) -> list[Decision]:
    """Reject scenes whose picture is nearly that of one that stays, in any split.

    Of two alike the one from another workspace stays, then the one in the test split, then the
    one whose split and id come first.
    """
    kept: list[Entry] = []
    decisions = []
    for candidate in sorted(entries, key=_rank):
        twin = next((other for other in kept if _alike(candidate, other)), None)
        if twin is None or not candidate.judged:
            kept.append(candidate)
        else:
            reason = f"nearly the same picture as {twin.scene_id} (split {twin.split})"
            decisions.append(
                Decision(candidate.scene_id, "rejected", reason, "rule:near-duplicate")
            )
    return decisions


def split_leaks(entries: Sequence[Entry]) -> list[Decision]:
    """Reject scenes whose place (group) or people (subjects) are in another split already.

    The split that another workspace holds keeps it, then the test split, then the first by name.
    """
    places = _leaks(entries, "rule:group-leak", "place", lambda item: frozenset({item.group}))
    people = _leaks(entries, "rule:subject-leak", "person", lambda item: item.subjects)
    return places + people


def _leaks(
    entries: Sequence[Entry], rule: str, what: str, names: Callable[[Entry], frozenset[str]]
) -> list[Decision]:
    home: dict[str, str] = {}
    decisions = []
    for item in sorted(entries, key=_rank):
        strays = [
            name for name in sorted(names(item)) if home.setdefault(name, item.split) != item.split
        ]
        if strays and item.judged:
            where = ", ".join(f"{name} (split {home[name]})" for name in strays)
            reason = f"{what} of split {item.split} also in another: {where}"
            decisions.append(Decision(item.scene_id, "rejected", reason, rule))
    return decisions


def _rank(item: Entry) -> tuple[bool, bool, str, str]:
    return item.judged, item.split != "test", item.split, item.scene_id


def _alike(one: Entry, other: Entry) -> bool:
    if (one.likeness.bits ^ other.likeness.bits).bit_count() > DUPLICATE_BITS:
        return False
    difference = np.abs(one.likeness.thumb - other.likeness.thumb)
    return bool(difference.max() <= DUPLICATE_LEVELS)
