"""Layers from ``erase`` over ``score`` to the board: whole, damaged, gone, of older runs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_release import make_release

from mild_bench import plugins
from mild_bench.images import encode_png
from mild_bench.metrics.cards import METRICS
from mild_bench.release import Release
from mild_bench.run.board import build_board
from mild_bench.run.erase import erase_release
from mild_bench.run.score import score_runs
from mild_bench.scene_table import SceneTable
from mild_bench.store import canonical_json, read_json, sha256, write_json

TASK, NUMBER = "scene-002-occluded", 2  # somebody is hidden there
NAMES = [entry.card.metric for entry in METRICS if "layers" in entry.card.needs]
KEYS = [
    f"{entry.card.metric}/{region}/{mode}"
    for entry in METRICS
    if "layers" in entry.card.needs
    for region in entry.card.regions
    for mode in ("raw", "composited")
]


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plugins.ERASERS, "knowing", "layer_pictures:KnowingEraser")
        patch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("data") / "release", tasks=4)


@pytest.fixture(scope="module")
def pristine(release: Path) -> Path:
    """A run with true layers, and its scores."""
    run = release.parent / "knowing"
    erase_release(release, f"knowing:{release}", run)
    score_runs([run], workers=1)
    return run


@pytest.fixture
def run(pristine: Path) -> Iterator[Path]:
    """A run of our own, beside the release."""
    mine = pristine.with_name("mine")
    shutil.copytree(pristine, mine)
    yield mine
    shutil.rmtree(mine)


def tree(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and "measured" not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def tasks_of(run: Path) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = read_json(score_runs([run], workers=1)[0])["tasks"]
    return tasks


def reasons_of(run: Path, number: int = NUMBER) -> set[str | None]:
    """Score a run; why a task's layers have no scores (None: they have)."""
    reasons = tasks_of(run)[number]["reasons"]
    return {reasons.get(key) for key in KEYS}


def note_of(run: Path, task_id: str = TASK) -> Path:
    return run / "tasks" / f"{task_id}.json"


def test_true_layers_come_out_best_and_the_note_names_them(run: Path) -> None:
    digests = {path.stem: sha256(path.read_bytes()) for path in (run / "layers" / TASK).iterdir()}
    assert read_json(note_of(run))["layers"] == digests
    assert set(digests) == {"person-0"}
    measured = []
    for task in tasks_of(run):
        scores = task["scores"]
        assert scores["alpha-iou/whole/raw"] == scores["alpha-iou/whole/composited"] == 1
        assert scores["recompose-psnr/visible/raw"] > 25
        hidden = [scores[f"{key}/hidden/raw"] for key in ("alpha-iou", "hidden-lpips")]
        assert hidden in ([1, 0], [None, None])
        measured.append(hidden != [None, None])
    assert any(measured) and not all(measured)
    record = read_json(run / "record-mild.json")
    assert len(record["weights"]["hidden-lpips"]["sha256"]) == 64
    assert [card["metric"] for card in record["metrics"]][-3:] == NAMES


def test_the_other_scores_do_not_know_of_layers(release: Path, run: Path, tmp_path: Path) -> None:
    erase_release(release, f"knowing:{release}[layers=off]", tmp_path / "none")
    erase_release(release, f"knowing:{release}[shift=6]", tmp_path / "off")
    plain, shifted = (tasks_of(tmp_path / name) for name in ("none", "off"))
    together = score_runs([tmp_path / "none", run, tmp_path / "off"], workers=2)
    assert [read_json(path)["tasks"] for path in together][::2] == [plain, shifted]
    for one, other, moved in zip(tasks_of(run), plain, shifted, strict=True):
        rest = [key for key in one["scores"] if key not in KEYS]
        assert [one["scores"][key] for key in rest] == [other["scores"][key] for key in rest]
        assert {other["reasons"][key] for key in KEYS} == {"this eraser makes no layers"}
        for name in ("alpha-iou/whole/raw", "recompose-psnr/visible/raw"):
            assert moved["scores"][name] < one["scores"][name]
    assert "layers" not in read_json(note_of(tmp_path / "none"))


def test_scores_follow_the_layers(run: Path) -> None:
    before = tree(run)
    score = run / "scores" / "mild" / f"{TASK}.json"
    stamp = score.stat().st_mtime_ns
    assert reasons_of(run) == {None}
    assert score.stat().st_mtime_ns == stamp, "nothing changed: nothing is scored again"
    path = run / "layers" / TASK / "person-0.png"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert reasons_of(run) == {
        "the layer of person-0 is not the one that the run wrote; erase this task again"
    }
    path.unlink()
    assert reasons_of(run) == {"the layer of person-0 is missing; erase this task again"}
    path.write_bytes(good)
    path.with_name("person-7.png").write_bytes(good)
    assert "the layer of person-7 is not the one" in str(reasons_of(run))
    path.with_name("person-7.png").unlink()
    score.unlink()
    assert reasons_of(run) == {None}
    assert tree(run) == before


