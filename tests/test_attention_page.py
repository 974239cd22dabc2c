"""Attention on a board: the page's section, the files beside it, and `board correlate`."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attention_samples import NO_ATTENTION, add_traces, five_erasers, without_attention
from board_samples import parsed, sample_runs
from PIL import Image
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.errors import BadInput
from mild_bench.leaderboards.attention import attention_view, telling_tasks
from mild_bench.leaderboards.correlation import correlate, score_columns
from mild_bench.leaderboards.ranking import rank_records
from mild_bench.leaderboards.scatter import Cloud, colour_class, scatter
from mild_bench.run.board import build_board
from mild_bench.store import read_json, write_json

HOSTILE = "</script><b>sd"
Json = dict[str, Any]


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    paths = []
    for number, values in enumerate(five_erasers()):
        paths.append(tmp_path / f"{number}.json")
        write_json(paths[-1], values)
    return paths


def test_page_has_scores_correlations_dots_and_three_traces(tmp_path: Path) -> None:
    truth, sd = sample_runs(tmp_path, ["truth", HOSTILE])
    record = without_attention(read_json(truth / "record-mild.json"))
    write_json(truth / "record-mild.json", record)
    leakage = add_traces(sd, seed=1)
    built = build_board([truth, sd], tmp_path / "board", picture_size=96)
    page = built.page.read_text()
    assert page.count('<section id="attention">') == 1 and '<a href="#attention">' in page
    assert HOSTILE not in page.split('<script type="application/json"')[0]
    order = sorted(leakage, key=lambda task_id: (leakage[task_id], task_id))
    chosen = [order[0], order[len(order) // 2], order[-1]]
    section = page[page.index('<section id="attention">') :]
    captions = re.findall(r"<figcaption>(.*?): .*?>(scene-[^<]+)<", section)
    wanted = ["least leakage", "median", "most leakage"]
    assert captions == list(zip(wanted, chosen, strict=True))
    shades = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).mean()
        for data in re.findall(r'<img src="data:image/webp;base64,([^"]+)" alt="Leakage', section)
    ]
    numbers = [read_json(sd / "record-mild.json")["tasks"], chosen]
    places = [[task["task_id"] for task in numbers[0]].index(task_id) for task_id in chosen]
    assert shades == pytest.approx([20 * place + 5 for place in places], abs=3)
    dots = re.findall(r'<path class="dots s0" d="(M[^"]+)"', section)
    assert dots[0].count("M") == len(order)
    values = read_json(tmp_path / "board" / "board.json")
    assert {one["scope"] for one in values["correlations"]} == {"eraser", "within", "between"}
    assert "CAG and Error, hole" in (tmp_path / "board" / "board.md").read_text()


def test_a_trace_picture_that_is_another_is_refused(tmp_path: Path) -> None:
    [sd] = sample_runs(tmp_path, ["sd"])
    add_traces(sd, seed=1)
    for path in (sd / "traces").iterdir():
        path.write_bytes(b"another")
    with pytest.raises(BadInput, match="expected the picture of the trace that the run wrote"):
        build_board([sd], tmp_path / "board")


def test_a_board_without_attention_has_no_section(tmp_path: Path) -> None:
    values = without_attention(five_erasers()[2])
    write_json(tmp_path / "one.json", values)
    build_board([tmp_path / "one.json"], tmp_path / "board")
    page = (tmp_path / "board" / "index.html").read_text()
    assert 'id="attention"' not in page and "#attention" not in page
    markdown = (tmp_path / "board" / "board.md").read_text()
    assert "## Attention" not in markdown
    assert f"cag, leakage: {NO_ATTENTION}" in markdown


def test_negative_and_missing_cag_stand_in_tables(records: list[Path], tmp_path: Path) -> None:
    build_board(records, tmp_path / "board")
    markdown = (tmp_path / "board" / "board.md").read_text()
    heads = next(line for line in markdown.splitlines() if line.startswith("| Rank"))
    place = [cell.strip()[:3] for cell in heads.split("|")].index("CAG")
    cells = {
        line.split("|")[2].strip(): line.split("|")[place].strip()
        for line in markdown.splitlines()
        if line.startswith("| ")
    }
    assert cells["flux"].startswith("−") and cells["telea"] == cells["truth"] == "–"
    assert f"no mean for telea: {NO_ATTENTION}" in markdown


def test_telling_tasks_of_few() -> None:
    board = rank_records(parsed(*five_erasers()))
    row = board.rows[0]
    ids = [task.task_id for task in row.record.tasks]
    assert [which for which, *_ in telling_tasks(board, row, ids[:1])] == ["least leakage"]
    two = telling_tasks(board, row, ids[:2])
    assert len({task_id for _, task_id, _ in two}) == len(two) == 2
    assert telling_tasks(board, row, []) == []
    assert telling_tasks(board, board.rows[3], ids) == []  # has no attention


def test_section_holds_every_correlation() -> None:
    board = rank_records(parsed(*five_erasers()))
    found = correlate(board, score_columns(board, []))
    view = attention_view(board, found, {})
    assert view is not None
    lines = [line for pair in view["pairs"] for line in pair["lines"]]
    assert len(lines) == len(found) == 2 * 2 * (3 + 2)
    assert [one["label"] for one in view["legend"]] == ["sd", "sdxl", "flux"]
    assert view["without"] == [f"no mean for telea: {NO_ATTENTION}"]


def test_dots_lie_where_their_values_are() -> None:
    cloud = Cloud("a<b", np.array([-1.0, 0.0, 3.0]), np.array([5.0, 1.0, 2.0]))
    svg = scatter([cloud, Cloud("none", np.zeros(0), np.zeros(0))], across="x", up="y & z")
    path = re.search(r'class="dots s0" d="([^"]+)"', svg)
    assert path is not None
    dots = [tuple(map(float, dot[:-2].split())) for dot in path[1].split("M")[1:]]
    across, up = zip(*dots, strict=True)
    assert (across[1] - across[0]) * 3 == pytest.approx(across[2] - across[1], abs=0.5)
    assert up[0] < up[2] < up[1]  # more is higher up, and pixels count downwards
    assert "a&lt;b" in svg and "y &amp; z" in svg and "s1" not in svg
    assert scatter([], across="x", up="y") == ""
    assert colour_class(3) == "s3" and colour_class(11) == "s3 square"


def test_command_reads_the_records_alone(records: list[Path], tmp_path: Path) -> None:
    build_board(records, tmp_path / "board")
    for file in (tmp_path / "board").glob("*.*"):
        file.unlink()
    arguments = ["board", "correlate", "error", "residue", "--board", str(tmp_path / "board")]
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "100"})
    assert result.exit_code == 0
    for text in ("CAG and Error, hole (expected sign −)", "mean within 3 erasers", "as expected"):
        assert text in result.output
    asked = CliRunner().invoke(app, [*arguments, "--json"])
    values: Json = json.loads(asked.stdout)
    assert len(values["correlations"]) == 20
    assert {one["score"] for one in values["correlations"]} == {
        "error/hole/composited", "residue/hole/composited",
    }  # fmt: skip


def test_wrong_use_is_one_clear_line(records: list[Path], tmp_path: Path) -> None:
    board = tmp_path / "board"
    build_board(records, board)
    for arguments, message in (
        (["lpips", "--board", str(board)], "on the board to compare attention with, got 'lpips'"),
        (["--board", str(tmp_path / "none")], "expected a board folder with records/, got none"),
    ):
        result = CliRunner().invoke(app, ["board", "correlate", *arguments])
        assert isinstance(result.exception, BadInput)
        assert message in str(result.exception)
    write_json(tmp_path / "plain.json", without_attention(five_erasers()[2]))
    build_board([tmp_path / "plain.json"], tmp_path / "plain")
    result = CliRunner().invoke(app, ["board", "correlate", "--board", str(tmp_path / "plain")])
    assert NO_ATTENTION in str(result.exception) and "--probe cag" in str(result.exception)


def test_table_loses_no_words_in_eighty_columns(records: list[Path], tmp_path: Path) -> None:
    build_board(records[:5], tmp_path / "board")  # two erasers with attention
    arguments = ["board", "correlate", "error", "--board", str(tmp_path / "board")]
    output = CliRunner().invoke(app, arguments, env={"COLUMNS": "80"}).output
    last = output[output.index("over the means of") : output.index("Leakage and Error")]
    said = " ".join(" ".join(line[60:].split()) for line in last.splitlines())
    assert "2 erasers with CAG, at least 3 needed" in " ".join(said.split())
