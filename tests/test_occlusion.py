"""Occlusion annotations: cases whose numbers one can count by hand, and laws that always hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mild_bench.curation.annotating.camouflage import outline, to_lab
from mild_bench.curation.annotating.challenges import (
    HUMAN_BACKGROUND_FROM,
    HUMAN_HUMAN_FROM,
    HUMAN_OBJECT_FROM,
)
from mild_bench.curation.annotating.coverage import box_of, cover
from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.annotating.order_graph import find_cycles
from mild_bench.scene import Layer, Scene
from mild_bench.store import canonical_json

SIDE = 40
GREY = 128


def block(
    name: str, x: int, y: int, width: int, height: int, colour: int = 255, **fields: Any
) -> Layer:
    """An opaque rectangle; the part beyond the frame is cut off."""
    rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
    rgba[y : y + height, x : x + width] = (colour, colour, colour, 255)
    fields.setdefault("kind", "prop" if name.startswith("q") else "person")
    return Layer(name, rgba=rgba, **fields)


def scene(*layers: Layer) -> Scene:
    plate = np.full((SIDE, SIDE, 3), GREY, np.uint8)
    return Scene("s", "test", "place", "exact", plate, layers)


def joints(*points: tuple[float, float, int]) -> dict[str, Any]:
    return {"keypoints": tuple(points)}


def test_two_overlapping_people_counted_by_hand() -> None:
    # far: 10 x 20 = 200 px at (0, 0); near: 10 x 20 at (5, 10); they share 5 x 10 = 50 px
    found = annotate(scene(block("far", 0, 0, 10, 20), block("near", 5, 10, 10, 20)))
    far, near = found["layers"]["far"], found["layers"]["near"]
    assert far["amodal_box"] == [0, 0, 10, 20]
    assert far["visible_box"] == [0, 0, 10, 20]  # an L: its box is the whole
    assert (far["amodal_area"], far["visible_area"]) == (200, 150)
    assert far["occlusion_rate"] == 0.25 == far["hidden_by_people"]
    assert near["occlusion_rate"] == 0 == far["hidden_by_props"]
    assert far["max_iou_mask"] == near["max_iou_mask"] == pytest.approx(50 / 350)
    assert far["max_iou_box"] == near["max_iou_box"] == pytest.approx(50 / 350)
    assert found["pairwise"] == {"order": ["far", "near"], "matrix": [[0, 0.25], [0, 0]]}
    assert found["order_graph"] == {"edges": [["near", "far"]], "cycles": []}
    assert (found["occlusion"], found["occlusion_bin"]) == (0.25, "moderate")
    assert found["challenges"]["human_human"] == {
        "present": True,
        "value": 0.25,
        "threshold": HUMAN_HUMAN_FROM,
    }
    assert found["people"] == 2


def test_visible_box_shrinks_when_a_whole_side_is_hidden() -> None:
    found = annotate(scene(block("far", 0, 0, 10, 10), block("near", 0, 6, 10, 10)))
    assert found["layers"]["far"]["visible_box"] == [0, 0, 10, 6]
    assert found["layers"]["far"]["amodal_box"] == [0, 0, 10, 10]


def test_the_nearest_layer_takes_the_blame() -> None:
    # all of a's lower half lies under b, and a quarter of a under c, which also covers b there
    found = annotate(
        scene(block("a", 0, 0, 10, 20), block("b", 0, 10, 10, 10), block("c", 0, 15, 10, 5))
    )
    assert found["pairwise"]["matrix"] == [[0, 0.25, 0.25], [0, 0, 0.5], [0, 0, 0]]
    assert found["order_graph"]["edges"] == [["b", "a"], ["c", "a"], ["c", "b"]]


def test_mask_and_box_iou_differ_for_a_ring() -> None:
    ring = block("ring", 0, 0, 10, 10)
    ring.rgba[1:9, 1:9, 3] = 0  # 100 - 64 = 36 px
    found = annotate(scene(ring, block("core", 2, 2, 6, 6)))
    assert found["max_iou_mask"] == 0
    assert found["max_iou_box"] == pytest.approx(36 / 100)
    assert found["order_graph"]["edges"] == []


def test_hidden_person_and_person_outside_the_frame() -> None:
    found = annotate(
        scene(
            block("out", 0, 0, 0, 0, truncation=1.0),
            block("under", 4, 4, 5, 5),
            block("over", 0, 0, 20, 20),
        )
    )
    under, out = found["layers"]["under"], found["layers"]["out"]
    assert (under["occlusion_rate"], under["visible_box"], under["visible_area"]) == (1, None, 0)
    assert under["contrast"] is None
    assert (out["occlusion_rate"], out["amodal_box"], out["truncation"]) == (0, None, 1)
    assert found["occlusion_bin"] == "heavy"


def test_soft_edges_count_from_half_covered() -> None:
    soft = block("soft", 0, 0, 10, 10)
    soft.rgba[:5, :10, 3] = 127
    soft.rgba[5:10, :10, 3] = 128
    assert annotate(scene(soft))["layers"]["soft"]["amodal_area"] == 50


def test_crowd_index_by_hand() -> None:
    # a: two own joints, one of b's three in its box; b: one of a's joints in its box;
    # the unlabelled joint (v = 0) counts nowhere
    a = block("a", 0, 0, 10, 10, **joints((2, 2, 2), (8, 8, 1), (9, 9, 0)))
    b = block("b", 6, 6, 12, 12, **joints((9, 9, 2), (12, 12, 2), (15, 15, 1)))
    assert annotate(scene(a, b))["crowd_index"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_crowd_index_stays_on_the_papers_scale() -> None:
    people = [block(f"p{k}", 0, 0, 10, 10, **joints((5, 5, 2))) for k in range(4)]
    assert annotate(scene(*people))["crowd_index"] == 1  # three foreign joints to one own
    assert annotate(scene(block("p", 0, 0, 9, 9)))["crowd_index"] == 0  # no joints at all


@pytest.mark.parametrize(
    ("relation", "value"), [("held", 0.1), ("seat", 0.1), ("in-front", 0.1), ("beside", 0.0)]
)
def test_a_prop_behind_counts_only_if_the_person_uses_it(relation: Any, value: float) -> None:
    # the prop lies behind and shares 10 of the person's 100 px
    prop = block("q", 0, 9, 10, 10, relation=relation, person="p")
    found = annotate(scene(prop, block("p", 0, 0, 10, 10)))["challenges"]["human_object"]
    assert found == {
        "present": value >= HUMAN_OBJECT_FROM,
        "value": value,
        "threshold": HUMAN_OBJECT_FROM,
    }


def test_any_prop_in_front_hides_and_entangles() -> None:
    found = annotate(scene(block("p", 0, 0, 10, 10), block("q", 0, 8, 10, 10, person="r")))
    assert found["layers"]["p"]["hidden_by_props"] == 0.2
    assert found["challenges"]["human_object"]["value"] == 0.2
    assert found["challenges"]["human_human"]["value"] == 0
    assert "contrast" not in found["layers"]["q"]


def test_a_white_person_on_black_has_the_contrast_of_black_and_white() -> None:
    plain = scene(block("p", 10, 10, 12, 20, colour=255))
    black = replace(plain, plate=np.zeros_like(plain.plate))
    found = annotate(black)
    assert found["layers"]["p"]["contrast"] == pytest.approx(100, abs=0.01)
    assert found["challenges"]["human_background"]["value"] == 0


def test_camouflage_is_the_share_of_the_outline_that_blends_in() -> None:
    # The plate has the person's grey left of a column, white from there on. The edge strip is
    # 2 px wide: 20^2 - 16^2 = 144 px. Left of column 15 lie 2 * 20 + 3 * 4 of them, and the
    # windows of the last 2 * 4 reach over it: 44. Left of column 25: 2 * 20 + 13 * 4 - 8 = 84.
    person = block("p", 10, 10, 20, 20, colour=GREY)
    for column, share in ((15, 44 / 144), (25, 84 / 144)):
        parted = scene(person)
        parted.plate[:, column:] = 255
        found = annotate(parted)["challenges"]["human_background"]
        assert found["value"] == pytest.approx(share, abs=1e-6)
        assert found["present"] == (share >= HUMAN_BACKGROUND_FROM)
        assert found["threshold"] == HUMAN_BACKGROUND_FROM
    assert annotate(scene(person))["challenges"]["human_background"]["value"] == 1
    assert annotate(scene(person))["layers"]["p"]["contrast"] < 0.01


def test_texture_tells_a_person_from_a_plate_of_the_same_mean() -> None:
    person = block("p", 10, 10, 20, 20)
    rows, columns = np.indices((SIDE, SIDE))
    stripes = np.where((rows + columns) % 2, 0, 255).astype(np.uint8)
    person.rgba[..., :3] = stripes[..., None]
    even = scene(person)
    even.plate[:] = 119  # L* 50, the mean L* of the stripes
    measured = outline(to_lab(even.recompose()), person.amodal, ~person.amodal)
    assert measured is not None
    assert 40 < measured.contrast < 60  # the deviation of 0 and 100 is 50


def test_people_far_from_the_plate_do_not_blend_into_it() -> None:
    # the far person is framed by the near one: no border with the plate is left
    found = annotate(scene(block("over", 0, 0, 40, 40), block("mid", 10, 10, 5, 5, colour=GREY)))
    assert found["layers"]["mid"]["contrast"] is None
    assert found["challenges"]["human_background"]["value"] == 0


def test_a_scene_without_people_has_quiet_numbers() -> None:
    found = annotate(scene(block("q", 0, 0, 5, 5)))
    assert (found["people"], found["occlusion"], found["occlusion_bin"]) == (0, 0, "none")
    assert not any(tag["present"] for tag in found["challenges"].values())
    assert annotate(scene())["pairwise"] == {"order": [], "matrix": []}


def test_cycles_of_imported_orders_are_reported() -> None:
    edges = [("c", "a"), ("a", "b"), ("b", "c"), ("d", "a"), ("x", "y"), ("y", "x")]
    assert sorted(find_cycles(edges)) == [["a", "b", "c"], ["x", "y"]]
    assert find_cycles([("a", "b"), ("b", "c"), ("a", "c")]) == []
    assert find_cycles([("a", "a")]) == [["a"]]


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcde")), max_size=14))
def test_reported_cycles_are_cycles_and_cutting_them_leaves_an_order(
    edges: list[tuple[str, str]],
) -> None:
    cycles = find_cycles(edges)
    steps = [set(zip(cycle, cycle[1:] + cycle[:1], strict=True)) for cycle in cycles]
    assert all(step <= set(edges) for step in steps)
    assert all(cycle[0] == min(cycle) for cycle in cycles)
    last = {(cycle[-1], cycle[0]) for cycle in cycles}
    assert find_cycles(set(edges) - last) == []
    assert find_cycles(reversed(edges)) == cycles


# laws on random scenes


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    layers = []
    for number in range(draw(st.integers(1, 5))):
        x, y = draw(st.integers(0, 30)), draw(st.integers(0, 30))
        width, height = draw(st.integers(1, 25)), draw(st.integers(1, 25))
        name = draw(st.sampled_from("pq")) + str(number)
        points = tuple(
            (draw(st.integers(0, 39)) + 0.5, draw(st.integers(0, 39)) + 0.5, draw(visibility))
            for _ in range(3)
        )
        layer = block(name, x, y, width, height, draw(st.integers(0, 255)), keypoints=points)
        layer.rgba[..., 3] &= draw(st.sampled_from([255, 0b10101010]))
        layers.append(layer)
    return scene(*layers)


visibility = st.integers(0, 2)
few = settings(max_examples=40, deadline=None)


@few
@given(scenes())
def test_rows_of_the_pairwise_matrix_sum_to_the_occlusion_rate(made: Scene) -> None:
    found = annotate(made)
    rows = found["pairwise"]["matrix"]
    for name, row in zip(found["pairwise"]["order"], rows, strict=True):
        layer = found["layers"][name]
        assert sum(row) == pytest.approx(layer["occlusion_rate"])
        share = layer["visible_area"] / layer["amodal_area"]
        assert layer["occlusion_rate"] == pytest.approx(1 - share)
        if layer["kind"] == "person":
            by_whom = layer["hidden_by_people"] + layer["hidden_by_props"]
            assert by_whom == pytest.approx(layer["occlusion_rate"])


@few
@given(scenes())
def test_every_share_is_in_zero_to_one_and_the_whole_is_json(made: Scene) -> None:
    found = annotate(made)
    canonical_json(found)  # no NaN, no numpy number
    shares = [found["crowd_index"], found["max_iou_box"], found["max_iou_mask"], found["occlusion"]]
    shares += [tag["value"] for tag in found["challenges"].values()]
    shares += [layer["occlusion_rate"] for layer in found["layers"].values()]
    assert all(0 <= share <= 1 for share in shares)
    assert found["order_graph"]["cycles"] == []


@few
@given(scenes())
def test_masks_agree_with_the_scene(made: Scene) -> None:
    coverage = cover(made)
    for index, layer in enumerate(made.layers):
        visible = made.visible(layer.layer_id)
        assert np.array_equal(coverage.visible(index), visible)
        figures = annotate(made)["layers"][layer.layer_id]
        assert figures["visible_box"] == box_of(visible)
        assert figures["visible_area"] == visible.sum()


@few
@given(scenes())
def test_a_mirrored_scene_has_the_same_numbers(made: Scene) -> None:
    layers = [
        replace(
            layer,
            rgba=np.ascontiguousarray(layer.rgba[:, ::-1]),
            keypoints=tuple((SIDE - x, y, v) for x, y, v in layer.keypoints),
        )
        for layer in made.layers
    ]
    one, other = annotate(made), annotate(scene(*layers))
    assert one["pairwise"] == other["pairwise"]
    assert one["order_graph"] == other["order_graph"]
    assert one["crowd_index"] == pytest.approx(other["crowd_index"])
    for name, figures in one["layers"].items():
        twin = other["layers"][name]
        for box in ("visible_box", "amodal_box"):
            if figures[box]:
                x, y, width, height = figures[box]
                assert twin[box] == [SIDE - x - width, y, width, height]
        numbers = {key: value for key, value in figures.items() if isinstance(value, float)}
        assert numbers == pytest.approx({key: twin[key] for key in numbers}, abs=2e-3)
    for name, tag in one["challenges"].items():
        assert tag["value"] == pytest.approx(other["challenges"][name]["value"], abs=0.02)


@few
@given(scenes(), st.integers(0, 30), st.integers(0, 30))
def test_a_layer_added_behind_changes_nobody_in_front(made: Scene, x: int, y: int) -> None:
    more = annotate(scene(block("new", x, y, 20, 20), *made.layers))
    for name, figures in annotate(made)["layers"].items():
        for key in ("occlusion_rate", "visible_box", "amodal_box", "visible_area", "amodal_area"):
            assert more["layers"][name][key] == figures[key]


@few
@given(scenes(), st.integers(0, 30), st.integers(0, 30))
def test_a_layer_added_in_front_never_lowers_an_occlusion_rate(made: Scene, x: int, y: int) -> None:
    more = annotate(scene(*made.layers, block("new", x, y, 20, 20)))
    for name, figures in annotate(made)["layers"].items():
        assert more["layers"][name]["occlusion_rate"] >= figures["occlusion_rate"] - 1e-12
    assert more["layers"]["new"]["occlusion_rate"] == 0
