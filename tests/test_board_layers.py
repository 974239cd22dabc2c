"""Layers on a board: which are shown, how they are cut out, and how they get onto the page."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from board_samples import PRIMARY, Json, add_layers, parsed, sample_record, sample_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgba, encode_png
from mild_bench.leaderboards.layer_pictures import LONGEST, layer_picture
from mild_bench.leaderboards.layers import MOST_ERASERS, erasers_to_show, tasks_to_show
from mild_bench.leaderboards.ranking import rank_records
from mild_bench.run.board import build_board
from mild_bench.store import read_json, sha256, write_json


def decode(uri: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    assert uri.startswith("data:image/webp;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))))


def person(*, hidden: int, width: int = 80, height: int = 160) -> tuple[Rgba, Mask]:
    """A box of one colour in a larger frame; ``hidden`` of its columns do not show."""
    layer = np.zeros((300, 400, 4), np.uint8)
    layer[50 : 50 + height, 100 : 100 + width] = (180, 90, 40, 255)
    visible = layer[..., 3] > 0
    visible[:, 100 + width - hidden : 100 + width] = False
    return layer, visible


@settings(max_examples=20, deadline=None)
@given(hidden=st.integers(4, 60))
def test_painted_is_the_share_that_does_not_show(hidden: int) -> None:
    found = layer_picture(*person(hidden=hidden), size=256)
    assert found.painted == pytest.approx(hidden / 80, abs=0.02)
    right = [float(pair.split()[0]) for pair in found.outline.strip("MZ").split("L")]
    assert max(right) - min(right) == pytest.approx(hidden * found.width / 88, abs=1.5)


def test_a_layer_that_shows_wholly_has_no_painted_part() -> None:
    layer, visible = person(hidden=0)
    soft = layer.copy()
    soft[49, 100:180, 3] = 200  # a rim beyond the mask is none
    for one in (layer, soft):
        found = layer_picture(one, visible, size=256)
        assert (found.painted, found.outline) == (0.0, "")


def test_a_layer_is_cut_out_with_its_alpha_and_colour() -> None:
    layer, visible = person(hidden=20)
    layer[..., :3] = (180, 90, 40)  # straight alpha: what is not seen has a colour as well
    found = layer_picture(layer, visible, size=100)
    drawn = decode(found.uri).astype(int)
    assert drawn.shape == (found.height, found.width, 4)
    assert found.width / found.height == pytest.approx(88 / 168, abs=0.02)
    assert drawn[0, 0, 3] == 0 and drawn[found.height // 2, found.width // 2, 3] == 255
    assert np.abs(drawn[found.height // 2, found.width // 2, :3] - (180, 90, 40)).max() < 12
    rim = drawn[(drawn[..., 3] > 100) & (drawn[..., 3] < 255)]
    assert len(rim)
    assert np.abs(rim[:, :3] - (180, 90, 40)).max() < 40  # no dark seam from what is not seen


@pytest.mark.parametrize("size", [64, 256, 2048])
def test_a_layer_is_no_larger_than_asked_for(size: int) -> None:
    found = layer_picture(*person(hidden=9, width=290, height=240), size=size)
    assert max(found.width, found.height) == min(size, LONGEST)
    assert found == layer_picture(*person(hidden=9, width=290, height=240), size=size)


def test_a_layer_with_nothing_in_it_has_no_picture() -> None:
    layer, visible = person(hidden=5)
    layer[..., 3] = 3
    assert layer_picture(layer, visible, size=256).uri == ""


def board_of(*records: Json) -> Any:
    return rank_records(parsed(*records))


def test_shown_tasks_run_from_best_to_worst() -> None:
    board = board_of(sample_record("a"))
    row = board.rows[0]
    scores = {task.task_id: task.scores[PRIMARY] for task in row.record.tasks}
    counts = {name: 1 + place % 2 for place, name in enumerate(sorted(scores))}
    shown = tasks_to_show(board, row, counts)
    assert [task.which for task in shown] == [
        "best", "better quarter", "median", "worse quarter", "worst",
    ]  # fmt: skip
    several = sorted(scores[name] for name, count in counts.items() if count == 2)
    found = [scores[task.task_id] for task in shown]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (several[0], several[-1])
    assert all(counts[task.task_id] == 2 for task in shown)


def test_few_tasks_are_shown_once_and_single_layers_where_there_are_no_others() -> None:
    board = board_of(sample_record("a"))
    ids = board.standing.task_ids[:2]
    shown = tasks_to_show(board, board.rows[0], dict.fromkeys(ids, 1))
    assert sorted(task.task_id for task in shown) == sorted(ids)
    assert tasks_to_show(board, board.rows[0], {}) == ()


def damaged_record(name: str, drop: float, quality: float) -> Json:
    record = sample_record(name, quality=quality, bootstrap=100)
    record["eraser"]["settings"] = {"drop": drop}
    return record


def test_damaged_rows_and_those_past_the_sixth_are_left_out() -> None:
    plain = [sample_record(f"e{n}", quality=0.9 - n / 20, bootstrap=100) for n in range(8)]
    damaged = [damaged_record("m", 0.0, 0.95), damaged_record("m[drop=1]", 1.0, 0.92)]
    board = board_of(*plain, *damaged)
    having = {f"e{n}" for n in range(8)} | {"m", "m[drop=1]"}
    shown, left_out = erasers_to_show(board, having)
    assert shown == ["m", "e0", "e1", "e2", "e3", "e4"]
    assert len(shown) == MOST_ERASERS
    assert left_out == ["m[drop=1]", "e5", "e6", "e7"]
    assert erasers_to_show(board, {"e7"}) == (["e7"], [])


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    found = sample_runs(tmp_path, ["good", "fair"], tasks=6)
    add_layers(found[0])
    return found


def test_layers_come_from_run_folders_and_the_same_bytes_come_again(
    runs: list[Path], tmp_path: Path
) -> None:
    page = build_board(runs, tmp_path / "board", picture_size=96).page.read_text()
    assert page.count('<section id="layers">') == 1 and page.count('<details class="layers"') == 1
    again = build_board(runs[::-1], tmp_path / "again", picture_size=96).page.read_text()
    assert again == page
    records = sorted((tmp_path / "board" / "records").glob("*.json"))
    alone = build_board(records, tmp_path / "alone").page.read_text()
    assert 'id="layers"' not in alone and "#layers" not in alone


def test_failed_tasks_show_no_layers(runs: list[Path], tmp_path: Path) -> None:
    for note in (runs[0] / "tasks").iterdir():
        write_json(note, {**read_json(note), "status": "failed", "reason": "no"})
    page = build_board(runs, tmp_path / "board", picture_size=96).page.read_text()
    assert 'id="layers"' not in page


@pytest.mark.parametrize(
    ("content", "noted", "said"),
    [
        (encode_png(np.zeros((96, 96, 4), np.uint8)), False, "the layer that the run wrote"),
        (b"no picture", True, "expected a whole picture"),
        (encode_png(np.zeros((9, 9, 4), np.uint8)), True, "a layer as large as its task"),
    ],
)
def test_a_layer_that_is_another_or_does_not_fit_is_refused(
    runs: list[Path], tmp_path: Path, content: bytes, noted: bool, said: str
) -> None:
    for path in (runs[0] / "layers").rglob("*.png"):
        path.write_bytes(content)
    for note in (runs[0] / "tasks").iterdir() if noted else ():
        values = read_json(note)
        layers = dict.fromkeys(values["layers"], sha256(content))
        write_json(note, {**values, "layers": layers})
    with pytest.raises(BadInput, match=said):
        build_board(runs, tmp_path / "board", picture_size=96)
    assert not (tmp_path / "board").exists()
