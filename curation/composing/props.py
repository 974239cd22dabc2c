"""Which prop goes with whom: a seat under them, something in a hand, in front or beside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from mild_bench.curation.composing.frame import Frame
from mild_bench.curation.composing.pack import Pack
from mild_bench.curation.composing.placed import Placed, apart, put
from mild_bench.scene import Relation

SEAT_DROP_M = 0.1  # the hip joint is this much above the seat
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


def add_prop(
    wish: str, rng: np.random.Generator, frame: Frame, pack: Pack, placed: list[Placed]
) -> Placed | None:
    """Return a prop that goes with the placed people as wished, None when it finds no place."""
    return _PROPS[wish](rng, frame, pack, placed)


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
    seat = put(frame, asset, mirrored, (person.x, person.y))
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
    prop = put(
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
    if not frame.on_ground((x, y)) or y > 1.15 * frame.camera.size:
        return None
    prop = put(frame, asset, bool(rng.random() < 0.5), (x, y))
    others = [item for number, item in enumerate(placed) if number != partner]
    if not all(apart(frame.camera, (x, y), item) for item in others):
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
