"""Boards: intervals cover, order does not matter, gaps have no mean, controls are checked."""

from __future__ import annotations

import copy
import io
from typing import Any

import numpy as np
import pandas
import pytest
from board_samples import PRIMARY, parsed, sample_record, shuffled, without_task
from hypothesis import given, settings
from hypothesis import strategies as st

from mild_bench.errors import BadInput
from mild_bench.leaderboards.controls import check_controls
from mild_bench.leaderboards.numbers import decimals, number
from mild_bench.leaderboards.ranking import Board, rank_records
from mild_bench.leaderboards.record import parse_record
from mild_bench.leaderboards.slices import slice_board
from mild_bench.leaderboards.standing import Cell
from mild_bench.leaderboards.stats import SceneBootstrap, tails
from mild_bench.leaderboards.tables import board_as_csv, board_as_json, board_as_markdown
from mild_bench.store import canonical_json


def five_records() -> list[dict[str, Any]]:
    return [
        sample_record("truth", quality=1, control="first"),
        sample_record("copy-input", quality=0, control="last"),
        sample_record("good", quality=0.8),
        sample_record("fair", quality=0.6),
        sample_record("poor", quality=0.3),
    ]


def as_text(board: Board) -> bytes:
    slices = slice_board(board, [column.key for column in board.headline])
    return canonical_json(board_as_json(board, check_controls(board), slices))


def coverage(*, scenes: int, spread: float, rng: np.random.Generator) -> float:
    """Share of 300 experiments whose interval holds the true mean, 0."""
    names = np.repeat([f"s{n:02d}" for n in range(scenes)], 3).tolist()
    bootstrap = SceneBootstrap(800, 0)
    hits = 0
    for _ in range(300):
        common = np.repeat(rng.normal(0, spread, scenes), 3)
        [interval] = bootstrap.intervals((common + rng.normal(0, 1, 3 * scenes))[None], names)
        assert interval.low is not None and interval.high is not None
        hits += interval.low <= 0 <= interval.high
    return hits / 300


@pytest.mark.parametrize("scenes", [8, 30])
def test_intervals_cover_the_mean_when_tasks_of_a_scene_go_together(scenes: int) -> None:
    # Three standard errors of 300 draws at 95% are 3.8%.
    assert 0.91 <= coverage(scenes=scenes, spread=2.0, rng=np.random.default_rng(1)) <= 0.99


def test_resampling_tasks_in_place_of_scenes_would_be_too_narrow() -> None:
    rng = np.random.default_rng(2)
    values = np.repeat(rng.normal(0, 2, 30), 3)[None]
    bootstrap = SceneBootstrap(2000, 0)
    [scenes] = bootstrap.intervals(values, [f"s{n // 3}" for n in range(90)])
    [tasks] = bootstrap.intervals(values, [f"t{n}" for n in range(90)])
    assert scenes.high is not None and scenes.low is not None
    assert tasks.high is not None and tasks.low is not None
    # Three equal tasks a scene carry no more than one: the ratio is the square root of three.
    assert (scenes.high - scenes.low) / (tasks.high - tasks.low) == pytest.approx(3**0.5, rel=0.12)


def test_paired_test_is_right_about_as_often_as_it_says_under_no_difference() -> None:
    rng = np.random.default_rng(3)
    names = [f"s{n}" for n in range(25)]
    bootstrap = SceneBootstrap(800, 0)
    found = []
    for _ in range(400):
        common = rng.normal(0, 5, 25)
        first, second = common + rng.normal(0, 1, 25), common + rng.normal(0, 1, 25)
        p = bootstrap.difference(first, second, names).p
        assert p is not None
        found.append(p < 0.05)
    assert 0.02 <= np.mean(found) <= 0.1


def test_paired_test_sees_a_small_steady_difference_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(4)
    common = rng.normal(0, 5, 40)
    first, second = common + 0.2 + rng.normal(0, 0.1, 40), common + rng.normal(0, 0.1, 40)
    names = [f"s{n}" for n in range(40)]
    bootstrap = SceneBootstrap(1000, 0)
    one, other = bootstrap.intervals(np.stack([first, second]), names)
    assert one.low is not None and other.high is not None and one.low < other.high
    difference = bootstrap.difference(first, second, names)
    assert difference.p is not None and difference.p < 0.01
    assert difference.mean == pytest.approx((first - second).mean())