@pytest.mark.parametrize("noted", [True, False])
def test_layers_that_are_gone_or_were_not_noted_are_made_again(
    noted: bool, release: Path, run: Path
) -> None:
    before = tree(run)
    if noted:
        shutil.rmtree(run / "layers" / TASK)
    else:  # as runs were before their notes named the layers
        old = read_json(note_of(run))
        del old["layers"]
        write_json(note_of(run), old)
    assert None not in reasons_of(run)
    done = erase_release(release, f"knowing:{release}", run)
    assert (done.erased, done.kept) == (1, 3)
    assert reasons_of(run) == {None}
    after = tree(run)
    assert before.pop("record-mild.json") != after.pop("record-mild.json")  # other seconds
    assert after == before


def test_what_is_no_layer_has_a_reason(run: Path) -> None:
    path = run / "layers" / TASK / "person-0.png"
    flat = encode_png(np.zeros((64, 64, 3), np.uint8))
    small = encode_png(np.zeros((32, 64, 4), np.uint8))
    for data, reason in (
        (b"PNG", "the layer of person-0: expected a whole picture"),
        (flat, "the layer of person-0 is not 8-bit RGBA but uint8 (64, 64, 3)"),
        (small, "the layer of person-0 is not as large as the task"),
    ):
        path.write_bytes(data)
        note = read_json(note_of(run))
        note["layers"]["person-0"] = sha256(data)
        write_json(note_of(run), note)
        [found] = reasons_of(run)
        assert found is not None and found.startswith(reason)


def test_a_release_without_complete_people_gives_a_reason(tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", tasks=2)
    manifest = read_json(release / "manifest.json")
    del manifest["files"]["data/scenes-test.parquet"]
    (release / "manifest.json").write_bytes(canonical_json(manifest))
    whole = make_release(tmp_path / "whole", tasks=2)
    erase_release(release, f"knowing:{whole}", tmp_path / "run")
    assert reasons_of(tmp_path / "run", 0) == {
        "the release does not know the complete people of this scene"
    }


def test_people_of_a_release_are_complete_and_farthest_first(release: Path) -> None:
    opened = Release.open(release)
    for task in opened.tasks():
        people = opened.people_of(task.scene_id)
        assert tuple(people) == task.person_ids
        for number, layer in enumerate(people.values(), start=1):
            assert layer.shape == (*task.mask.shape, 4)
            assert (layer[task.people == number, 3] >= 128).all()
    assert opened.people_of("scene-999") == {}


def test_masks_of_what_shows_are_no_complete_people(release: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    source = release / "data" / "scenes-test.parquet"
    rows = parquet.read_table(source).to_pylist()
    rows[0]["truth_kind"] = "masks-only"
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "scenes.parquet")
    table = SceneTable(tmp_path / "scenes.parquet")
    assert table.people("scene-000") == {}
    assert set(table.people("scene-001")) == {"person-0", "person-1", "person-2"}


def test_a_board_with_and_without_layers_reads_well(
    release: Path, run: Path, tmp_path: Path
) -> None:
    runs = []
    for spec in ("telea", "navier-stokes", "copy-input", "truth"):
        erase_release(release, spec, tmp_path / spec)
        runs.append(tmp_path / spec)
    score_runs([*runs, run], workers=1)
    build_board(runs, tmp_path / "plain")
    plain = read_json(tmp_path / "plain" / "board.json")
    assert not [column for column in plain["columns"] if column["metric"] in NAMES]
    line = f"- {', '.join(NAMES)}: this eraser makes no layers\n"
    assert line in (tmp_path / "plain" / "board.md").read_text()
    build_board([*runs, run], tmp_path / "mixed")
    mixed = read_json(tmp_path / "mixed" / "board.json")
    shown = [key for key in mixed["headline"] if key.split("/")[0] in NAMES]
    assert shown == [
        "alpha-iou/hidden/composited",
        "hidden-lpips/hidden/composited",
        "recompose-psnr/visible/composited",
    ]
    assert mixed["control_check"]["checked"] >= plain["control_check"]["checked"]
    assert not [fault for fault in mixed["control_check"]["faults"] if "iou" in fault["key"]]
    text = (tmp_path / "mixed" / "board.md").read_text()
    who = "navier-stokes, telea, truth, copy-input"
    assert text.count("this eraser makes no layers") == 1
    assert f"- {who}: this eraser makes no layers\n" in text
    assert (
        f">{who}</th><td>this eraser makes no layers"
        in (tmp_path / "mixed" / "index.html").read_text()
    )
