"""Laws that every metric in the table meets, whatever its weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from metric_pictures import damaged, example, texture
from tiny_clip import NAME, save_tiny_clip

from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.metrics.cards import METRICS
from mild_bench.metrics.regions import split, square_around
from mild_bench.metrics.scorer import Scorer
from mild_bench.protocol import find_protocol
from mild_bench.score import MODES, Score

ALL = [e.card.metric for e in METRICS if not {"attention", "layers"} & {*e.card.needs}]
SYMMETRIC = ["psnr", "ssim", "lpips-alex", "lpips-vgg", "clip-similarity", "clip-person"]
CLIP = ("clip-similarity", "clip-person")  # the tests' network is small and untrained


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Scorer:
    folder = tmp_path_factory.mktemp("clip")
    save_tiny_clip(folder)
    protocol = replace(find_protocol("mild"), clip_model=NAME)
    return Scorer(protocol, clip_checkpoint=folder / "tiny.safetensors")


@pytest.fixture(scope="module")
def found(scorer: Scorer) -> dict[str, dict[str, Score]]:
    """Scores of the truth, of three grades of damage, and of the input, by picture and key."""
    task = example()
    assert task.truth is not None
    pictures = {
        "truth": task.truth,
        "little": damaged(task, 0.15),
        "more": damaged(task, 0.5),
        "most": damaged(task, 1.0),
        "input": task.input,
    }
    scores = scorer.score(task, list(pictures.values()))
    return {name: _by_key(part) for name, part in zip(pictures, scores, strict=True)}


def _by_key(scores: list[Score]) -> dict[str, Score]:
    return {score.key: score for score in scores}


def test_the_example_gives_every_metric_a_value(found: dict[str, dict[str, Score]]) -> None:
    measured = {key.split("/")[0] for key, score in found["most"].items() if score.reason is None}
    assert measured == set(ALL)


@pytest.mark.parametrize("metric", ALL)
def test_the_truth_gets_the_best_value(metric: str, found: dict[str, dict[str, Score]]) -> None:
    card = next(entry.card for entry in METRICS if entry.card.metric == metric)
    best = card.high if card.better == "higher" else card.low
    scores = [s for s in found["truth"].values() if s.metric == metric and s.mode == "raw"]
    values = [score.value for score in scores if score.reason is None]
    assert values and values == pytest.approx([best] * len(values), abs=1e-6)


@pytest.mark.parametrize("metric", ALL)
def test_values_stay_in_range(metric: str, found: dict[str, dict[str, Score]]) -> None:
    card = next(entry.card for entry in METRICS if entry.card.metric == metric)
    values = [s.value for part in found.values() for s in part.values() if s.metric == metric]
    finite = [value for value in values if not math.isnan(value)]
    assert finite and all(card.low - 1e-9 <= value <= card.high + 1e-9 for value in finite)


@pytest.mark.parametrize("metric", [name for name in ALL if name not in CLIP])
def test_more_damage_is_worse(metric: str, found: dict[str, dict[str, Score]]) -> None:
    card = next(entry.card for entry in METRICS if entry.card.metric == metric)
    sign = 1 if card.better == "lower" else -1
    for region in card.regions:
        key = f"{metric}/{region}/raw"
        grades = [sign * found[name][key].value for name in ("truth", "little", "more", "most")]
        assert all(a < b for a, b in itertools.pairwise(grades)), (key, grades)


@pytest.mark.parametrize("metric", CLIP)
def test_damage_moves_clip(metric: str, found: dict[str, dict[str, Score]]) -> None:
    for region in ("whole", "hole"):
        key = f"{metric}/{region}/raw"
        assert abs(found["most"][key].value - found["truth"][key].value) > 1e-6


@pytest.mark.parametrize("metric", SYMMETRIC)
def test_symmetric_metrics_are(metric: str, scorer: Scorer) -> None:
    task, other = example(), damaged(example(), 0.5)
    assert task.truth is not None
    there = _by_key(scorer.score(task, [other])[0])
    back = _by_key(scorer.score(replace(task, truth=other), [task.truth])[0])
    keys = [key for key in there if key.startswith(f"{metric}/") and key.endswith("/raw")]
    assert keys
    for key in keys:
        assert there[key].value == pytest.approx(back[key].value, abs=2e-6)


def test_scores_do_not_depend_on_company_or_order(scorer: Scorer) -> None:
    task = example()
    pictures = [damaged(task, share) for share in (0.1, 0.4, 0.9)]
    together = scorer.score(task, pictures)
    backwards = scorer.score(task, pictures[::-1])[::-1]
    alone = [scorer.score(task, [picture])[0] for picture in pictures]
    assert _numbers(together) == _numbers(backwards) == _numbers(alone)


def _numbers(scores: list[list[Score]]) -> list[list[str]]:
    return [[repr(score.value) for score in part] for part in scores]


def test_compositing_leaves_only_the_hole(scorer: Scorer) -> None:
    task = example()
    scores = _by_key(scorer.score(task, [damaged(task, 1.0)])[0])
    untouched = _by_key(scorer.score(task, [task.input])[0])
    assert scores["psnr/outside/composited"].value == untouched["psnr/outside/raw"].value
    assert scores["psnr/outside/raw"].value < 30
    assert scores["psnr/hole/raw"].value == scores["psnr/hole/composited"].value
    assert scores["bystander/outside/composited"].value == 0


def test_residue_is_one_for_the_input_and_half_for_half_a_person(scorer: Scorer) -> None:
    task = example()
    assert task.truth is not None
    half = ((task.input.astype(int) + task.truth) // 2).astype(np.uint8)
    whole, part = (_by_key(one) for one in scorer.score(task, [task.input, half]))
    for region in ("hole", "outside"):  # outside: the shadow that was left
        assert whole[f"residue/{region}/raw"].value == 1
        assert part[f"residue/{region}/raw"].value == pytest.approx(0.5, abs=0.02)


def test_seam_is_the_step_on_a_flat_picture(scorer: Scorer) -> None:
    flat = np.full((64, 64, 3), 100, np.uint8)
    task = example(64, 64)
    task = replace(task, truth=flat, input=flat.copy())
    raised = flat.copy()
    raised[task.mask] += 51
    moved = _by_key(scorer.score(task, [raised])[0])
    everywhere = _by_key(scorer.score(task, [flat + np.uint8(51)])[0])
    assert moved["seam/band/raw"].value == pytest.approx(0.2)
    assert everywhere["seam/band/raw"].value == 0  # brighter all over: no seam


def test_truth_pasted_into_a_mask_that_leaves_the_shadow_has_no_seam(scorer: Scorer) -> None:
    task = example()
    assert task.truth is not None
    beyond = (task.input != task.truth).any(axis=2) & ~task.mask
    assert beyond.any()  # the shadow sticks out
    scores = _by_key(scorer.score(task, [task.truth])[0])
    assert scores["seam/band/raw"].value == scores["seam/band/composited"].value == 0


def test_nobody_stays_gives_nan_with_the_reason(scorer: Scorer) -> None:
    task = replace(example(), erase=("a", "b"))
    scores = _by_key(scorer.score(task, [task.input])[0])
    assert math.isnan(scores["bystander/outside/raw"].value)
    assert scores["bystander/outside/raw"].reason == "nobody who stays is visible there"


def test_no_truth_gives_nan_with_the_reason_but_bystanders_are_measured(scorer: Scorer) -> None:
    scores = _by_key(scorer.score(replace(example(), truth=None), [example().input])[0])
    assert scores["psnr/hole/raw"].reason == "this task has no truth"
    assert scores["bystander/outside/raw"].value == 0


def test_another_size_is_resized_or_refused_as_the_protocol_says(scorer: Scorer) -> None:
    task = example()
    large = np.asarray(texture(192, 224, 3))
    names = ["psnr"]
    resizing = Scorer(scorer.protocol, metrics=names)
    refusing = Scorer(replace(scorer.protocol, resize="refuse"), metrics=names)
    assert not math.isnan(resizing.score(task, [large])[0][0].value)
    refused = refusing.score(task, [large, task.input])
    assert refused[0][0].reason is not None and "224 x 192" in refused[0][0].reason
    assert not math.isnan(refused[1][0].value)


def test_every_score_of_a_card_is_there_once(scorer: Scorer) -> None:
    task = example()
    keys = [score.key for score in scorer.score(task, [task.input])[0]]
    expected = [
        f"{card.metric}/{region}/{mode}"
        for card in scorer.cards
        for region in card.regions
        for mode in MODES
    ]
    assert keys == expected


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(BadInput, match="did you mean 'ssim'"):
        Scorer(find_protocol("mild"), metrics=["sim"])
    with pytest.raises(BadInput, match="lpips_nets: expected any of alex, vgg, got 'vg'"):
        Scorer(replace(find_protocol("mild"), lpips_nets=("vg",)))


def test_regions_cover_the_picture_and_the_band_is_as_wide_as_asked() -> None:
    mask = np.zeros((40, 60), bool)
    mask[:, :30] = True  # the mask touches three edges of the picture: no outline there
    regions = split(mask, band_px=8)
    assert (regions["hole"] ^ regions["outside"]).all() and regions["whole"].all()
    assert regions["band"].sum() == 40 * 8
    assert regions["band"][:, 26:34].all()


@pytest.mark.parametrize("place", [(0, 0, 9, 30), (10, 45, 39, 59), (5, 5, 35, 12)])
def test_the_square_about_a_mask_holds_it(place: tuple[int, int, int, int]) -> None:
    top, left, bottom, right = place
    mask = np.zeros((40, 60), bool)
    mask[top:bottom, left:right] = True
    rows, columns = square_around(mask, margin=0.1)
    part = mask[rows, columns]
    assert part.shape[0] == part.shape[1] and part.sum() == mask.sum()


def test_accumulated_scores_are_the_mean_of_each_pictures_score(tmp_path: Path) -> None:
    import torch

    from mild_bench.images import to_bchw
    from mild_bench.metrics.accumulate import HolePsnr, Residue

    tasks = [example(seed=seed) for seed in (1, 2, 3)]
    results = [damaged(task, 0.3) for task in tasks]
    scorer = Scorer(find_protocol("mild"), metrics=["psnr", "residue"])
    each = [_by_key(scorer.score(t, [r])[0]) for t, r in zip(tasks, results, strict=True)]
    psnr, residue = HolePsnr(), Residue()

    def batch(pictures: list[Rgb]) -> torch.Tensor:
        return torch.cat([to_bchw(picture) for picture in pictures])

    for part in (slice(0, 2), slice(2, 3)):
        some = tasks[part]
        truth = batch([t.truth for t in some if t.truth is not None])
        mask = torch.from_numpy(np.stack([t.mask for t in some]))
        psnr.update(batch(results[part]), truth, mask)
        residue.update(batch(results[part]), truth, batch([t.input for t in some]), mask)
    expected = np.mean([scores["psnr/hole/raw"].value for scores in each])
    assert psnr.compute().item() == pytest.approx(expected, abs=1e-5)
    expected = np.mean([scores["residue/hole/raw"].value for scores in each])
    assert residue.compute().item() == pytest.approx(expected, abs=1e-5)
    assert int(residue.pictures) == 3 and int(residue.left_out) == 0
