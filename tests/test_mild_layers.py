"""Branches, layers and recomposing: geometry and laws, without a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tiny_mild import make_input

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb, Rgba
from mild_bench.mild.branches import GREY, Box, complete_person, cut, person_box, person_branch
from mild_bench.mild.layers import layer_of
from mild_bench.mild.picture import MildInput, branches_of, picture_layout
from mild_bench.mild.recompose import MildOutput, near_to_far, without_contradictions
from mild_bench.mild.train.holes import grown


def taken_apart(given: MildInput, *, seed: int = 0) -> MildOutput:
    """Return layers of noise with noisy alpha, as a bad network would paint them."""
    random = np.random.default_rng(seed)
    size = given.hole.shape
    painted_frame = random.integers(0, 256, given.picture.shape).astype(np.uint8)
    visible = {name: given.visible(name) for name in given.with_staying().erase}
    layers: dict[str, Rgba] = {}
    for name, mask in visible.items():
        painted = torch.from_numpy(random.random((3, 32, 32)).astype(np.float32))
        alpha = torch.from_numpy(random.random((32, 32)).astype(np.float32))
        box = person_box(torch.from_numpy(mask), 0.3)
        layers[name] = layer_of(painted, alpha, box, given.picture, mask)
        assert layers[name].shape == (*size, 4)
    clear = without_contradictions(layers, visible)
    return MildOutput(
        given,
        painted_frame,
        layers={name: layer for name, layer in clear.items() if name in given.erase},
        staying={name: layer for name, layer in clear.items() if name not in given.erase},
    )


def contaminated(*, stays: bool) -> MildInput:
    """Return a grey picture with a red person to erase, and perhaps a blue one who stays.

    Red has run a pixel into what is beside it.
    """
    picture = np.full((96, 96, 3), 120, np.uint8)
    people = np.zeros((96, 96), np.uint8)
    people[30:70, 30:50] = 1
    if stays:
        people[20:80, 50:70] = 2
        picture[people == 2] = [20, 20, 200]
    hole = people == 1
    picture[hole] = [220, 30, 30]
    beside = grown(hole, 1) & ~hole
    picture[beside] = picture[beside] // 2 + np.uint8([110, 15, 15])
    names = ("red", "blue")[: 1 + stays]
    return MildInput(picture, hole, people, names, erase=("red",), rim=2)


def empty(picture: Rgb, *names: str) -> MildInput:
    """Return an input of which everything is a hole, but for one pixel, and people who hide."""
    size = picture.shape[:2]
    hole = np.ones(size, bool)
    hole[0, 0] = False
    return MildInput(picture, hole, np.zeros(size, np.uint8), names, names)


@settings(max_examples=25, deadline=None)
@drawn(people=st.integers(1, 5), seed=st.integers(0, 99), width=st.integers(60, 120))
def test_everybody_in_place_is_the_input(people: int, seed: int, width: int) -> None:
    """Whatever the network painted: visible pixels come from the input, nobody covers them."""
    given = make_input(people, width=width, seed=seed)
    output = taken_apart(given, seed=seed)
    again = output.recompose()
    shown = (given.people > 0) | ~given.hole
    assert np.array_equal(again[shown], given.picture[shown])
    assert np.array_equal(output.recompose(keep=[]), output.background)
    assert set(output.layers) == set(given.erase)


@settings(max_examples=25, deadline=None)
@drawn(
    people=st.integers(2, 5), seed=st.integers(0, 99), rim=st.integers(0, 3), refine=st.booleans()
)
def test_everybody_in_place_is_the_input_beside_those_who_stay(
    people: int, seed: int, rim: int, refine: bool
) -> None:
    """Whoever stays, in front or behind: nobody who is drawn again covers what shows of them."""
    whole = make_input(people, seed=seed)
    chosen = np.random.default_rng(seed).permutation(people)[: max(1, people // 2)]
    erase = tuple(f"p{number + 1}" for number in sorted(chosen))
    given = replace(whole, erase=erase, hole=grown(whole.shown(erase), 3), rim=rim)
    output = taken_apart(given, seed=seed)
    if refine:
        output = output.refined()
    shown = (given.people > 0) | ~given.unseen()
    again = output.recompose()
    assert np.array_equal(again[shown], given.picture[shown])
    kept = ~given.unseen()
    assert np.array_equal(output.background[kept], given.picture[kept])


@pytest.mark.parametrize("stays", [False, True])
def test_most_of_the_colour_beside_the_erased_goes(stays: bool) -> None:
    given = contaminated(stays=stays)
    layers = {"red": np.zeros((96, 96, 4), np.uint8)}
    staying = {}
    if stays:
        shows = given.visible("blue")
        staying["blue"] = np.dstack([given.picture, np.where(shows, np.uint8(255), np.uint8(0))])
    output = MildOutput(given, np.full_like(given.picture, 120), layers, staying)
    beside = grown(given.hole, 1) & ~given.hole
    if stays:
        beside &= given.visible("blue")
    excess = [
        (one[beside][:, 0].astype(int) - one[beside].min(axis=1)).mean()
        for one in (given.picture, output.background, output.refined().background)
    ]
    assert excess[0] > 40
    assert excess[2] < 0.5 * excess[0]
    assert excess[1] == excess[0] or not stays


def test_who_hides_everything_else_is_not_taken_apart() -> None:
    """Somewhere there must be something to look at."""
    people = np.full((32, 32), 2, np.uint8)
    people[8:24, 8:24] = 1
    hole = people == 1
    picture = np.zeros((32, 32, 3), np.uint8)
    given = MildInput(picture, hole, people, ("p1", "p2"), erase=("p1",), rim=2)
    assert given.at_the_hole() == ("p2",)
    assert given.with_staying() is given


def test_a_rim_is_not_negative() -> None:
    with pytest.raises(BadInput, match="rim: expected 0 pixels or more, got -1"):
        replace(make_input(1), rim=-1)


@settings(max_examples=25, deadline=None)
@drawn(dx=st.integers(-40, 40), dy=st.integers(-30, 30))
def test_whole_pixels_move_exactly(dx: int, dy: int) -> None:
    given = make_input(1)
    layer = np.zeros((80, 96, 4), np.uint8)
    layer[30:50, 40:60] = [*np.random.default_rng(0).integers(0, 256, 3), 255]
    output = MildOutput(given, given.picture, {"p1": layer})
    moved = output.recompose(shift={"p1": (dx, dy)})
    expected = given.picture.copy()
    top, left = 30 + dy, 40 + dx
    rows = slice(max(top, 0), max(min(top + 20, 80), 0))
    columns = slice(max(left, 0), max(min(left + 20, 96), 0))
    expected[rows, columns] = layer[30, 40, :3]
    if (dx, dy) != (0, 0):
        assert np.array_equal(moved, expected)


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_scaling_keeps_the_feet_in_place(size: float) -> None:
    layer = np.zeros((80, 96, 4), np.uint8)
    layer[40:60, 40:60] = [200, 10, 10, 255]
    black = np.zeros((80, 96, 3), np.uint8)
    output = MildOutput(empty(black, "p1"), black, {"p1": layer})
    red = output.recompose(scale={"p1": size})[..., 0] > 100
    rows, columns = (np.flatnonzero(red.any(axis=axis)) for axis in (1, 0))
    assert abs(rows[-1] - 59) <= 1
    assert abs(rows[0] - (60 - 20 * size)) <= 1
    assert abs((columns[0] + columns[-1] + 1) / 2 - 50) <= 1
    assert abs(len(columns) - 20 * size) <= 2


def test_order_decides_who_is_in_front() -> None:
    black = np.zeros((8, 8, 3), np.uint8)
    layers = {name: np.full((8, 8, 4), value, np.uint8) for name, value in (("a", 255), ("b", 99))}
    layers["b"][..., 3] = 255
    output = MildOutput(empty(black, "a", "b"), black, layers)
    assert (output.recompose()[1:] == 99).all()
    assert (output.recompose(order=["b", "a"])[1:] == 255).all()
    assert (output.recompose(keep=["a"])[1:] == 255).all()
    for bad in ({"keep": ["c"]}, {"keep": ["a"], "order": ["b"]}, {"scale": {"a": 0}},
                {"order": ["a"]}, {"shift": {"x": (0, 0)}}):  # fmt: skip
        with pytest.raises(BadInput, match=r"expected (ids|each|above)"):
            output.recompose(**bad)


@settings(max_examples=25, deadline=None)
@drawn(order=st.permutations(["a", "b", "c", "d"]))
def test_complete_layers_tell_the_order(order: list[str]) -> None:
    """Overlapping boxes, each complete: whose layer reaches behind another's is farther."""
    amodal = {}
    labels = np.full((40, 60), "", dtype=object)
    for number, name in enumerate(order):
        mask = np.zeros((40, 60), bool)
        mask[5 + number : 35, 4 + 9 * number : 24 + 9 * number] = True
        amodal[name] = mask
        labels[mask] = name
    layers = {name: np.zeros((40, 60, 4), np.uint8) for name in sorted(order)}
    for name, layer in layers.items():
        layer[amodal[name], 3] = 255
    visible: dict[str, Mask] = {name: labels == name for name in layers}
    assert near_to_far(layers, visible) == order


