"""Tasks: whom they ask about, the mask they give, the truth they know."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_release import draw_scene

from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.releasing.erase_mask import dilate, erase_mask
from mild_bench.curation.releasing.tasks import SOURCES, count_kinds, tasks_of
from mild_bench.errors import BadInput
from mild_bench.scene import Layer, Scene
from mild_bench.task import Task, TaskKind

SIZE = 40


def block(name: str, x: int, y: int, w: int, h: int, **more: Any) -> Layer:
    """A person (or prop) that is a rectangle with a soft right rim and a shadow to its left."""
    seed = sum(name.encode())
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[..., :3] = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3))
    rgba[y : y + h, x : x + w, 3] = 255
    rgba[y : y + h, x + w : x + w + 1, 3] = 100
    effect = np.zeros((SIZE, SIZE, 2), np.uint8)
    effect[y + h - 2 : y + h, max(x - 4, 0) : x] = (90, 40)
    kind = more.pop("kind", "person")
    return Layer(name, kind, rgba, effect=effect, subject=name, **more)


def scene_of(*layers: Layer, **more: Any) -> Scene:
    plate = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    values: dict[str, Any] = {
        "scene_id": "s", "split": "test", "group": "g", "truth_kind": "exact",
        "plate": plate, "layers": layers, **more,
    }  # fmt: skip
    return Scene(**values)


def queue() -> Scene:
    """far is half hidden by near, who holds a bag; lone stands apart; a bench stays."""
    return scene_of(
        block("bench", 30, 30, 8, 4, kind="prop", relation="beside", person="lone"),
        block("far", 5, 5, 10, 20),
        block("near", 10, 6, 10, 22),
        block("bag", 18, 20, 5, 5, kind="prop", attached_to="near", relation="held", person="near"),
        block("lone", 30, 4, 5, 20),
    )


def ask(scene: Scene, seeds: int = 40) -> dict[str, Task]:
    """All tasks that any of many seeds asks, by id."""
    annotations = annotate(scene)
    tasks = [task for seed in range(seeds) for task in tasks_of(scene, annotations, seed=seed)]
    return {task.task_id: task for task in tasks}


def touched_by(scene: Scene, names: frozenset[str]) -> np.ndarray[Any, Any]:
    """Where the named layers cover anything, or take light."""
    touched = np.zeros(scene.plate.shape[:2], bool)
    for layer in scene.layers:
        if layer.layer_id in names:
            touched |= layer.rgba[..., 3] > 0
            if layer.effect is not None:
                touched |= layer.effect.any(axis=2)
    return touched


def test_kinds_ask_about_the_right_people() -> None:
    tasks = ask(queue())
    assert set(tasks) == {"s-all", "s-occluder-near", "s-occluded-far", "s-pair-far-near"}
    assert tasks["s-all"].erase == ("far", "near", "lone")
    assert tasks["s-pair-far-near"].erase == ("far", "near")
    assert tasks["s-occluder-near"].person_ids == ("far", "near", "lone")


def test_two_people_are_no_pair_and_lone_people_are_single() -> None:
    couple = scene_of(block("a", 2, 2, 10, 20), block("b", 8, 4, 10, 20))
    assert {task.kind for task in ask(couple).values()} == {"all", "occluder", "occluded"}
    apart = scene_of(block("a", 2, 2, 8, 20), block("b", 20, 4, 8, 20))
    assert set(ask(apart)) == {"s-all", "s-single-a", "s-single-b"}
    alone = scene_of(block("a", 2, 2, 8, 20))
    assert set(ask(alone)) == {"s-all"}
    assert not ask(scene_of(block("chair", 2, 2, 8, 20, kind="prop")))


def test_who_hides_only_by_what_they_hold_is_an_occluder() -> None:
    bag = block("bag", 8, 10, 6, 6, kind="prop", attached_to="b", relation="held", person="b")
    scene = scene_of(block("a", 2, 2, 10, 20), block("b", 20, 2, 10, 20), bag)
    assert "s-occluder-b" in ask(scene)
    loose = replace(bag, attached_to=None)
    assert "s-occluder-b" not in ask(scene_of(*scene.layers[:2], loose))


def test_nobody_is_asked_about_who_hardly_shows() -> None:
    behind = scene_of(block("a", 10, 10, 5, 10), block("b", 8, 8, 10, 20), block("c", 25, 2, 9, 9))
    assert not any(task.erase == ("a",) for task in ask(behind).values())
    assert "s-occluder-b" in ask(behind)


def test_what_a_person_holds_leaves_with_them_and_the_hidden_reappear() -> None:
    scene = queue()
    task = ask(scene)["s-occluder-near"]
    assert task.truth is not None
    rest = [layer for layer in scene.layers if layer.layer_id not in ("near", "bag")]
    np.testing.assert_array_equal(task.truth, replace(scene, layers=tuple(rest)).recompose())
    hidden = scene.layers[1].amodal & ~scene.visible("far")
    shown = scene.layers[1].rgba[..., :3]
    np.testing.assert_array_equal(task.truth[hidden], shown[hidden])
    assert (task.input[hidden] != task.truth[hidden]).any()


def test_things_that_belong_to_nobody_stay() -> None:
    scene = queue()
    truth = ask(scene)["s-all"].truth
    bench = scene.layers[0]
    assert truth is not None
    np.testing.assert_array_equal(truth[bench.amodal], bench.rgba[..., :3][bench.amodal])


@st.composite
def crowds(draw: st.DrawFn) -> Scene:
    number = draw(st.integers(1, 5))
    corner = st.tuples(
        st.integers(0, 30), st.integers(0, 25), st.integers(3, 12), st.integers(4, 14)
    )
    people = [block(f"p{k}", *draw(corner)) for k in range(number)]
    holder = draw(st.sampled_from([f"p{k}" for k in range(number)]))
    prop = block("bag", *draw(corner), kind="prop", attached_to=holder)
    layers = [*people, prop] if draw(st.booleans()) else people
    return scene_of(*draw(st.permutations(layers)))


@settings(max_examples=60, deadline=None)
@given(crowds(), st.integers(0, 1000), st.sampled_from(range(8)))
def test_truth_is_exact(scene: Scene, seed: int, turn: int) -> None:
    before = dict.fromkeys(get_args(TaskKind), turn)
    for task in tasks_of(scene, annotate(scene), seed=seed, before=before):
        gone = scene.belongings(task.erase)
        rest = tuple(layer for layer in scene.layers if layer.layer_id not in gone)
        assert task.truth is not None and task.strata is not None
        np.testing.assert_array_equal(task.truth, replace(scene, layers=rest).recompose())
        untouched = ~touched_by(scene, gone)
        np.testing.assert_array_equal(task.truth[untouched], task.input[untouched])
        assert task.mask.any() and not task.mask.all()
        assert task.strata.mask_area == pytest.approx(task.mask.mean(), abs=1e-6)
        assert task.strata.erased == len(task.erase) <= task.strata.people == len(scene.people)


@settings(max_examples=60, deadline=None)
@given(crowds(), st.data())
def test_masks_keep_their_laws(scene: Scene, data: st.DataObject) -> None:
    ids = [person.layer_id for person in scene.people]
    chosen = data.draw(st.sets(st.sampled_from(ids), min_size=1))
    mask = {
        source: erase_mask(scene, chosen, source)
        for source in ("exact", "dilated:0", "dilated:3", "dilated:6", "box", "effects")
    }
    np.testing.assert_array_equal(mask["exact"], mask["dilated:0"])
    nested = [("exact", "dilated:3"), ("dilated:3", "dilated:6")]
    for small, large in [*nested, ("exact", "box"), ("dilated:3", "effects")]:
        assert not (mask[small] & ~mask[large]).any(), (small, large)
    truth = scene.recompose(without=scene.belongings(chosen))
    kept = ~mask["effects"]
    change = np.abs(truth.astype(int) - scene.recompose())
    assert change[kept].max(initial=0) <= 4
    assert not (dilate(change.max(axis=2) > 4, 3) & kept).any()


def test_exact_is_what_shows_and_box_is_tight() -> None:
    scene = queue()
    exact = erase_mask(scene, ["near"], "exact")
    np.testing.assert_array_equal(exact, scene.visible("near") | scene.visible("bag"))
    box = np.zeros((SIZE, SIZE), bool)
    box[6:28, 10:23] = True  # near's 10..19 and the bag's 18..22
    np.testing.assert_array_equal(erase_mask(scene, ["near"], "box"), box)
    two = erase_mask(scene, ["near", "lone"], "box")
    box[4:24, 30:35] = True
    np.testing.assert_array_equal(two, box)


def test_dilating_a_point_gives_a_disc() -> None:
    point = np.zeros((15, 15), bool)
    point[7, 7] = True
    y, x = np.mgrid[:15, :15] - 7
    np.testing.assert_array_equal(dilate(point, 5), x**2 + y**2 <= 25)
    assert not dilate(np.zeros((4, 4), bool), 3).any()


@pytest.mark.parametrize("source", ["", "dilated", "dilated:-1", "dilated:2.5", "boxes"])
def test_unknown_mask_sources_are_refused(source: str) -> None:
    with pytest.raises(BadInput, match="expected exact, dilated:<pixels>, box or effects"):
        erase_mask(queue(), ["near"], source)


def test_only_people_can_be_erased() -> None:
    with pytest.raises(BadInput, match="expected some of far, lone, near, got bench"):
        erase_mask(queue(), ["bench"], "exact")


def test_masks_that_cover_everything_are_left_out() -> None:
    wall = scene_of(block("wall", 0, 0, SIZE, SIZE))
    assert tasks_of(wall, annotate(wall), seed=0) == []


def test_without_a_plate_there_is_no_truth() -> None:
    scene = replace(queue(), truth_kind="masks-only")
    tasks = ask(scene)
    assert tasks and all(task.truth is None for task in tasks.values())
    derived = ask(replace(queue(), truth_kind="derived"))["s-all"]
    assert derived.truth is not None and derived.strata is not None
    assert derived.strata.truth_kind == "derived"


def test_a_release_is_balanced_and_deterministic() -> None:
    counts: Counter[str] = Counter()
    tasks: list[Task] = []
    for number in range(60):
        scene = draw_scene(number, size=(48, 48), seed=3)
        asked = tasks_of(scene, annotate(scene), seed=0, before=counts)
        assert [t.kind for t in asked].count("all") == 1 and 2 <= len(asked) <= 3
        assert len({t.kind for t in asked}) == len(asked)
        counts += count_kinds(asked)
        tasks += asked
    assert 135 <= len(tasks) <= 165
    shares = Counter(task.strata.mask_source for task in tasks if task.strata)
    for source, turns in Counter(SOURCES).items():
        assert shares[source] / len(tasks) == pytest.approx(turns / 8, abs=0.05), source
    everybody = [t.strata.mask_source for t in tasks if t.kind == "all" and t.strata]
    assert Counter(everybody)["box"] >= 7 and Counter(everybody)["exact"] >= 7
    scene = draw_scene(7, size=(48, 48), seed=3)
    one, two = (tasks_of(scene, annotate(scene), seed=0) for _ in range(2))
    assert [task.task_id for task in one] == [task.task_id for task in two]
    assert (
        len({tuple(t.task_id for t in tasks_of(scene, annotate(scene), seed=s)) for s in range(9)})
        > 1
    )


def test_strata_come_from_the_annotations() -> None:
    scene = queue()
    annotations = annotate(scene)
    task = tasks_of(scene, annotations, seed=0)[0]
    assert task.strata is not None
    assert task.strata.occlusion == annotations["occlusion"]
    assert task.strata.occlusion_bin == annotations["occlusion_bin"]
    for name in ("human_human", "human_object", "human_background"):
        assert getattr(task.strata, name) == annotations["challenges"][name]["present"]
    assert task.strata.group == "g" and task.strata.people == 3


@pytest.mark.parametrize("gone", ["layers", "pairwise", "order_graph", "challenges", "occlusion"])
def test_annotations_that_lack_a_part_are_refused(gone: str) -> None:
    annotations = annotate(queue())
    del annotations[gone]
    with pytest.raises(BadInput, match=f"scene s: expected the annotations.*{gone}.*again"):
        tasks_of(queue(), annotations, seed=0)
