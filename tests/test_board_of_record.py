"""What the committed board says of the reference model; a new board must go on saying it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from mild_bench.leaderboards.comparison import Compared, compare
from mild_bench.leaderboards.damage import damage_curves
from mild_bench.leaderboards.ranking import Board
from mild_bench.run.board_folder import read_board

BOARD = Path(__file__).parents[1] / "leaderboards" / "results" / "mild-mini" / "board"


@cache
def board() -> Board:
    return read_board(BOARD)


@cache
def against(other: str) -> dict[str, Compared]:
    return {one.key.split("/")[0]: one for one in compare(board(), "mild", other)}


@pytest.mark.parametrize("metric", ["cag", "leakage"])
def test_spatial_attention_keeps_attention_on_the_background(metric: str) -> None:
    assert against("mild[sma=off]")[metric].verdict == "first"


@pytest.mark.parametrize("metric", ["lpips-alex", "residue"])
@pytest.mark.parametrize("other", ["telea", "navier-stokes", "biharmonic"])
def test_the_background_beats_classical_fillings(other: str, metric: str) -> None:
    assert against(other)[metric].verdict == "first"


@pytest.mark.parametrize("metric", ["alpha-iou", "hidden-lpips"])
def test_guidance_completes_people(metric: str) -> None:
    assert against("mild[hmg=none]")[metric].verdict == "first"


@pytest.mark.parametrize("metric", ["lpips-alex", "residue"])
def test_the_background_beats_patchmatch(metric: str) -> None:
    """Told who shows where, which the fillings are not."""
    assert against("patchmatch")[metric].verdict == "first"


@pytest.mark.parametrize("metric", ["lpips-alex", "residue"])
def test_completing_who_stays_makes_a_better_background(metric: str) -> None:
    assert against("mild[complete=off]")[metric].verdict == "first"


def test_without_completing_the_background_does_not_need_the_layers() -> None:
    """One branch in one pass paints the same background."""
    for one in compare(board(), "mild[complete=off]", "mild[layers=off]"):
        if one.difference is not None:
            assert one.first == one.second, one.key


def test_nothing_told_is_worse_than_everything() -> None:
    without = compare(board(), "mild[refine=off]", "mild[refine=off,drop=1]")
    found = {one.key.split("/")[0]: one.verdict for one in without}
    assert found["alpha-iou"] == found["hidden-lpips"] == "first"
    kinds = {curve.damage.setting: len(curve.points) for curve in damage_curves(board())}
    assert kinds == {"drop": 3, "jitter": 3, "swap": 2, "priors": 2}


def test_every_row_has_every_task() -> None:
    for row in board().rows:
        assert row.cells[board().protocol.primary].tasks == board().release.tasks
        assert row.cells[board().protocol.primary].mean is not None
