"""Several people of one fixed camera, cut out at different times, on one empty plate."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mild_bench.curation.filming.plate import Floats
from mild_bench.images import Mask, Rgb, Rgba
from mild_bench.scene import Layer, Scene

PEOPLE = (3, 6)  # wanted in a scene, as far as there are that many different ones
SHIFT = 0.8  # of a person's height: the farthest that somebody is moved sideways
WALKABLE = 0.97  # of a person's pixels must have been seen with somebody as far off before them
APART = 0.04  # of the frame's height between the feet of people who overlap
HIDDEN_GAP = 0.08  # of a person's area
SEEN = 0.3  # of everybody must stay visible
TRIES = 40  # people drawn for one attempt
ATTEMPTS = 12


@dataclass(frozen=True)
class CutOut:
    """A whole person, alone in the frame they come from, in the light of the plate.

    Attributes:
        rgba: the smallest box that holds the person and the shadow.
        effect: light lost, as in ``Layer.effect``, in the same box.
        x, y: where that box stood.
        foot: the row the person stands on.
        frame: where they were cut out.
    """

    rgba: Rgba
    effect: npt.NDArray[np.uint8]
    x: int
    y: int
    subject: str
    track: int
    foot: int
    frame: int

    @property
    def body(self) -> Mask:
        """The person in the box."""
        return np.asarray(self.rgba[..., 3] >= 128)


@dataclass(frozen=True)
class Placed:
    """A person, moved ``shift`` pixels to the right; ``mask`` is on the whole frame."""

    cutout: CutOut
    shift: int
    mask: Mask


def cut_box(
    layer: Layer,
    *,
    gain: Sequence[float],
    offset: Sequence[float],
    track: int,
    foot: int,
    frame: int,
) -> CutOut:
    """Cut a layer of a frame to its box and bring it to the light of the plate."""
    shape = layer.rgba.shape[:2]
    effect = np.zeros((*shape, 2), np.uint8) if layer.effect is None else layer.effect
    rows, columns = np.nonzero((layer.rgba[..., 3] > 0) | (effect.max(2) > 0))
    box = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    rgba = layer.rgba[box]
    back = (rgba[..., :3] - np.array(offset, np.float32)) / np.array(gain, np.float32)
    rgb = np.where(rgba[..., 3:] > 0, np.rint(back).clip(0, 255), 0).astype(np.uint8)
    return CutOut(
        np.dstack([rgb, rgba[..., 3]]), effect[box].copy(), int(columns.min()), int(rows.min()),
        layer.subject, track, foot, frame,
    )  # fmt: skip


def nearest_feet(shape: tuple[int, int], seen: Sequence[tuple[Mask, int]]) -> Floats:
    """Return, by pixel, the smallest foot row of anybody who was seen in front of it.

    What is behind a pixel is farther off than whoever covered it; infinite where nobody did. A
    person may be moved to where somebody as far off, or farther, has covered the background; so
    nobody walks through a pole or a wall.
    """
    feet = np.full(shape, np.inf, np.float32)
    for mask, foot in seen:
        feet[mask] = np.minimum(feet[mask], foot)
    return feet


def seems_whole(body: Mask, foot: int, feet: Floats) -> bool:
    """Tell whether nothing fixed seems to stand in front of a person.

    The gaps in the outline (its convex hull less the body) must be spots that somebody as far
    off has covered at some time: where nobody ever did, a pole or a sign may hide a part.
    """
    from skimage.morphology import convex_hull_image

    hull = convex_hull_image(body)
    unknown = hull & ~body & (feet > foot + 2)
    return bool(unknown.sum() < HIDDEN_GAP * body.sum())


def move_together(
    cutouts: Sequence[CutOut],
    together: Collection[frozenset[int]],
    feet: Floats,
    *,
    rng: np.random.Generator,
    people_min: int,
) -> list[Placed] | None:
    """Choose people and shifts so that some overlap; None if none fit.

    Only tracks that were once seen together are put together: they are different people.
    """
    wanted = int(rng.integers(max(people_min, PEOPLE[0]), max(people_min, PEOPLE[1]) + 1))
    for _ in range(ATTEMPTS):
        placed = _attempt(cutouts, together, feet, wanted, rng)
        if len(placed) >= max(2, people_min) and _overlap(placed):
            return placed
    return None


def moved_scene(
    placed: Sequence[Placed],
    plate: Rgb,
    *,
    scene_id: str,
    split: str,
    group: str,
    licence: str,
    credits: tuple[str, ...],
    provenance: dict[str, object],
) -> Scene:
    """Put people on the plate, far to near by their feet: every hidden part is known."""
    ordered = sorted(placed, key=lambda one: (one.cutout.foot, one.cutout.frame, one.cutout.track))
    layers = []
    for number, one in enumerate(ordered, start=1):
        effect = _paste(one.cutout.effect, one.cutout, one.shift, plate.shape[:2])
        layers.append(
            Layer(
                layer_id=f"person-{number}",
                kind="person",
                rgba=_paste(one.cutout.rgba, one.cutout, one.shift, plate.shape[:2]),
                effect=effect if effect.any() else None,
                subject=one.cutout.subject,
            )
        )
    details: dict[str, object] = {
        **provenance,
        "kind": "moved",
        "people": {
            layer.layer_id: {"frame": one.cutout.frame, "moved_px": one.shift}
            for layer, one in zip(layers, ordered, strict=True)
        },
        # The picture is made from the plate: outside the masks and shadows it is the plate.
        "outside_difference": {"mean": 0.0, "p95": 0.0},
    }
    return Scene(scene_id, split, group, "derived", plate, tuple(layers), licence, credits, details)


def _attempt(
    cutouts: Sequence[CutOut],
    together: Collection[frozenset[int]],
    feet: Floats,
    wanted: int,
    rng: np.random.Generator,
) -> list[Placed]:
    placed: list[Placed] = []
    for _ in range(TRIES):
        if len(placed) == wanted:
            break
        cutout = cutouts[int(rng.integers(len(cutouts)))]
        if not all(frozenset((cutout.track, other.cutout.track)) in together for other in placed):
            continue
        shift = _aim(cutout, placed, rng)
        alpha = _paste(cutout.rgba[..., 3], cutout, shift, feet.shape)
        one = Placed(cutout, shift, np.asarray(alpha >= 128))
        if _fits(one, placed, feet):
            placed.append(one)
    return placed


def _aim(cutout: CutOut, placed: Sequence[Placed], rng: np.random.Generator) -> int:
    """Return a small shift, where possible one that brings the person beside somebody placed."""
    left, right, tall = _extent(cutout)
    shift = float(rng.uniform(-0.2, 0.2)) * tall
    if placed and rng.random() < 0.8:
        other = placed[int(rng.integers(len(placed)))]
        low, high, _ = _extent(other.cutout)
        offset = float(rng.uniform(-0.7, 0.7)) * (high - low)
        shift = (low + high) / 2 + other.shift + offset - (left + right) / 2
    return round(shift) if abs(shift) <= SHIFT * tall else 0


def _fits(one: Placed, placed: Sequence[Placed], feet: Floats) -> bool:
    foot = one.cutout.foot
    if one.mask.sum() != one.cutout.body.sum():
        return False
    if one.shift and float((feet[one.mask] <= foot + 2).mean()) < WALKABLE:
        return False
    gap = APART * one.mask.shape[0]
    for other in placed:
        if abs(other.cutout.foot - foot) < gap and (one.mask & other.mask).any():
            return False
    return _all_seen([*placed, one])


def _all_seen(placed: Sequence[Placed]) -> bool:
    for one in placed:
        nearer = [other.mask for other in placed if other.cutout.foot > one.cutout.foot]
        hidden = np.logical_or.reduce(nearer) if nearer else np.zeros_like(one.mask)
        if (one.mask & ~hidden).sum() < SEEN * one.mask.sum():
            return False
    return True


def _overlap(placed: Sequence[Placed]) -> bool:
    return any(
        bool((one.mask & other.mask).any())
        for index, one in enumerate(placed)
        for other in placed[:index]
    )


def _extent(cutout: CutOut) -> tuple[int, int, int]:
    rows, columns = np.nonzero(cutout.body)
    left, right = cutout.x + int(columns.min()), cutout.x + int(columns.max())
    return left, right, int(np.ptp(rows)) + 1


def _paste(
    box: npt.NDArray[np.uint8], cutout: CutOut, shift: int, shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Return ``box`` on an empty frame, ``shift`` pixels right of where it stood."""
    full = np.zeros((*shape[:2], *box.shape[2:]), np.uint8)
    left, right = cutout.x + shift, cutout.x + shift + box.shape[1]
    first, last = max(0, left), min(shape[1], right)
    if first < last:
        part = box[:, first - left : last - left]
        full[cutout.y : cutout.y + box.shape[0], first:last] = part
    return full