@settings(max_examples=40, deadline=None)
@drawn(
    top=st.integers(0, 60), left=st.integers(0, 70), tall=st.integers(1, 20),
    wide=st.integers(1, 26), margin=st.floats(0, 2),
)  # fmt: skip
def test_a_box_holds_the_person(top: int, left: int, tall: int, wide: int, margin: float) -> None:
    mask = torch.zeros(80, 96, dtype=torch.bool)
    mask[top : top + tall, left : left + wide] = True
    box = person_box(mask, margin)
    assert cut(mask, box).sum() == mask.sum()
    assert cut(mask, box).shape == (box.side, box.side)
    assert box.side <= 96
    assert 0 <= box.left <= 96 - box.side
    if box.side <= 80:
        assert 0 <= box.top <= 80 - box.side


def test_nobody_has_no_box() -> None:
    with pytest.raises(BadInput, match="some pixels of a person"):
        person_box(torch.zeros(4, 4, dtype=torch.bool), 0.2)


def test_branches_hide_what_is_to_be_painted() -> None:
    given = make_input(2)
    layout = picture_layout((80, 96), 64, 32, 0.3, 8)
    assert layout.frame == (56, 64)
    background, first, _ = branches_of(given, layout, layers=True)
    assert (background.picture[:, background.unknown > 0] == GREY).all()
    assert background.labels.unique().tolist() == [0, 1, 2]
    assert first.size == (32, 32)
    assert (first.picture[:, first.unknown > 0] == GREY).all()
    assert torch.equal(first.labels, first.unknown.long())
    assert first.priors.others is not None
    assert (first.priors.others > 0).any()
    assert not (first.priors.others * first.priors.place > 0.5).any()
    other = MildInput(
        **{**given.__dict__, "picture": np.where((given.people == 1)[..., None], given.picture, 0)}
    )
    same = branches_of(other, layout, layers=True)[1]
    assert torch.equal(same.picture, first.picture)  # nothing but the person is looked at