def test_interval_of_a_normal_mean_has_the_width_of_a_t_interval() -> None:
    from scipy import stats

    values = np.random.default_rng(5).normal(10, 2, 40)
    [found] = SceneBootstrap(20_000, 0).intervals(values[None], [f"s{n}" for n in range(40)])
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert found.low == pytest.approx(low, abs=0.08)
    assert found.high == pytest.approx(high, abs=0.08)


def test_tails_are_wider_for_few_scenes_and_end_at_two_and_a_half_percent() -> None:
    assert tails(5)[0] < tails(20)[0] < 0.025
    assert tails(100_000)[0] == pytest.approx(0.025, rel=1e-3)


def test_one_scene_has_no_interval() -> None:
    [interval] = SceneBootstrap(500, 0).intervals(np.array([[1.0, 2.0]]), ["s", "s"])
    assert (interval.mean, interval.low, interval.high) == (1.5, None, None)


def test_ranks_and_rank_ranges() -> None:
    records = five_records()
    twin = copy.deepcopy(records[3])  # as good as fair, each better on every other scene
    twin["eraser"]["name"] = "twin"
    for task in twin["tasks"]:
        task["scores"][PRIMARY] += 0.02 if int(task["scene_id"][-3:]) % 2 else -0.019
    board = rank_records(parsed(*records, twin))
    assert board.rows[0].label == "good"
    assert [row.rank for row in board.rows] == [1, 2, 3, 4]
    spans = {row.label: (row.rank_low, row.rank_high) for row in board.rows}
    assert spans["good"] == (1, 1)
    assert spans["poor"] == (4, 4)
    assert spans["fair"] == spans["twin"] == (2, 3)
    clear = {(pair.better, pair.worse): pair.clear for pair in board.comparisons}
    assert [pair for pair, told_apart in clear.items() if not told_apart] == [("fair", "twin")]


def test_equal_means_share_a_rank() -> None:
    same = [{**sample_record("a"), "spec": name} for name in ("a", "b", "c")]
    for name, values in zip(("a", "b", "c"), same, strict=True):
        values["eraser"] = {**values["eraser"], "name": name}
    board = rank_records(parsed(*same))
    assert [(row.label, row.rank) for row in board.rows] == [("a", 1), ("b", 1), ("c", 1)]
    assert {(row.rank_low, row.rank_high) for row in board.rows} == {(1, 1)}


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(5)), seeds=st.lists(st.integers(0, 99), min_size=5, max_size=5))
def test_order_of_runs_and_tasks_does_not_matter(order: list[int], seeds: list[int]) -> None:
    records = [
        {**values, "protocol": {**values["protocol"], "bootstrap": 100}}
        for values in five_records()
    ]
    moved = [shuffled(records[place], seed) for place, seed in zip(order, seeds, strict=True)]
    assert as_text(rank_records(parsed(*moved))) == as_text(rank_records(parsed(*records)))


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.5), (0.01, 9.0), (70.0, -2.0)])
def test_scaling_and_shifting_a_metric_keeps_ranks(scale: float, shift: float) -> None:
    records = five_records()
    moved = copy.deepcopy(records)
    for values in moved:
        for task in values["tasks"]:
            task["scores"][PRIMARY] = task["scores"][PRIMARY] * scale + shift
    before, after = (rank_records(parsed(*some)) for some in (records, moved))
    assert [row.label for row in after.rows] == [row.label for row in before.rows]
    assert [row.rank_high for row in after.rows] == [row.rank_high for row in before.rows]


@pytest.mark.parametrize("how", ["failed", "missing", "null", "gone"])
def test_row_that_misses_a_task_has_no_mean_and_no_rank(how: str) -> None:
    records = five_records()
    records[2] = without_task(records[2], "scene-004-1", how=how)
    board = rank_records(parsed(*records))
    assert [row.label for row in board.rows] == ["fair", "poor", "good"]
    cell = board.rows[-1].cells[PRIMARY]
    assert board.rows[-1].rank is None
    assert (cell.mean, cell.low, cell.high, cell.missing) == (None, None, None, 1)
    assert "misses 1 of 36 tasks, first scene-004-1" in (cell.reason or "")
    assert board.rows[0].cells[PRIMARY].tasks == 36


