"""Rank correlations of attention with pictures: right, honest about chance, read from records."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from attention_samples import attentive, five_erasers, without_attention
from board_samples import PRIMARY, parsed, sample_record, shuffled
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mild_bench.errors import BadInput
from mild_bench.leaderboards.controls import check_controls
from mild_bench.leaderboards.correlation import (
    Correlation,
    attention_columns,
    correlate,
    score_columns,
)
from mild_bench.leaderboards.ranking import Board, rank_records
from mild_bench.leaderboards.rho import permutation_p, resampled_rho, spearman, summed_up

Json = dict[str, Any]
few = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.3, 1.0, 4.0]), min_size=4, max_size=12)


def board_of(*values: Json) -> Board:
    return rank_records(parsed(*values))


def found(board: Board, *names: str) -> dict[tuple[str, str, str], Correlation]:
    """By attention metric, score's metric, and eraser or scope."""
    return {
        (one.attention.split("/")[0], one.score.split("/")[0], one.eraser or one.scope): one
        for one in correlate(board, score_columns(board, names))
    }


@given(few, st.integers(0, 2**31))
@settings(deadline=None)
def test_rho_is_scipys(first: list[float], seed: int) -> None:
    a = np.array(first)
    b = np.random.default_rng(seed).integers(0, 4, len(a)).astype(float)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(spearman(a, b))
        return
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)


