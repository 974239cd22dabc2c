"""Who is who from frame to frame, and which people were once seen together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mild_bench.curation.filming.figures import Figure, Size

REACH = 0.6  # of a person's height: how far somebody gets between two sampled frames
PATIENCE = 3  # sampled frames for which somebody may be lost (behind a pole, in a group)


@dataclass
class Tracks:
    """Track numbers by frame and figure.

    Attributes:
        numbers: for every surveyed frame, the track of each of its figures.
        together: pairs of tracks seen in one frame, so surely two different people.
    """

    numbers: list[tuple[int, ...]] = field(default_factory=list)
    together: set[frozenset[int]] = field(default_factory=set)


def link(frames: Sequence[tuple[Figure, ...]], size: Size) -> Tracks:
    """Link figures of neighbouring frames, the nearest pairs first; a long gap ends a track.

    Args:
        frames: the figures of each surveyed frame, in order of time.
        size: what counts as near depends on how tall a person is there.
    """
    tracks = Tracks()
    before: dict[int, tuple[int, Figure]] = {}  # the last sight of a track: when, and what
    fresh = 0
    for now, figures in enumerate(frames):
        before = {track: seen for track, seen in before.items() if now - seen[0] <= PATIENCE}
        numbers = _continue(figures, now, before, size)
        for index in range(len(figures)):
            if index not in numbers:
                numbers[index] = fresh
                fresh += 1
        ordered = tuple(numbers[index] for index in range(len(figures)))
        tracks.numbers.append(ordered)
        tracks.together |= {frozenset((a, b)) for a in ordered for b in ordered if a != b}
        before |= {track: (now, figure) for track, figure in zip(ordered, figures, strict=True)}
    return tracks


def _continue(
    figures: tuple[Figure, ...], now: int, before: dict[int, tuple[int, Figure]], size: Size
) -> dict[int, int]:
    pairs = sorted(
        (_distance(figure, old, size) / (now - then) ** 0.5, index, number)
        for index, figure in enumerate(figures)
        for number, (then, old) in before.items()
    )
    numbers: dict[int, int] = {}
    for distance, index, number in pairs:
        if distance < REACH and index not in numbers and number not in numbers.values():
            numbers[index] = number
    return numbers


def _distance(one: Figure, two: Figure, size: Size) -> float:
    across = one.blob.x + one.blob.width / 2 - two.blob.x - two.blob.width / 2
    away = 2.0 * (one.blob.foot - two.blob.foot)  # a step in depth is short in the picture
    return float((across**2 + away**2) ** 0.5 / size.height(one.blob.foot))