def test_gap_takes_only_the_slices_that_hold_the_task() -> None:
    records = five_records()
    records[2] = without_task(records[2], "scene-004-1", how="failed")
    board = rank_records(parsed(*records))
    place = board.standing.labels.index("good")
    [occlusion] = [s for s in slice_board(board, [PRIMARY]) if s.title == "Occlusion"]
    means = {level.name: level.cells[PRIMARY][place].mean for level in occlusion.levels}
    assert [name for name, mean in means.items() if mean is None] == ["none"]
    assert list(means) == ["none", "light", "moderate", "heavy"]


def test_task_that_nobody_can_be_scored_on_takes_nobody_out() -> None:
    records = [without_task(values, "scene-004-1", how="null") for values in five_records()]
    board = rank_records(parsed(*records))
    assert [row.label for row in board.rows] == ["good", "fair", "poor"]
    assert {row.cells[PRIMARY].tasks for row in board.rows} == {35}


def test_mean_is_the_plain_mean_over_tasks() -> None:
    records = five_records()
    board = rank_records(parsed(*records))
    wanted = np.mean([task["scores"][PRIMARY] for task in records[2]["tasks"]])
    assert board.rows[0].cells[PRIMARY].mean == pytest.approx(wanted, rel=1e-9)


def test_slices_part_the_tasks() -> None:
    board = rank_records(parsed(*five_records()))
    slices = {one.title: one for one in slice_board(board, [PRIMARY])}
    for title in ("Occlusion", "Number of people", "Mask area", "Mask source", "Who is erased"):
        found = [name for level in slices[title].levels for name in level.task_ids]
        assert sorted(found) == list(board.standing.task_ids), title
    areas = [level.name for level in slices["Mask area"].levels]
    assert areas == ["0–5%", "10–20%", "20–40%"]


def test_controls_that_come_out_right_raise_no_flag() -> None:
    check = check_controls(rank_records(parsed(*five_records())))
    # Truth on three keys, copy-input on the two in the hole.
    assert (check.checked, check.faults, check.unchecked) == (5, (), ())


def test_flag_when_a_metric_prefers_the_untouched_input() -> None:
    records = five_records()
    for task in records[1]["tasks"]:
        task["scores"]["likeness/hole/composited"] = 0.99
    check = check_controls(rank_records(parsed(*records)))
    [fault] = check.faults
    assert (fault.key, fault.control) == ("likeness/hole/composited", "copy-input")
    assert "copy-input (0.99) beats the best real eraser, good" in fault.text


def test_flagged_ranking_score_is_said_on_top() -> None:
    records = five_records()
    for task in records[1]["tasks"]:
        task["scores"][PRIMARY] = 0.01
    board = rank_records(parsed(*records))
    text = board_as_markdown(board, check_controls(board))
    warning = "the score that ranks is flagged: copy-input (0.01) beats the best real eraser, good"
    assert text.index(warning) < text.index("| Rank |")


def test_flag_when_a_metric_prefers_anything_to_the_truth() -> None:
    records = five_records()
    for task in records[0]["tasks"]:
        task["scores"][PRIMARY] = 0.3
    check = check_controls(rank_records(parsed(*records)))
    assert [fault.control for fault in check.faults] == ["truth"]
    assert "good" in check.faults[0].text and "beats truth" in check.faults[0].text


def test_every_flag_fires_when_directions_are_turned_round() -> None:
    records = five_records()
    turn = {"lower": "higher", "higher": "lower"}
    for values in records:
        values["metrics"] = [{**m, "better": turn[m["better"]]} for m in values["metrics"]]
    check = check_controls(rank_records(parsed(*records)))
    assert len(check.faults) == check.checked == 5


def test_leaving_the_outside_alone_is_no_fault() -> None:
    records = five_records()
    for task in records[1]["tasks"]:
        task["scores"]["error/outside/raw"] = 0.0
    assert check_controls(rank_records(parsed(*records))).faults == ()


def test_without_controls_the_board_says_so() -> None:
    check = check_controls(rank_records(parsed(*five_records()[2:])))
    assert check.unchecked == ("no control is among the runs",)


def test_training_on_the_release_is_flagged() -> None:
    record = sample_record("good")
    record["eraser"]["trained_on"] = ["COCO", "Toy 1.0"]
    other = sample_record("fair")
    other["eraser"]["trained_on"] = ["toybox"]
    rows = {row.label: row.notes for row in rank_records(parsed(record, other)).rows}
    assert rows == {"good": ("trained on toy: not a fair comparison",), "fair": ()}


