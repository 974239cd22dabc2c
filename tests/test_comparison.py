"""Two erasers side by side: laws of the paired differences, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.errors import BadInput
from mild_bench.leaderboards.comparison import compare
from mild_bench.run.board_folder import read_board

BOARD = Path(__file__).parents[1] / "leaderboards" / "results" / "mild-mini" / "board"


def test_differences_are_those_of_the_boards_means() -> None:
    board = read_board(BOARD)
    rows = {row.label: row for row in board.rows}
    found = {one.key: one for one in compare(board, "patchmatch", "telea")}
    assert found[board.protocol.primary].verdict == "first"
    for key, one in found.items():
        if one.difference is None:
            assert one.verdict == "no common task"
            continue
        ours, theirs = (rows[name].cells[key].mean for name in ("patchmatch", "telea"))
        if ours is not None and theirs is not None:
            assert one.difference.mean == pytest.approx(ours - theirs, rel=1e-6)
            assert one.first == pytest.approx(ours) and one.second == pytest.approx(theirs)
        assert one.difference.low is not None and one.difference.high is not None
        assert one.difference.low <= one.difference.mean <= one.difference.high


def test_turning_it_round_turns_the_signs() -> None:
    board = read_board(BOARD)
    there, back = compare(board, "patchmatch", "telea"), compare(board, "telea", "patchmatch")
    swap = {"first": "second", "second": "first"}
    for one, other in zip(there, back, strict=True):
        assert one.tasks == other.tasks
        assert swap.get(one.verdict, one.verdict) == other.verdict
        if one.difference is not None and other.difference is not None:
            assert one.difference.mean == pytest.approx(-other.difference.mean)
            assert one.difference.p == other.difference.p


def test_truth_beats_every_eraser_on_what_it_must() -> None:
    board = read_board(BOARD)
    for row in board.rows:
        verdicts = {one.key: one.verdict for one in compare(board, "truth", row.label)}
        assert verdicts[board.protocol.primary] == "first"


def test_names_that_are_not_there() -> None:
    board = read_board(BOARD)
    with pytest.raises(BadInput, match="called 'patchmach'; did you mean patchmatch"):
        compare(board, "patchmach", "telea")
    with pytest.raises(BadInput, match="two different erasers, got 'telea' twice"):
        compare(board, "telea", "telea")


def test_the_command(tmp_path: Path) -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["board", "compare", "patchmatch", "telea", "--board", str(BOARD)])
    assert shown.exit_code == 0 and "Difference" in shown.output
    told = runner.invoke(
        app, ["board", "compare", "patchmatch", "telea", "--board", str(BOARD), "--json"]
    )
    scores = json.loads(told.output)["scores"]
    assert any(one["verdict"] == "first" for one in scores)
    assert np.isfinite([one["first"] for one in scores if one["tasks"]]).all()
    wrong = runner.invoke(app, ["board", "compare", "a", "b", "--board", str(tmp_path)])
    assert wrong.exit_code != 0