def test_a_smooth_hole_tells_nothing_of_who_was_in_it() -> None:
    given = make_input(2)
    layout = picture_layout((80, 96), 64, 32, 0.3, 8, "smooth")
    grey = picture_layout((80, 96), 64, 32, 0.3, 8)
    other = np.where(given.hole[..., None], 255 - given.picture, given.picture)
    smooth, greyed = (branches_of(given, one, layers=False)[0] for one in (layout, grey))
    again = branches_of(MildInput(**{**given.__dict__, "picture": other}), layout, layers=False)[0]
    assert torch.equal(smooth.picture, again.picture)
    outside = smooth.unknown == 0
    assert torch.equal(smooth.picture[:, outside], greyed.picture[:, outside])
    assert smooth.picture[:, ~outside].std() > 0.01
    nearly = np.ones((80, 96), bool)
    nearly[0, 0] = False  # less than a pixel of the network's
    everything = MildInput(given.picture, nearly, given.people, given.person_ids)
    whole = branches_of(everything, layout, layers=False)[0]
    assert (whole.picture == GREY).all()


def test_keypoints_and_parts_move_with_the_crop() -> None:
    given = make_input(1)
    corner = tuple((20.0, 30.0, 2) for _ in range(17))
    parts = np.zeros((80, 96), np.uint8)
    parts[30, 20] = 7
    given = MildInput(**{**given.__dict__, "keypoints": {"p1": corner}, "parts": {"p1": parts}})
    layout = picture_layout((80, 96), 96, 64, 0.2, 16)
    background, person = branches_of(given, layout, layers=True)
    assert person.box is not None
    expected = [(20 - person.box.left) / person.box.side, (30 - person.box.top) / person.box.side]
    assert person.priors.keypoints[0, 3, :2].tolist() == pytest.approx(expected)
    assert background.priors.keypoints[0, 3, :2].tolist() == pytest.approx([20 / 96, 30 / 80])
    assert background.priors.parts is not None
    assert background.priors.parts[30, 20] == 7


