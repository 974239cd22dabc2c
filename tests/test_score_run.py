"""Scoring run folders: end to end, resumed after kills, and with every kind of bad result."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from make_release import make_release

from mild_bench.errors import BadInput
from mild_bench.release import Release
from mild_bench.run.erase import erase_release
from mild_bench.run.score import score_runs
from mild_bench.store import read_json, write_json

ERASERS = ("truth", "copy-input", "blur")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("data") / "toy", tasks=4, size=(64, 64))


def erase(release: Path, folder: Path, *names: str) -> list[Path]:
    for name in names:
        erase_release(release, name, folder / name)
    return [folder / name for name in names]


def tree(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "measured" not in path.parts
    }


@pytest.fixture(scope="module")
def scored(release: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    runs = erase(release, tmp_path_factory.mktemp("runs"), *ERASERS)
    records = score_runs(runs, workers=1)
    assert [path.name for path in records] == ["record-mild.json"] * 3
    return {run.name: read_json(record) for run, record in zip(runs, records, strict=True)}


def test_a_record_says_what_was_measured_with_what(scored: dict[str, Any], release: Path) -> None:
    record = scored["blur"]
    assert record["schema"] == 1 and record["eraser"]["name"] == "blur"
    assert record["release"]["hash"] == Release.open(release).hash
    assert record["release"]["tasks"] == 4 == len(record["tasks"])
    assert record["protocol"]["name"] == "mild" and len(record["protocol"]["hash"]) == 12
    assert len(record["weights"]["lpips-vgg"]["sha256"]) == 64
    assert {card["metric"] for card in record["metrics"]} >= {"psnr", "lpips-alex", "residue"}
    task = record["tasks"][0]
    assert task["status"] == "ok" and task["seconds"] >= 0
    assert task["strata"]["people"] == 2 and "task_id" not in task["strata"]
    assert set(task["reasons"]) == {key for key, value in task["scores"].items() if value is None}


def test_truth_wins_and_the_input_keeps_its_people(scored: dict[str, Any]) -> None:
    for number in range(4):
        truth, source, blur = (scored[name]["tasks"][number]["scores"] for name in ERASERS)
        assert truth["lpips-alex/hole/composited"] == 0 and truth["psnr/whole/raw"] == 100
        assert source["residue/hole/raw"] == 1 > blur["residue/hole/raw"]
        assert source["lpips-alex/hole/raw"] > 0.05


def test_runs_scored_alone_or_together_get_the_same_numbers(
    scored: dict[str, Any], release: Path, tmp_path: Path
) -> None:
    runs = erase(release, tmp_path, "blur")
    alone = read_json(score_runs(runs, workers=2)[0])
    numbers = [task["scores"] for task in alone["tasks"]]
    assert numbers == [task["scores"] for task in scored["blur"]["tasks"]]


def test_a_second_call_keeps_what_is_there(release: Path, tmp_path: Path) -> None:
    (run,) = erase(release, tmp_path, "blur")
    score_runs([run], workers=1)
    before = tree(tmp_path)
    kept = run / "scores/mild" / "scene-000-all.json"
    stamp = kept.stat().st_mtime_ns
    (run / "scores/mild" / "scene-001-occluder.json").write_text("{")  # somebody else's bytes
    score_runs([run], workers=1)
    assert tree(tmp_path) == before and kept.stat().st_mtime_ns == stamp


def test_a_bad_result_is_nan_with_the_reason_and_the_rest_is_scored(
    release: Path, tmp_path: Path
) -> None:
    (run,) = erase(release, tmp_path, "blur")
    names = Release.open(release).task_ids()
    cut = run / "results" / f"{names[0]}.png"
    cut.write_bytes(cut.read_bytes()[:100])
    (run / "results" / f"{names[1]}.png").unlink()
    note = read_json(run / "tasks" / f"{names[2]}.json")
    write_json(
        run / "tasks" / f"{names[2]}.json",
        {**note, "status": "failed", "reason": "it broke", "sha256": None},
    )
    tasks = read_json(score_runs([run], workers=1)[0])["tasks"]
    for task, reason in ((tasks[0], "not the one that the run wrote"), (tasks[1], "missing")):
        assert set(task["scores"].values()) == {None} and task["status"] == "ok"
        assert all(reason in text for text in task["reasons"].values())
    assert tasks[2]["status"] == "failed" and tasks[2]["reason"] == "it broke"
    assert tasks[2]["scores"] == {} and tasks[3]["scores"]["psnr/hole/raw"] > 5


def test_a_task_that_was_not_run_is_missing(release: Path, tmp_path: Path) -> None:
    erase_release(release, "blur", tmp_path / "run", limit=2)
    tasks = read_json(score_runs([tmp_path / "run"], workers=1)[0])["tasks"]
    assert [task["status"] for task in tasks] == ["ok", "ok", "missing", "missing"]


def test_wrong_folders_are_one_clear_line(release: Path, tmp_path: Path) -> None:
    (run,) = erase(release, tmp_path, "copy-input")
    other = make_release(tmp_path / "other", tasks=2, seed=9)
    strange = erase(other, tmp_path / "strange", "copy-input")
    cases: list[tuple[list[Path], dict[str, Any], str]] = [
        ([], {}, "expected at least one run folder"),
        ([tmp_path], {}, "expected a run folder with run.json"),
        ([run, *strange], {}, "expected runs of one release, got 2"),
        ([run], {"release": other}, "expected the release that the runs were made on"),
        ([run], {"release": tmp_path / "no"}, "name its folder with --release"),
        ([run], {"protocol": "mold"}, "did you mean 'mild'"),
        ([run], {"workers": 0}, "workers: expected at least 1"),
    ]
    for runs, options, message in cases:
        with pytest.raises(BadInput, match=message):
            score_runs(runs, **options)


@pytest.mark.slow
def test_killed_scoring_ends_with_the_same_bytes(release: Path, tmp_path: Path) -> None:
    undisturbed, killed = tmp_path / "a", tmp_path / "b"
    runs = erase(release, undisturbed, "blur", "copy-input")
    shutil.copytree(undisturbed, killed)
    score_runs(runs, workers=2)
    runs = [killed / run.name for run in runs]
    chance = random.Random(7)
    program = "from mild_bench.cli import main; main()"
    command = [sys.executable, "-c", program, "score", *map(str, runs)]
    for _ in range(2):
        done = len(list(killed.glob("*/scores/mild/*.json")))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None and len(list(killed.glob("*/scores/mild/*.json"))) == done:
            time.sleep(0.005)
        time.sleep(chance.uniform(0, 0.2))
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    score_runs(runs, workers=2)
    assert tree(killed) == tree(undisturbed)
