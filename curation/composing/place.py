"""Where people and props stand: on the ground, in perspective, hiding each other as wished."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.curation.composing.pack import Cutout, Pack, Plate, Point, cutout_picture, flip
from mild_bench.images import Mask
from mild_bench.scene import Relation
from mild_bench.task import occlusion_bin

COARSE = 128  # side of the masks that layouts are judged on
TRIES = 400
SIT = ("sit", "sit_lean")
SEAT_DROP_M = 0.1  # the hip joint is this much above the seat
APART_M = 0.42  # two people cannot stand closer
WHOLE = 0.62  # who shows less than this share of themselves inside the frame is cut by it
LEAST_SHARE = 0.3
# Which prop goes into which hand in which pose: COCO-17 index of the elbow and wrist.
HOLDS: dict[str, tuple[tuple[str, int, int], ...]] = {
    "carry_bag_side": (("backpack", 8, 10), ("umbrella", 7, 9)),
    "look_phone": (("umbrella", 7, 9),),
    "carry_front": (("box", 7, 9),),
    "reach_both": (("box", 7, 9),),
}
IN_FRONT = {
    "outdoor": (
        "railing", "bicycle", "litter_bin", "potted_plant", "stroller", "cafe_table", "street_sign",
    ),
    "indoor": ("potted_plant", "cafe_table", "stroller", "floor_lamp", "suitcase"),
}  # fmt: skip
BESIDE = {
    "outdoor": ("ball", "suitcase", "backpack", "traffic_cone", "bicycle", "litter_bin"),
    "indoor": ("suitcase", "backpack", "floor_lamp", "box"),
}


@dataclass(frozen=True)
class Camera:
    """A level camera over flat ground; pixels of the scene, metres.

    A person whose feet are at row ``y`` has ``px_per_m(y)`` pixels a metre.
    """

    horizon: float
    height_m: float
    focal: float
    size: int

    def px_per_m(self, y: float) -> float:
        """Pixels a metre for what stands at row ``y`` (below the horizon)."""
        return (y - self.horizon) / self.height_m

    def depth(self, y: float) -> float:
        """Distance in metres of the ground at row ``y``."""
        return self.focal / self.px_per_m(y)

    def row(self, depth: float) -> float:
        """Row of the ground at a distance in metres."""
        return self.horizon + self.height_m * self.focal / depth

    def squash(self, y: float) -> float:
        """How flat a circle on the ground looks at row ``y``: height over width."""
        return min(1.0, self.height_m / self.depth(y))


@dataclass(frozen=True)
class Frame:
    """The part of a plate that becomes the scene."""

    plate: Plate
    box: tuple[int, int, int, int]  # left, top, right, bottom in plate pixels
    mirrored: bool
    camera: Camera
    ground: tuple[Point, ...]  # polygon in scene pixels
    light: tuple[float, float, float]


@dataclass(frozen=True)
class Wishes:
    """What one scene should be like."""

    people: int
    occlusion_bin: str
    entanglement: str
    truncated: bool


@dataclass(frozen=True)
class Placed:
    """A cut-out in the scene: its ground point stands at ``x, y``."""

    asset: Cutout
    mirrored: bool
    x: float
    y: float
    scale: float
    order: float  # nearer is larger
    relation: Relation | None = None
    partner: Cutout | None = None  # the person it goes with
    attached: bool = False

    def corner(self) -> Point:
        """Left and top of its picture in the scene."""
        return (
            self.x - self.asset.ground[0] * self.scale,
            self.y - self.asset.ground[1] * self.scale,
        )

    def at(self, point: Point) -> Point:
        """Where a point of its picture is in the scene."""
        left, top = self.corner()
        return (left + point[0] * self.scale, top + point[1] * self.scale)


def choose_frame(rng: np.random.Generator, plate: Plate, size: tuple[int, int], side: int) -> Frame:
    """Choose a square part of a plate of ``size`` (width, height) for a ``side`` pixel scene."""
    width, height = size
    most = min(width, height)
    window = int(rng.integers(min(most, round(side * 1.1)), most + 1))
    left = int(rng.integers(0, width - window + 1))
    top = int((height - window) * rng.uniform(0.75, 1.0))
    mirrored = bool(rng.random() < 0.5)
    scale = side / window

    def across(x: float) -> float:
        shown = (x * width - left) * scale
        return side - shown if mirrored else shown

    light_x, light_y, light_z = plate.light["direction"]
    assert plate.horizon is not None
    return Frame(
        plate,
        (left, top, left + window, top + window),
        mirrored,
        Camera(
            (plate.horizon * height - top) * scale,
            plate.camera_height_m,
            plate.focal * height * scale,
            side,
        ),
        tuple((across(x), (y * height - top) * scale) for x, y in plate.ground),
        (-light_x if mirrored else light_x, light_y, light_z),
    )


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
    prop = _PROPS[wishes.entanglement](rng, frame, pack, placed)
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
        if spot and _on_ground(frame, spot) and all(_apart(frame, spot, item) for item in people):
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
    return (
        48 <= pixels <= 265 and -0.06 * size <= spot[0] <= 1.06 * size and _in(frame.ground, spot)
    )


def _in(polygon: tuple[Point, ...], point: Point) -> bool:
    inside = False
    x, y = point
    for (x1, y1), (x2, y2) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            inside = not inside
    return inside


def _apart(frame: Frame, spot: Point, other: Placed) -> bool:
    camera = frame.camera
    centre = camera.size / 2
    across = (spot[0] - centre) / camera.px_per_m(spot[1]) - (other.x - centre) / camera.px_per_m(
        other.y
    )
    return math.hypot(across, camera.depth(spot[1]) - camera.depth(other.y)) >= APART_M


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
    return _placed(frame, asset, mirrored, spot)


def _poses(person: Cutout, wish: str) -> bool:
    if wish == "seat":
        return person.pose in SIT
    if wish == "held":
        return person.pose in HOLDS
    return person.pose not in SIT


def _placed(frame: Frame, asset: Cutout, mirrored: bool, spot: Point, size: float = 1.0) -> Placed:
    if mirrored:
        asset = flip(asset, cutout_picture(asset).width)
    scale = frame.camera.px_per_m(spot[1]) / asset.px_per_m * size
    x, y = float(spot[0]), float(spot[1])
    return Placed(asset, mirrored, x, y, float(scale), order=y)


def _no_prop(*_: Any) -> Placed | None:
    return None


def _seat(
    rng: np.random.Generator, frame: Frame, pack: Pack, placed: list[Placed]
) -> Placed | None:
    person = placed[0]
    hips = [person.at(point[:2]) for point in person.asset.keypoints[11:13]]
    hip = ((hips[0][0] + hips[1][0]) / 2, (hips[0][1] + hips[1][1]) / 2)
    height = (person.y - hip[1]) / (person.asset.px_per_m * person.scale) - SEAT_DROP_M
    kinds = ("chair", "bench", "box") if abs(person.asset.yaw) < 80 else ("box",)
    pool = [prop for prop in pack.props if prop.kind in kinds and prop.seat]
    asset = pool[int(rng.integers(len(pool)))]
    mirrored = asset.yaw * person.asset.yaw < 0
    seat = _placed(frame, asset, mirrored, (person.x, person.y))
    assert seat.asset.seat is not None
    seat_height = (seat.asset.ground[1] - seat.asset.seat[1]) / seat.asset.px_per_m
    size = height / seat_height
    if not 0.7 <= size <= 1.35:
        return None
    seat = replace(
        seat,
        scale=seat.scale * size,
        order=person.order - 0.01,
        relation="seat",
        partner=person.asset,
    )
    target = (hip[0], hip[1] + SEAT_DROP_M * person.asset.px_per_m * person.scale)
    here = seat.at(seat.asset.seat) if seat.asset.seat else target
    return replace(seat, x=seat.x + target[0] - here[0], y=seat.y + target[1] - here[1])


def _held(
    rng: np.random.Generator, frame: Frame, pack: Pack, placed: list[Placed]
) -> Placed | None:
    person = placed[0]
    holds = HOLDS[person.asset.pose]
    kind, elbow, wrist = holds[int(rng.integers(len(holds)))]
    if person.mirrored:
        elbow, wrist = (7, 9) if elbow == 8 else (8, 10)
    pool = [prop for prop in pack.props if prop.kind == kind and prop.grip]
    prop = _placed(
        frame, pool[int(rng.integers(len(pool)))], bool(rng.random() < 0.5), (person.x, person.y)
    )
    front = kind == "box" and abs(person.asset.yaw) < 60
    points = person.asset.keypoints
    if kind == "box":
        hands = [person.at(points[9][:2]), person.at(points[10][:2])]
        hand = ((hands[0][0] + hands[1][0]) / 2, (hands[0][1] + hands[1][1]) / 2)
        prop = replace(prop, scale=prop.scale * 0.72)
    else:
        here, before = person.at(points[wrist][:2]), person.at(points[elbow][:2])
        reach = 0.3  # the palm is about a third of a forearm beyond the wrist
        hand = (here[0] + (here[0] - before[0]) * reach, here[1] + (here[1] - before[1]) * reach)
    assert prop.asset.grip is not None
    grip = prop.at(prop.asset.grip)
    order = person.order + (0.01 if front else -0.01)
    moved = replace(prop, x=prop.x + hand[0] - grip[0], y=prop.y + hand[1] - grip[1], order=order)
    return replace(moved, relation="held", partner=person.asset, attached=True)


def _standing_prop(
    rng: np.random.Generator, frame: Frame, pack: Pack, placed: list[Placed],
    kinds: tuple[str, ...], relation: Relation,
) -> Placed | None:  # fmt: skip
    partner = int(rng.integers(len(placed)))
    person = placed[partner]
    pool = [prop for prop in pack.props if prop.kind in kinds]
    asset = pool[int(rng.integers(len(pool)))]
    aside = (
        rng.uniform(-0.3, 0.3)
        if relation == "in-front"
        else rng.uniform(0.45, 0.8) * rng.choice([-1.0, 1.0])
    )
    nearer = rng.uniform(0.4, 0.8) if relation == "in-front" else rng.uniform(-0.2, 0.2)
    depth = frame.camera.depth(person.y) - nearer
    if depth < 1.0:
        return None
    y = frame.camera.row(depth)
    x = person.x + aside * frame.camera.px_per_m(y)
    if not _in(frame.ground, (x, y)) or y > 1.15 * frame.camera.size:
        return None
    prop = _placed(frame, asset, bool(rng.random() < 0.5), (x, y))
    others = [item for number, item in enumerate(placed) if number != partner]
    if not all(_apart(frame, (x, y), item) for item in others):
        return None
    return replace(prop, relation=relation, partner=person.asset)


def _in_front(
    rng: np.random.Generator, frame: Frame, pack: Pack, placed: list[Placed]
) -> Placed | None:
    return _standing_prop(rng, frame, pack, placed, IN_FRONT[frame.plate.place], "in-front")


def _beside_prop(
    rng: np.random.Generator, frame: Frame, pack: Pack, placed: list[Placed]
) -> Placed | None:
    return _standing_prop(rng, frame, pack, placed, BESIDE[frame.plate.place], "beside")


_PROPS: dict[str, Callable[..., Placed | None]] = {
    "none": _no_prop, "seat": _seat, "held": _held, "in-front": _in_front, "beside": _beside_prop,
}  # fmt: skip


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