@given(few, st.integers(0, 2**31))
@settings(deadline=None)
def test_weights_are_repetitions(first: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = np.array(first), rng.integers(0, 4, len(first)).astype(float)
    weights = rng.integers(0, 4, (5, len(a))).astype(float)
    got = resampled_rho(a, b, weights)
    for row, rho in zip(weights.astype(int), got, strict=True):
        drawn_a, drawn_b = np.repeat(a, row), np.repeat(b, row)
        if not len(drawn_a) or np.ptp(drawn_a) == 0 or np.ptp(drawn_b) == 0:
            assert np.isnan(rho)
        else:
            assert rho == pytest.approx(spearman(drawn_a, drawn_b))


def test_p_over_a_few_erasers_is_exact() -> None:
    steps = np.arange(5.0)
    assert permutation_p(steps[:3], steps[:3]) == pytest.approx(2 / 6)
    assert permutation_p(steps, -steps) == pytest.approx(2 / 120)
    many = np.arange(9.0)
    assert permutation_p(many, many[::-1]) < 1e-6


def test_an_interval_needs_scenes_and_draws_that_have_a_rho() -> None:
    good = np.linspace(-0.2, 0.6, 50)
    assert summed_up(0.2, good, 1).low is None
    assert summed_up(0.2, np.where(np.arange(50) < 30, np.nan, good), 20).low is None
    told = summed_up(0.2, good, 200)
    assert told.low == pytest.approx(-0.18, abs=0.01) and told.high == pytest.approx(0.58, abs=0.01)


@pytest.mark.parametrize("true", [0.0, 0.5])
def test_intervals_hold_the_true_correlation(true: float) -> None:
    """150 experiments of 24 scenes with two tasks each; three standard errors are 5%."""
    rng = np.random.default_rng(3)
    expected = 6 / np.pi * np.arcsin(true / 2)  # Spearman's rho of two normal variables
    draws = rng.multinomial(24, np.full(24, 1 / 24), size=400).astype(float)
    hits = 0
    for _ in range(150):
        scenes = rng.multivariate_normal([0, 0], [[1, true], [true, 1]], 24)
        tasks = np.sqrt(0.8) * np.repeat(scenes, 2, axis=0)
        tasks += np.sqrt(0.2) * rng.multivariate_normal([0, 0], [[1, true], [true, 1]], 48)
        a, b = tasks.T
        one = summed_up(spearman(a, b), resampled_rho(a, b, np.repeat(draws, 2, axis=1)), 24)
        assert one.low is not None and one.high is not None
        hits += one.low <= expected <= one.high
    assert 0.89 <= hits / 150 <= 1


def test_cleaner_attention_that_goes_with_better_pictures_is_found_in_each_scope() -> None:
    board = board_of(*five_erasers())
    by = found(board, "error", "likeness")
    for eraser in ("sd", "sdxl", "flux", "within"):
        lower, higher = by["cag", "error", eraser], by["cag", "likeness", eraser]
        assert lower.rho is not None and lower.rho < 0 and lower.expected == -1
        assert lower.verdict == "as expected"
        assert higher.rho == pytest.approx(-lower.rho) and higher.expected == 1
        assert higher.verdict == "as expected"
        leak = by["leakage", "error", eraser]
        assert leak.rho == pytest.approx(-lower.rho) and leak.expected == 1
    own = [by["cag", "error", name].rho for name in ("sd", "sdxl", "flux")]
    within = by["cag", "error", "within"]
    assert within.rho == pytest.approx(np.mean([rho for rho in own if rho is not None]))
    assert (within.erasers, within.tasks, within.scenes) == (3, 36, 12)
    between = by["cag", "error", "between"]
    assert between.rho == -1 and between.erasers == 3
    # Three erasers in a row are one order of six: no proof.
    assert between.p == pytest.approx(1 / 3) and between.verdict == "cannot tell"


def test_attention_that_has_nothing_to_do_with_the_pictures_is_not_called_clear() -> None:
    board = board_of(*five_erasers(strength=0.0))
    assert found(board)["cag", "error", "within"].verdict == "cannot tell"


def test_the_other_way_round_is_said() -> None:
    board = board_of(*five_erasers(strength=-3.0))
    assert found(board)["cag", "error", "within"].verdict == "the other way round"


def test_pooling_does_not_mix_erasers_with_tasks() -> None:
    """Within each eraser attention does not matter; between them it seems to."""
    records = [
        attentive(sample_record(name, quality=q, scenes=20), strength=0, level=5 * q, noise=0.1)
        for name, q in (("a", 0.2), ("b", 0.5), ("c", 0.9))
    ]
    by = found(board_of(*records))
    assert by["cag", "error", "between"].rho == -1
    within = by["cag", "error", "within"]
    assert within.rho is not None and abs(within.rho) < 0.25
    assert within.verdict == "cannot tell"


def test_refusals_have_reasons() -> None:
    two = [attentive(sample_record(name, scenes=4, per_scene=1)) for name in ("a", "b")]
    by = found(board_of(*two))
    assert by["cag", "error", "a"].reason == "4 tasks with both scores, at least 8 needed"
    assert by["cag", "error", "within"].reason == "no eraser has one over its own tasks"
    assert by["cag", "error", "between"].reason == "2 erasers with CAG, at least 3 needed"
    assert all(one.rho is None and one.verdict == "" for one in by.values())

    flat = [attentive(sample_record(name), strength=0, noise=0) for name in ("a", "b", "c")]
    by = found(board_of(*flat))
    assert by["cag", "error", "a"].reason == "CAG is the same for all tasks"
    assert by["cag", "error", "between"].reason == "CAG is the same for all erasers"


def test_one_scene_gives_a_rho_without_an_interval() -> None:
    one = attentive(sample_record("a", scenes=1, per_scene=12))
    own = found(board_of(one))["cag", "error", "a"]
    assert own.rho is not None and own.low is None and own.verdict == "cannot tell"


def test_over_erasers_only_the_tasks_of_all_count() -> None:
    records = five_erasers()
    gap = records[3]["tasks"][0]
    gap["scores"]["cag/hole/composited"] = None
    gap["reasons"]["cag/hole/composited"] = "no token is a person"
    by = found(board_of(*records))
    assert by["cag", "error", "sd"].tasks == 35
    assert by["cag", "error", "sdxl"].tasks == 36
    assert by["cag", "error", "between"].tasks == 35


@given(st.permutations(range(6)), st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_order_of_runs_and_tasks_does_not_matter(order: list[int], seed: int) -> None:
    records = five_erasers(bootstrap=100)
    other = [shuffled(records[place], seed + place) for place in order]
    assert found(board_of(*records)) == found(board_of(*other))


def test_rising_rescaling_changes_nothing() -> None:
    records = five_erasers()
    scaled = copy.deepcopy(records)
    for record in scaled:
        for task in record["tasks"]:
            task["scores"][PRIMARY] = task["scores"][PRIMARY] ** 3
    first, second = found(board_of(*records)), found(board_of(*scaled))
    for eraser in ("sd", "sdxl", "flux", "within"):
        assert first["cag", "error", eraser] == second["cag", "error", eraser]


def test_names_of_scores() -> None:
    board = board_of(*five_erasers())
    assert [column.key for column in attention_columns(board)] == [
        "cag/hole/composited", "leakage/hole/composited",
    ]  # fmt: skip
    keys = [column.key for column in score_columns(board, [])]
    assert keys == [PRIMARY, "residue/hole/composited"]
    named = score_columns(board, ["error/outside/raw", "likeness", "likeness"])
    assert [column.key for column in named] == ["error/outside/raw", "likeness/hole/composited"]
    with pytest.raises(BadInput, match="got 'likenes'; did you mean likeness"):
        score_columns(board, ["likenes"])
    with pytest.raises(BadInput, match="got 'xyz'; names: error, likeness, residue"):
        score_columns(board, ["xyz"])
    with pytest.raises(BadInput, match="to compare attention with, got 'cag'"):
        score_columns(board, ["cag"])


def test_erasers_without_attention_harm_nothing_on_the_board() -> None:
    board = board_of(*five_erasers())
    assert [row.label for row in board.rows] == ["sd", "sdxl", "flux", "telea"]
    assert all(row.rank for row in board.rows)
    check = check_controls(board)
    assert check.faults == () and check.unchecked == ()
    telea = board.rows[3].cells["cag/hole/composited"]
    assert telea.mean is None and telea.reason == "this eraser has no attention to read"

    nobody = board_of(*(without_attention(sample_record(name)) for name in ("a", "b")))
    assert "cag" not in {column.metric for column in nobody.headline}
    assert nobody.absent_by_reason() == {"this eraser has no attention to read": ["cag", "leakage"]}
    assert correlate(nobody, score_columns(nobody, [])) == ()