def test_a_layer_undoes_the_grey() -> None:
    """What training asks for, taken back to a layer, is the person."""
    rng = np.random.default_rng(0)
    rgba = np.zeros((64, 64, 4), np.float32)
    rgba[10:54, 20:44, :3] = rng.uniform(0.2, 0.8, 3)
    rgba[10:54, 20:44, 3] = 1
    rgba[:, 20, 3] *= 0.5
    box = Box(0, 0, 64)
    painted, alpha = complete_person(torch.from_numpy(rgba).permute(2, 0, 1), box, 64)
    empty = np.zeros((64, 64), bool)
    layer = layer_of(painted, alpha, box, np.zeros((64, 64, 3), np.uint8), empty)
    inside = rgba[..., 3] > 0
    assert np.abs(layer[inside] - rgba[inside] * 255).max() <= 1
    assert (layer[~inside, 3] == 0).all()


def test_boxes_beyond_the_picture_are_cut() -> None:
    visible = torch.ones(20, 60, dtype=torch.bool)
    box = person_box(visible, 0.5)
    assert (box.top, box.side) == (-20, 60)
    branch = person_branch("p", torch.rand(3, 20, 60), visible, ~visible, box, 32)
    assert branch.unknown.mean() == pytest.approx(2 / 3, abs=0.1)
    layer = layer_of(
        torch.rand(3, 32, 32), torch.ones(32, 32), box, np.zeros((20, 60, 3), np.uint8),
        np.zeros((20, 60), bool),
    )  # fmt: skip
    assert layer.shape == (20, 60, 4)
    assert (layer[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"erase": ("p9",)}, "expected ids among p1, p2, got p9"),
        ({"people": np.zeros((3, 3), np.uint8)}, "people: expected the picture's size"),
        ({"hole": np.zeros((80, 96), bool)}, "all-black mask"),
        ({"picture": np.zeros((80, 96), np.uint8)}, "uint8 h x w x 3"),
    ],
)
def test_bad_input_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        MildInput(**{**make_input(2).__dict__, **change})


def test_sides_below_the_network_are_refused() -> None:
    with pytest.raises(BadInput, match="at least 32 pixels"):
        picture_layout((80, 96), 64, 16, 0.3, 32)