@pytest.mark.parametrize(
    ("part", "field", "message"),
    [
        ("release", "hash", r"expected one release for all runs, got toy 1.0 .* and toy 1.0"),
        ("protocol", "hash", r"expected one protocol for all runs"),
    ],
)
def test_records_of_different_rules_are_refused(part: str, field: str, message: str) -> None:
    first, second = sample_record("a"), sample_record("b")
    second[part][field] = "cd" * 32
    with pytest.raises(BadInput, match=message):
        rank_records(parsed(first, second))


def test_other_conflicts_are_refused() -> None:
    first, second = sample_record("a"), sample_record("b")
    with pytest.raises(BadInput, match="every eraser once, got 'a #"):
        rank_records(parsed(first, first))
    second["metrics"][0]["version"] = "2"
    with pytest.raises(BadInput, match=r"one version of error, got 1 \(a\) and 2 \(b\)"):
        rank_records(parsed(first, second))
    second["metrics"][0]["version"] = "1"
    second["tasks"][0]["scene_id"] = "elsewhere"
    with pytest.raises(BadInput, match="is of scene 'scene-000' in one record and 'elsewhere'"):
        rank_records(parsed(first, second))
    with pytest.raises(BadInput, match="at least one scored run"):
        rank_records([])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: r.pop("tasks"), "tasks: Field required"),
        (lambda r: r.update(schema=2), "schema: Input should be 1"),
        (lambda r: r["tasks"][0]["scores"].update({PRIMARY: float("nan")}), "finite number"),
        (lambda r: r["tasks"][0]["scores"].update({PRIMARY: None}), "is null without a reason"),
        (lambda r: r["tasks"][0]["scores"].update({"ghost/hole/raw": 1.0}), "metric with a card"),
        (lambda r: r["tasks"].append(r["tasks"][0]), "task 'scene-000-0' is there 2 times"),
        (lambda r: r["tasks"][0].update(status="failed"), "failed without a reason"),
        (lambda r: r["tasks"][0].update(seconds=-1.0), "greater than or equal to 0"),
    ],
)
def test_broken_record_is_one_clear_line(damage: Any, message: str) -> None:
    values = sample_record("a")
    damage(values)
    with pytest.raises(BadInput, match=message) as caught:
        parse_record(values, name="record-mild.json")
    assert "\n" not in str(caught.value)


def test_equal_names_are_told_apart_by_their_settings() -> None:
    first, second = sample_record("a", quality=0.6), sample_record("a", quality=0.4)
    second["eraser"]["settings_hash"] = "ffffffffffff"
    labels = [row.label for row in rank_records(parsed(first, second)).rows]
    assert labels[1] == "a #ffffffffffff"


def test_csv_holds_every_cell_and_markdown_every_row() -> None:
    records = five_records()
    records[4] = without_task(records[4], "scene-001-0", how="failed")
    records[3]["eraser"]["name"] = "fair|<b>*x*"
    board = rank_records(parsed(*records))
    frame = pandas.read_csv(io.StringIO(board_as_csv(board)))
    assert len(frame) == 5 * len(board.columns)
    top = frame[(frame["rank"] == 1) & (frame["metric"] == "error") & (frame["region"] == "hole")]
    assert top["mean"].item() == board.rows[0].cells[PRIMARY].mean
    text = board_as_markdown(board, check_controls(board))
    assert "fair\\|&lt;b>\\*x\\*" in text and "<b>" not in text
    assert "poor: misses 1 of 36 tasks, first scene-001-0" in text
    widths = {line.replace("\\|", "").count("|") for line in text.splitlines() if line[:1] == "|"}
    assert widths == {len(board.headline) + 3}


def test_numbers_have_the_digits_their_intervals_support() -> None:
    assert decimals([Cell(0.2134, 0.2, 0.226, 9)]) == 3
    assert decimals([Cell(21.34, 19.9, 22.6, 9)]) == 1
    assert decimals([Cell(214.0, 150.0, 260.0, 9)]) == 0
    assert number(-0.5, 2) == "\u22120.50"
    assert number(-0.0001, 2) == "0.00"
    assert number(None, 2) == "–"


def test_leaving_the_picture_alone_may_win_where_harm_is_measured() -> None:
    records = five_records()
    for values in records:
        for card in values["metrics"]:
            card["harm"] = True
    board = rank_records(parsed(*records))
    assert not [fault for fault in check_controls(board).faults if fault.control != "truth"]
