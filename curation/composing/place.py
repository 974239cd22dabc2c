"""Where people and props stand: on the ground, in perspective, hiding each other as wished."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.curation.composing.frame import Frame
from mild_bench.curation.composing.pack import Cutout, Pack, Point, cutout_picture
from mild_bench.curation.composing.placed import Placed, apart, put
from mild_bench.curation.composing.props import HOLDS, add_prop
from mild_bench.images import Mask
from mild_bench.task import occlusion_bin

COARSE = 128  # side of the masks that layouts are judged on
TRIES = 400
SIT = ("sit", "sit_lean")
WHOLE = 0.62  # who shows less than this share of themselves inside the frame is cut by it
LEAST_SHARE = 0.3


@dataclass(frozen=True)
class Wishes:
    """What one scene should be like."""

    people: int
    occlusion_bin: str
    entanglement: str
    truncated: bool


def lay_out(
    rng: np.random.Generator, frame: Frame, pack: Pack, wishes: Wishes
) -> list[Placed] | None:
    """Return placed people and props that fit the wishes, far to near; None if none was found."""
    for _ in range(TRIES):
        placed = _try(rng, frame, pack, wishes)
        if placed is not None and _fits(placed, frame.camera.size, wishes):
            return sorted(placed, key=lambda item: item.order)
    return None


def people_of(placed: list[Placed]) -> list[Placed]:
    """Return the people among the placed."""
    return [item for item in placed if item.asset.is_person]


def coarse_mask(item: Placed, size: int) -> tuple[Mask, float]:
    """Return where a placed cut-out is on a small grid, and its share inside the frame."""
    scale = item.scale * COARSE / size
    image = cutout_picture(item.asset).getchannel("A")
    wide, high = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image.resize((wide, high), Image.Resampling.BOX)
    if item.mirrored:
        small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    canvas = Image.new("L", (COARSE, COARSE))
    left, top = item.corner()
    canvas.paste(small, (round(left * COARSE / size), round(top * COARSE / size)))
    mask = np.asarray(canvas) >= 128
    return mask, float(mask.sum() / max(1, (np.asarray(small) >= 128).sum()))


def _try(rng: np.random.Generator, frame: Frame, pack: Pack, wishes: Wishes) -> list[Placed] | None:
    placed: list[Placed] = []
    used: set[str] = set()
    for number in range(wishes.people):
        spot = _spot(rng, frame, wishes, placed, number)
        if spot is None:
            return None
        leading = number == 0 and wishes.entanglement in ("seat", "held")
        person = _person(rng, frame, pack, spot, used, wishes.entanglement if leading else "")
        if person is None:
            return None
        used.add(person.asset.subject)
        placed.append(person)
    prop = add_prop(wishes.entanglement, rng, frame, pack, placed)
    if wishes.entanglement != "none" and prop is None:
        return None
    return [*placed, prop] if prop else placed


def _spot(
    rng: np.random.Generator, frame: Frame, wishes: Wishes, placed: list[Placed], number: int
) -> Point | None:
    people = people_of(placed)
    overlap = wishes.occlusion_bin != "none" and people and (number == 1 or rng.random() < 0.45)
    for _ in range(12):
        if overlap:
            near = people[0] if number == 1 else people[int(rng.integers(len(people)))]
            spot = _beside(rng, frame, near, wishes.occlusion_bin if number == 1 else "light")
        else:
            spot = _anywhere(rng, frame, wishes.truncated and number == 0)
        if (
            spot
            and _on_ground(frame, spot)
            and all(apart(frame.camera, spot, item) for item in people)
        ):
            return spot
    return None


def _beside(rng: np.random.Generator, frame: Frame, near: Placed, wish: str) -> Point | None:
    low, high = {"light": (0.3, 0.6), "moderate": (0.15, 0.45), "heavy": (0.0, 0.3)}[wish]
    aside = rng.uniform(low, high) * rng.choice([-1.0, 1.0])
    nearer = rng.uniform(0.35, 1.3) * rng.choice([-1.0, 1.0])
    depth = frame.camera.depth(near.y) - nearer
    if depth < 1.0:
        return None
    y = frame.camera.row(depth)
    # The same lateral place in the world, seen from nearer or farther, plus the shift.
    centre = frame.camera.size / 2
    ratio = frame.camera.px_per_m(y) / frame.camera.px_per_m(near.y)
    return (centre + (near.x - centre) * ratio + aside * frame.camera.px_per_m(y), y)


def _anywhere(rng: np.random.Generator, frame: Frame, cut: bool) -> Point:
    size = frame.camera.size
    rows = [y for _, y in frame.ground]
    x = rng.uniform(0.08, 0.92) * size
    lowest = min(max(rows), 1.28 * size) if min(rows) > 0.9 * size else 0.985 * size
    y = rng.uniform(min(rows), max(lowest, min(rows) + 1))
    if not cut:
        return (x, y)
    if rng.random() < 0.4:
        return (x, rng.uniform(1.04, 1.2) * size)
    return (float(rng.choice([0.0, 1.0]) + rng.uniform(-0.04, 0.04)) * size, y)


def _on_ground(frame: Frame, spot: Point) -> bool:
    size = frame.camera.size
    pixels = frame.camera.px_per_m(spot[1]) * 512 / size
    return 48 <= pixels <= 265 and -0.06 * size <= spot[0] <= 1.06 * size and frame.on_ground(spot)


def _person(
    rng: np.random.Generator, frame: Frame, pack: Pack, spot: Point, used: set[str], wish: str
) -> Placed | None:
    pool = [person for person in pack.people if person.subject not in used and _poses(person, wish)]
    if not pool:
        return None
    seen_from = math.degrees(math.atan2(frame.camera.height_m - 0.9, frame.camera.depth(spot[1])))
    weights = np.array([math.exp(-(((p.elevation - seen_from) / 8) ** 2)) + 1e-3 for p in pool])
    asset = pool[int(rng.choice(len(pool), p=weights / weights.sum()))]
    lit = frame.plate.light["cast"] > 0
    mirrored = asset.light[0] * frame.light[0] < 0 if lit else bool(rng.random() < 0.5)
    return put(frame, asset, mirrored, spot)


def _poses(person: Cutout, wish: str) -> bool:
    if wish == "seat":
        return person.pose in SIT
    if wish == "held":
        return person.pose in HOLDS
    return person.pose not in SIT


def _fits(placed: list[Placed], size: int, wishes: Wishes) -> bool:
    ordered = sorted(placed, key=lambda item: -item.order)  # near to far
    hidden: list[float] = []
    shares: list[float] = []
    taken: npt.NDArray[np.bool_] = np.zeros((COARSE, COARSE), bool)
    for item in ordered:
        mask, share = coarse_mask(item, size)
        if item.asset.is_person:
            area, visible = int(mask.sum()), int((mask & ~taken).sum())
            if visible < max(30, 0.15 * area):
                return False
            hidden.append(1 - visible / area)
            shares.append(share)
        taken = taken | mask
    cut = [share for share in shares if share < WHOLE]
    whole = min(shares) >= LEAST_SHARE and len(cut) <= int(wishes.truncated)
    return whole and occlusion_bin(max(hidden)) == wishes.occlusion_bin
