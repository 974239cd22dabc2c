"""Damage, cost and failures on a board: what is drawn, from which rows, with which numbers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from attention_samples import attentive, without_attention
from board_samples import PRIMARY, Json, parsed, sample_record, without_task

from mild_bench.leaderboards.cost_view import cost_view
from mild_bench.leaderboards.curves import LARGE, SMALL, Curve, Point, curve_plot, up_axis
from mild_bench.leaderboards.damage import damage_curves, undamaged_rows
from mild_bench.leaderboards.damage_view import damage_view
from mild_bench.leaderboards.failures import CASES, WORST, failure_view, worst_tasks
from mild_bench.leaderboards.ranking import Board, rank_records
from mild_bench.leaderboards.slices import cost_by_people
from mild_bench.leaderboards.standing import Cell


def board_of(*records: Json) -> Board:
    return rank_records(parsed(*records))


def told(name: str, quality: float = 0.5, **settings: Any) -> Json:
    """A record of an eraser with priors; ``settings`` over those that do no damage."""
    record = sample_record(name, quality=quality, bootstrap=200)
    undamaged = {"drop": 0.0, "jitter": 0.0, "swap": 0.0, "priors": "annotated", "steps": 8}
    record["eraser"]["settings"] = {**undamaged, **settings}
    return record


def found_in(board: Board) -> list[tuple[str, str, list[float]]]:
    return [
        (curve.damage.setting, curve.label, [strength for strength, _ in curve.points])
        for curve in damage_curves(board)
    ]


def test_rows_that_differ_in_one_damage_are_a_curve_whatever_the_eraser_is_called() -> None:
    records = [
        told("ours", 0.7),
        told("ours[drop=1]", 0.4, drop=1),
        told("ours[drop=0.5]", 0.6, drop=0.5),
        told("ours[jitter=8]", 0.5, jitter=8.0),
        told("ours[priors=detected]", 0.3, priors="detected", pose_model="vitpose"),
        told("ours[priors=seen]", 0.5, priors="seen"),
    ]
    wanted = [
        ("drop", "ours", [0, 0.5, 1]),
        ("jitter", "ours", [0, 8]),
        ("priors", "ours", [0, 1, 2]),
    ]
    board = board_of(*records)
    assert found_in(board) == found_in(board_of(*records[::-1])) == wanted
    kept = {row.label for row in undamaged_rows(board)}
    assert kept == {"ours", "ours[priors=detected]", "ours[priors=seen]"}  # other sources stay


def test_other_differences_keep_rows_apart_but_not_where_they_ran() -> None:
    board = board_of(
        told("a"),
        told("b[drop=1]", drop=1.0),  # another eraser
        told("a[drop=1,steps=4]", drop=1.0, steps=4),  # another setting
        told("a[drop=1,jitter=4]", drop=1.0, jitter=4.0),  # two kinds of damage at once: no pair
        told("a[swap=on]", swap=True),  # no strength
    )
    assert found_in(board) == []
    assert damage_view(board_of(told("a"), sample_record("telea"))) is None
    moved = board_of(told("a", device="cpu"), told("a[swap=1]", swap=1, device="cuda"))
    assert found_in(moved) == [("swap", "a", [0, 1])]


def test_damage_is_drawn_with_the_means_and_their_paired_change() -> None:
    names = {"a": 0.0, "a[drop=0.5]": 0.5, "a[drop=1]": 1.0}
    board = board_of(*(told(name, 0.8 - s / 4, drop=s) for name, s in names.items()))
    view = damage_view(board)
    assert view is not None
    [score] = view["sets"]
    [plot] = score["plots"]
    heights = [float(y) for y in re.findall(r'<circle cx="[^"]+" cy="([^"]+)"', plot["svg"])]
    assert heights == sorted(heights, reverse=True)  # more error is higher up: fewer pixels
    cells = {row.label: row.cells[PRIMARY] for row in board.rows}
    for line, name in zip(score["lines"], names, strict=True):
        assert line["label"] == name
        assert float(line["value"]) == pytest.approx(cells[name].mean, abs=1e-3)
    changes = [line["change"] for line in score["lines"]]
    assert changes[0] == ""
    gap = (cells["a[drop=1]"].mean or 0) - (cells["a"].mean or 0)
    assert float(changes[2].split()[0]) == pytest.approx(gap, abs=1e-3)
    assert changes[2].endswith("p = 0.010")  # the least that 200 resamples can give


def test_scores_of_layers_are_drawn_where_there_are_some() -> None:
    records = [told("a"), told("a[swap=1]", 0.4, swap=1), sample_record("telea", bootstrap=200)]
    for record in records:
        card = {**record["metrics"][1], "metric": "alpha-iou", "title": "Alpha IoU"}
        record["metrics"].append(card)
        for task in record["tasks"]:
            layered = record["spec"] != "telea"
            task["scores"]["alpha-iou/whole/raw"] = 0.5 if layered else None
            if not layered:
                task["reasons"]["alpha-iou/whole/raw"] = "this eraser makes no layers"
    view = damage_view(board_of(*records))
    assert view is not None
    assert [one["title"] for one in view["sets"]] == ["Alpha IoU, whole, raw \u2191"]
    assert [line["label"] for line in view["sets"][0]["lines"]] == ["a", "a[swap=1]"]


def test_a_row_without_a_mean_is_told_of_but_not_drawn() -> None:
    broken = without_task(told("a[drop=1]", drop=1.0), "scene-000-0", how="failed")
    board = board_of(told("a"), told("a[drop=0.5]", drop=0.5), broken)
    view = damage_view(board)
    assert view is not None
    [score] = view["sets"]
    assert score["plots"][0]["svg"].count("<circle") == 2
    assert "failed" in score["lines"][2]["why"] and score["lines"][2]["change"] == ""
    assert damage_view(board_of(told("a"), broken)) is None  # one point is no curve


def test_curves_lie_where_their_values_are() -> None:
    cells = [Cell(1.0, 0.5, 1.5, 9), Cell(2.0, None, None, 9), Cell(4.0, 3.0, 5.0, 9)]
    points = tuple(
        Point(x, cell, f"<b>{x}") for x, cell in zip((0.0, 1.0, 4.0), cells, strict=True)
    )
    axis = up_axis(cells, SMALL)
    assert axis is not None
    places = [(0.0, "0"), (0.01, "hidden"), (1.0, "1"), (4.0, "a<c")]
    svg = str(curve_plot("a & b", [Curve(0, points)], places, axis, SMALL))
    dots = [
        tuple(map(float, pair)) for pair in re.findall(r'<circle cx="([^"]+)" cy="([^"]+)"', svg)
    ]
    (x0, y0), (x1, y1), (x2, y2) = dots
    assert (x1 - x0) * 4 == pytest.approx(x2 - x0, abs=1)
    assert y0 - y1 == pytest.approx((y1 - y2) / 2, abs=0.3)
    assert len(re.findall(r'<g class="point s0"><path', svg)) == 2  # two cells have an interval
    assert "&lt;b&gt;0.0" in svg and "a &amp; b" in svg and "<b>" not in svg
    assert "hidden" not in svg and "a&lt;c" in svg  # a text that would touch its neighbour


def test_curves_side_by_side_stay_on_the_sheet() -> None:
    cell = Cell(1.0, 0.5, 2.0, 9)
    axis = up_axis([cell], LARGE, log=True)
    assert axis is not None
    many = [Curve(n, (Point(1.0, cell, ""), Point(6.0, cell, ""))) for n in range(14)]
    svg = str(curve_plot("", many, [(1.0, "1"), (6.0, "6")], axis, LARGE))
    across = [float(x) for x in re.findall(r'<circle cx="([^"]+)"', svg)]
    assert min(across) > 0 and max(across) < LARGE.width
    assert len(set(across[::2])) == 14  # none hides another
    assert up_axis([], SMALL) is None


def test_cost_is_the_mean_over_the_tasks_with_so_many_people() -> None:
    slow, quick = sample_record("slow", bootstrap=200), sample_record("quick", bootstrap=200)
    for number, task in enumerate(slow["tasks"]):
        task["strata"]["erased"] = 1 + number % 3
        task["seconds"] = 2.0 * task["strata"]["erased"]
    slow, quick = attentive(slow), without_attention(quick)
    for one, other in zip(quick["tasks"], slow["tasks"], strict=True):
        one["strata"]["erased"] = other["strata"]["erased"]
    board = board_of(slow, quick)
    people, erased = cost_by_people(board)
    assert [one.title for one in erased.slices] == ["Seconds per task", "Peak memory, MB", "CAG ↑"]
    seconds, _, cag = erased.slices
    place = board.standing.labels.index("slow")
    assert [level.cells["seconds"][place].mean for level in seconds.levels] == [2, 4, 6]
    [key] = cag.levels[0].cells
    values = {task["task_id"]: task["scores"][key] for task in slow["tasks"]}
    for level in cag.levels:
        cell = level.cells[key][place]
        assert cell.mean == pytest.approx(np.mean([values[name] for name in level.task_ids]))
        assert cell.low is not None and cell.high is not None
        assert cell.low < cell.mean < cell.high
    assert [len(one.levels) for one in people.slices] == [4, 4, 4]


def parts_of(board: Board) -> Any:
    from mild_bench.leaderboards.controls import check_controls
    from mild_bench.leaderboards.page_data import PageParts

    return PageParts(board, check_controls(board), (), cost_by_people(board), {})


def test_cost_is_drawn_for_erasers_and_tabled_for_controls_too() -> None:
    board = board_of(
        told("a"), told("a[drop=1]", drop=1.0), sample_record("truth", quality=1, control="first")
    )
    view = cost_view(parts_of(board))
    assert [one["label"] for one in view["legend"]] == ["a"]  # the damaged row would hide it
    plot = view["sets"][0]["plots"][0]
    assert plot["svg"].count('class="run') == 1
    assert [line["label"] for line in plot["numbers"]] == ["a", "a[drop=1]", "truth"]
    assert [one["title"] for one in view["sets"][0]["plots"]] == [
        "Seconds per task", "Peak memory, MB",
    ]  # fmt: skip


def test_failures_are_the_worst_tasks_in_order_with_what_others_do_there() -> None:
    board = board_of(sample_record("good", quality=0.8), sample_record("poor", quality=0.3))
    for row, view in zip(board.rows, failure_view(board), strict=True):
        shown = [case["id"] for case in view["cases"]] + [one["id"] for one in view["others"]]
        worst = worst_tasks(board, row)
        assert shown == [task_id for task_id, _ in worst]
        assert (len(view["cases"]), len(shown)) == (CASES, WORST)
        values = [value for _, value in worst]
        assert values == sorted(values, reverse=True)
        every = {task.task_id: task.scores[PRIMARY] or 0.0 for task in row.record.tasks}
        assert max(v for name, v in every.items() if name not in shown) <= min(values)
        assert float(view["cases"][0]["median"]) == pytest.approx(
            float(np.median(list(every.values()))), abs=1e-3
        )
        assert view["without"] == ""
    good, poor = failure_view(board)
    assert good["cases"][0]["best"] == "no other eraser does better here"
    first = poor["cases"][0]
    [task] = [t for t in board.rows[0].record.tasks if t.task_id == first["id"]]
    best = re.fullmatch(r"best here (\S+) \(good\)", first["best"])
    assert best is not None
    assert float(best[1]) == pytest.approx(task.scores[PRIMARY] or 0, abs=1e-3)


def test_tasks_without_a_result_are_failures_too() -> None:
    record = sample_record("a")
    for number in range(5):
        record = without_task(record, f"scene-00{number}-0", how="failed")
    [view] = failure_view(board_of(record))
    assert view["without"].startswith("No result on 5 of 36 tasks. scene-000-0: ran out of memory")
    assert view["without"].endswith("; and 2 more")
    assert not {"scene-000-0", "scene-004-0"} & {case["id"] for case in view["cases"]}
