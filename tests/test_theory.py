"""The theory check: the Hessian is true, the laws it should show hold, the command reports them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.errors import BadInput
from mild_bench.theory.experiment import Findings, Settings, check_theory
from mild_bench.theory.gap import gap
from mild_bench.theory.hessian import Blocks, conditioning, hessian
from mild_bench.theory.model import (
    BG,
    BLOCK,
    FG,
    PERSON_TOKENS,
    Separation,
    World,
    branch_losses,
    layered_loss,
    logits,
    make_world,
    outputs,
    start,
)
from mild_bench.theory.report import claims
from mild_bench.theory.slopes import slope

HARD = Separation(alpha=((0.0, -math.inf), (-math.inf, 0.0)))
QUICK = Settings(seed=3, models=3, margins=4)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model(seed: int) -> tuple[World, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return make_world(draw), *start(draw)


@pytest.fixture(scope="module")
def findings(one_thread: None) -> Findings:
    return check_theory(QUICK)


def test_the_hessian_equals_finite_differences_of_the_loss() -> None:
    world, fg, bg = model(0)
    separation = Separation(content=(1.0, 0.5), alpha=((0.2, -0.7), (-0.4, 0.1)))
    found = hessian(world, fg, bg, separation).whole()
    theta, step = torch.cat([fg, bg]), 1e-4
    eye = torch.eye(2 * BLOCK, dtype=torch.float64) * step

    def loss(at: torch.Tensor) -> float:
        return float(layered_loss(world, at[:BLOCK], at[BLOCK:], separation))

    draw = np.random.default_rng(0)
    for i, j in draw.integers(0, 2 * BLOCK, size=(60, 2)):
        signs = ((1, 1), (1, -1), (-1, 1), (-1, -1))
        four = sum(a * b * loss(theta + a * eye[i] + b * eye[j]) for a, b in signs)
        assert float(found[i, j]) == pytest.approx(four / (4 * step**2), abs=2e-6)


def test_the_blocks_make_one_symmetric_matrix_with_its_sides_in_place() -> None:
    world, fg, bg = model(1)
    blocks = hessian(world, fg, bg, Separation())
    torch.testing.assert_close(blocks.whole(), blocks.whole().T, rtol=0, atol=1e-12)
    assert 0 < float(blocks.cross_of_bg.norm()) < float(blocks.cross.norm()) * 2
    assert blocks.whole()[BLOCK:, BLOCK:].equal(blocks.bg)


def test_hard_separation_leaves_exactly_nothing_across_and_nothing_undefined() -> None:
    world, fg, bg = model(2)
    blocks = hessian(world, fg, bg, HARD)
    assert bool((blocks.cross == 0).all())
    assert bool(blocks.whole().isfinite().all())
    assert float(hessian(world, fg, bg, Separation()).cross.norm()) > 0.01


def test_hard_separation_lets_no_branch_see_the_other_side() -> None:
    world, fg, bg = model(2)
    before, after = (outputs(world, fg, other, HARD) for other in (bg, 2 * bg))
    assert before[FG].equal(after[FG]) and not before[BG].equal(after[BG])


def test_the_loss_is_the_sum_of_the_branches_and_the_decay() -> None:
    world, fg, bg = model(4)
    parts = branch_losses(world, fg, bg, Separation())
    decay = float(layered_loss(world, fg, bg, Separation())) - float(parts.sum())
    assert decay == pytest.approx(0.01 * float((fg**2).sum() + (bg**2).sum()))


def test_gap_is_what_its_words_say() -> None:
    seen = torch.randn(2, 3, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    p = seen.softmax(dim=-1)
    persons, rest = p[..., :PERSON_TOKENS], p[..., PERSON_TOKENS:]
    found = gap(seen, branch=BG)
    assert found.leakage == pytest.approx(float(persons.sum(-1).mean()))
    odds = (rest.mean(-1) / persons.mean(-1)).log()
    assert found.cag == pytest.approx(float(odds.mean()))
    margins = seen[..., PERSON_TOKENS:].amin(-1) - seen[..., :PERSON_TOKENS].amax(-1)
    assert found.margin == pytest.approx(float(margins.min()))
    assert gap(seen, branch=FG).cag == pytest.approx(-found.cag)


def test_blind_attention_has_no_gap_and_its_bound_is_tight() -> None:
    found = gap(torch.zeros(4, 12, dtype=torch.float64), branch=BG)
    assert found.margin == 0 and found.cag == pytest.approx(0) and found.slack == pytest.approx(0)
    assert found.leakage == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(
    alpha=st.lists(st.floats(-15, 15), min_size=4, max_size=4),
    seed=st.integers(0, 50),
    branch=st.sampled_from([FG, BG]),
)
def test_a_bias_shifts_margin_and_cag_by_what_it_adds(
    alpha: list[float], seed: int, branch: int
) -> None:
    world, fg, bg = model(seed)
    biased = Separation(alpha=((alpha[0], alpha[1]), (alpha[2], alpha[3])))
    old = gap(logits(world, fg, bg, Separation())[branch], branch=branch)
    new = gap(logits(world, fg, bg, biased)[branch], branch=branch)
    added = alpha[3 * branch] - alpha[1 + branch]
    assert biased.added(branch) == added
    assert new.margin - old.margin == pytest.approx(added, abs=1e-12)
    assert new.cag - old.cag == pytest.approx(added, abs=1e-12)
    assert new.slack == pytest.approx(old.slack, abs=1e-12) and new.slack >= -1e-12


def test_conditioning_of_a_matrix_known_by_heart() -> None:
    one = torch.eye(2, dtype=torch.float64)
    cross = torch.tensor([[0.5, 0.0], [0.0, 0.0]], dtype=torch.float64)
    found = conditioning(Blocks(one, one, cross, cross))
    assert found.whole == pytest.approx(3)  # eigenvalues 0.5, 1, 1, 1.5
    assert found.apart == pytest.approx(1)
    assert found.coupling == pytest.approx(0.5)
    assert found.preconditioned == pytest.approx(3)
    assert math.isnan(conditioning(Blocks(one, one, 4 * cross, cross)).whole)


def test_a_slope_is_found_where_the_margin_is_positive_and_only_there() -> None:
    at = np.linspace(-5, 10, 16)
    lines = [
        [(float(x), float(np.exp(-x + k))) if x > 0 else (float(x), 1.0) for x in at]
        for k in range(3)
    ]
    found = slope(lines, seed=0)
    assert found is not None and found.models == 3
    assert [found.mean, found.low, found.high] == pytest.approx([-1, -1, -1])
    assert slope([[(-1.0, 2.0), (1.0, 1.0)]] * 3, seed=0) is None


def test_models_are_trained_and_the_laws_hold_in_every_one(findings: Findings) -> None:
    assert len(findings.rows) == QUICK.total() == QUICK.models * (3 * QUICK.margins - 1)
    for row in findings.rows:
        assert row.gradient < 2e-6
        assert row.kappa >= row.kappa_apart * (1 - 1e-9) > 0
        assert 0 <= row.coupling < 1
        if row.way == "hard":
            assert row.cross == 0 and row.coupling == 0 and row.leakage == 0
        else:
            assert row.slack >= -1e-12


def test_the_slopes_are_those_of_the_theory(findings: Findings) -> None:
    found = {claim.name: claim.found for claim in claims(findings)}
    for name, expected, off in (
        ("block, separated by SMA", -1, 0.1),
        ("block, separated by features", -1, 0.2),
        ("rho, separated by SMA", -1, 0.1),
        ("background branch's part of the block, only that branch separated", -1, 0.2),
        ("whole block, only the background branch separated", 0, 0.01),
    ):
        one = found[name]
        assert one is not None, name
        assert one.mean == pytest.approx(expected, abs=off), name
        assert one.low <= one.mean <= one.high


def test_separating_one_branch_alone_does_not_decouple(findings: Findings) -> None:
    for rows in findings.of("one-sided").values():
        assert rows[-1].cross > 0.1 * rows[0].cross
        assert rows[-1].cross_bg < 1e-4 * rows[0].cross_bg


def test_a_slope_that_lies_elsewhere_is_called_so(findings: Findings) -> None:
    (claim,) = [one for one in claims(findings) if one.name == "block, separated by SMA"]
    assert claim.found is not None
    assert replace(claim, expected=claim.found.high + 1).verdict() == "steeper"
    assert replace(claim, expected=claim.found.low - 1).verdict() == "flatter"
    assert replace(claim, expected=claim.found.mean).verdict() == "agrees"
    assert replace(claim, found=None).verdict().startswith("not measured")


def test_the_command_writes_all_of_it_and_the_same_again(tmp_path: Path) -> None:
    small = ["--models", "2", "--margins", "4", "--seed", "5"]
    for name in ("a", "b"):
        done = CliRunner().invoke(app, ["theory", "--out", str(tmp_path / name), *small])
        assert done.exit_code == 0, done.output
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    drawn = [f"{name}.{kind}" for name in ("bias", "condition", "coupling", "hessian")
             for kind in ("png", "svg")]  # fmt: skip
    assert files == sorted([*drawn, "table.csv", "table.md", "theory.json", "theory.md"])
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    told = json.loads((tmp_path / "a" / "theory.json").read_text())
    rows = list(csv.DictReader((tmp_path / "a" / "table.csv").open()))
    assert len(rows) == len(told["models"]) == Settings(models=2, margins=4).total()
    page = (tmp_path / "a" / "theory.md").read_text()
    for claim in told["claims"]:
        if claim["found"]:
            assert f"{claim['found']['mean']:.3f}" in page
    assert all(f"({name}.png)" in page for name in ("bias", "condition", "coupling", "hessian"))


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"models": 1}, "expected models of 2 to 100, got 1"),
        ({"margins": 3}, "expected margins of 4 to 40, got 3"),
        ({"seed": -1}, "expected seed of 0"),
    ],
)
def test_settings_that_measure_nothing_are_refused(wrong: dict[str, int], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Settings(**wrong)


def test_a_file_in_the_place_of_the_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    done = CliRunner().invoke(app, ["theory", "--out", str(tmp_path / "taken")])
    assert isinstance(done.exception, BadInput) and "got a file" in str(done.exception)
    assert (tmp_path / "taken").read_text() == "mine"
