"""``erase --probe cag`` and what ``score`` makes of it: same pictures, same bytes, honest gaps."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_release import make_release
from probed_eraser import Boaster
from tiny_pipelines import FAMILIES, make_pipeline
from typer.testing import CliRunner

from mild_bench import plugins
from mild_bench.cli import app
from mild_bench.erasers.diffusion.eraser import diffusion
from mild_bench.erasure import ProbedEraser
from mild_bench.errors import BadInput
from mild_bench.images import decode_png
from mild_bench.metrics.cag import picture, probe
from mild_bench.metrics.cag.scores import TraceMeasure, cag_measure, leakage_measure
from mild_bench.metrics.cag.trace import Trace
from mild_bench.metrics.view import Settings
from mild_bench.protocol import PROTOCOLS
from mild_bench.release import Release
from mild_bench.run.attention import regions_of
from mild_bench.run.board import build_board
from mild_bench.run.erase import erase_release
from mild_bench.run.score import score_runs
from mild_bench.store import read_json, sha256_file, write_json

PROTOCOL = PROTOCOLS["mild"]
KEYS = [f"{name}/hole/{mode}" for name in ("cag", "leakage") for mode in ("raw", "composited")]
FIRST = "scene-000-all"


@pytest.fixture(scope="module", autouse=True)
def _known() -> Iterator[None]:
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(plugins.ERASERS, "noise", "probed_eraser:noise")
        patch.setitem(plugins.ERASERS, "boaster", "probed_eraser:Boaster")
        # Tiny tensors: a run's threads would only wait for each other.
        patch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("data") / "release", tasks=3)


@pytest.fixture(scope="module")
def pristine(release: Path) -> Path:
    erase_release(release, "noise", release.parent / "noise", probe="cag")
    return release.parent / "noise"


@pytest.fixture
def run(pristine: Path) -> Iterator[Path]:
    """A run of our own, beside the release."""
    mine = pristine.with_name("mine")
    shutil.copytree(pristine, mine)
    yield mine
    shutil.rmtree(mine)


def tree(run: Path) -> dict[str, bytes]:
    """Everything in a run folder that two equal runs share."""
    files = [path for path in run.rglob("*") if path.is_file()]
    kept = [path for path in files if path.relative_to(run).parts[0] != "measured"]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in kept}


def pictures(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "results").iterdir()}


def note(run: Path, task_id: str = FIRST) -> dict[str, Any]:
    values: dict[str, Any] = read_json(run / "tasks" / f"{task_id}.json")
    return values


def attention(run: Path, number: int = 0) -> tuple[dict[str, float | None], dict[str, str]]:
    """Score a run; what stands in the record on the attention of a task, and why it is missing."""
    task = read_json(score_runs([run], workers=1)[0])["tasks"][number]
    reasons = task["reasons"]
    return {key: task["scores"][key] for key in KEYS}, {k: reasons[k] for k in KEYS if k in reasons}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_probed_in_a_run_and_paints_the_same_pictures(
    family: str, release: Path, tmp_path: Path
) -> None:
    make_pipeline(tmp_path / family, family)
    spec = f"diffusers:{tmp_path / family}[steps=2,side=96]"
    bare = erase_release(release, spec, tmp_path / "bare", limit=1)
    seen = erase_release(release, spec, tmp_path / "seen", limit=1, probe="cag")
    assert (bare.failed, seen.failed, seen.unread) == ({}, {}, {})
    assert pictures(tmp_path / "seen") == pictures(tmp_path / "bare")
    for task in Release.open(release).tasks(frozenset([FIRST])):
        trace = Trace.load(tmp_path / "seen" / "traces" / f"{FIRST}.npz")
        assert trace.groups == ("background", *task.person_ids, "text", "padding")
        assert trace.erased == task.erase
    drawn = decode_png((tmp_path / "seen" / "traces" / f"{FIRST}.png").read_bytes())
    assert drawn.shape[1] > 400
    part = "all" if family == "flux-fill" else "cond"
    assert measured(trace) == trace.where(part=part).summary().cag
    assert 0 < float(measured(trace, leakage_measure)) < 1


def test_the_note_tells_what_the_probe_brought(run: Path) -> None:
    header = read_json(run / "run.json")
    assert header["probe"] == "cag"
    trace, drawn = (run / "traces" / f"{FIRST}.{kind}" for kind in ("npz", "png"))
    assert note(run)["probe"] == {
        "name": "cag",
        "sha256": sha256_file(trace),
        "picture": sha256_file(drawn),
        "reason": None,
    }
    assert Trace.load(trace).parts == ("uncond", "cond")
    assert read_json(score_runs([run], workers=1)[0])["probe"] == "cag"


def test_scores_are_those_of_the_prompted_half(run: Path) -> None:
    values, reasons = attention(run)
    assert not reasons
    cond = Trace.load(run / "traces" / f"{FIRST}.npz").where(part="cond").summary()
    for mode in ("raw", "composited"):
        assert values[f"cag/hole/{mode}"] == pytest.approx(cond.cag, abs=1e-6)
        assert values[f"leakage/hole/{mode}"] == pytest.approx(cond.leakage, abs=1e-6)


def test_a_batch_of_tasks_is_told_apart(release: Path, run: Path, tmp_path: Path) -> None:
    erase_release(release, "noise[batch=3]", tmp_path / "three", probe="cag")
    for path in (run / "traces").iterdir():
        assert path.read_bytes() == (tmp_path / "three" / "traces" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("telea", "this eraser has no attention to read"),
        ("boaster", "its card promises attention, but the eraser has no pipeline and on_task"),
        ("noise[hide=on]", "the eraser did not show this task to the probe"),
    ],
)
def test_an_eraser_without_attention_runs_and_the_score_says_why_there_is_none(
    spec: str, reason: str, release: Path, tmp_path: Path
) -> None:
    done = erase_release(release, spec, tmp_path / "run", probe="cag", limit=1)
    assert (done.erased, done.failed, done.unread) == (1, {}, {FIRST: reason})
    assert note(tmp_path / "run")["probe"]["reason"] == reason
    assert not (tmp_path / "run" / "traces").exists()
    values, reasons = attention(tmp_path / "run")
    assert set(values.values()) == {None}
    assert reasons == dict.fromkeys(KEYS, reason)
    again = erase_release(release, spec, tmp_path / "run", probe="cag", limit=1)
    assert (again.erased, again.kept) == (0, 1)


@pytest.mark.parametrize("where", ["attach", "model", "trace"])
def test_a_failing_probe_costs_no_picture(
    where: str, release: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(10**6))

    def fail(*args: Any, **settings: Any) -> Any:
        if where != "model" or next(calls) == 5:
            raise RuntimeError("out of\nmemory")
        return real(*args, **settings)

    target, name = {
        "attach": (probe, "probe_pipeline"),
        "model": (probe, "read"),
        "trace": (probe, "trace_of"),
    }[where]
    real = getattr(target, name)
    monkeypatch.setattr(target, name, fail)
    other = tmp_path / "other"
    done = erase_release(release, "noise", other, probe="cag")
    assert (done.erased, done.failed) == (3, {})
    assert pictures(other) == pictures(run)
    reason = done.unread[FIRST]
    assert "RuntimeError: out of memory" in reason
    assert note(other)["probe"] == {
        "name": "cag", "sha256": None, "picture": None, "reason": reason,
    }  # fmt: skip
    assert attention(other)[1] == dict.fromkeys(KEYS, reason)
    assert len(done.unread) == (1 if where == "model" else 3)


def test_a_trace_that_cannot_be_drawn_is_scored(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> bytes:
        raise ValueError("no ink")

    monkeypatch.setattr(picture, "trace_picture", fail)
    done = erase_release(release, "noise", tmp_path / "run", probe="cag", limit=1)
    assert done.unread == {FIRST: "no picture of the trace: ValueError: no ink"}
    assert not attention(tmp_path / "run")[1]
    assert erase_release(release, "noise", tmp_path / "run", probe="cag", limit=1).kept == 1


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_a_missing_or_changed_trace_is_made_again(kind: str, release: Path, run: Path) -> None:
    before = tree(run)
    (run / "traces" / f"{FIRST}.{kind}").unlink()
    damaged = run / "traces" / f"scene-001-occluder.{kind}"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    done = erase_release(release, "noise", run, probe="cag")
    assert (done.erased, done.kept) == (2, 1)
    assert tree(run) == before


def test_traces_of_tasks_that_fail_are_forgotten(
    release: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "traces" / f"{FIRST}.npz").write_bytes(b"changed")

    def fail(self: object, task: object, seed: int) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("probed_eraser.NoiseEraser.erase", fail)
    done = erase_release(release, "noise", run, probe="cag")
    assert done.failed == {FIRST: "RuntimeError: broken"}
    assert "probe" not in note(run)
    assert not list((run / "traces").glob(f"{FIRST}.*"))


def test_a_run_with_a_probe_is_another_run(release: Path, run: Path, tmp_path: Path) -> None:
    erase_release(release, "noise", tmp_path / "bare", limit=1)
    assert "probe" not in note(tmp_path / "bare")
    with pytest.raises(BadInput, match=r"run \(probe none there, cag asked for\); name another"):
        erase_release(release, "noise", tmp_path / "bare", probe="cag")
    with pytest.raises(BadInput, match=r"run \(probe cag there, none asked for\); name another"):
        erase_release(release, "noise", run)
    values, reasons = attention(tmp_path / "bare")
    assert set(values.values()) == {None}
    assert reasons == dict.fromkeys(KEYS, "erased without --probe cag")
    old = read_json(tmp_path / "bare" / "run.json")
    del old["probe"]  # as runs were before there were probes
    write_json(tmp_path / "bare" / "run.json", old)
    assert erase_release(release, "noise", tmp_path / "bare", limit=1).kept == 1
    assert attention(tmp_path / "bare")[1] == reasons


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{release}", "--probe", "cga"], "--probe: expected cag, got 'cga'; did you mean cag?"),
        (["--image", "a.png", "--mask", "b.png", "--probe", "cag"], "--probe: goes with a release"),
    ],
)
def test_what_is_no_probe_is_one_line(
    words: list[str], message: str, release: Path, tmp_path: Path
) -> None:
    given = [word.format(release=release) for word in words]
    out = ["--eraser", "noise", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["erase", *given, *out])
    assert isinstance(done.exception, BadInput)
    assert str(done.exception).startswith(message)
    assert not (tmp_path / "out").exists()


def test_the_command_says_what_was_not_read(release: Path, tmp_path: Path) -> None:
    words = ["erase", str(release), "--eraser", "telea", "--out", str(tmp_path / "run")]
    done = CliRunner().invoke(app, [*words, "--probe", "cag"])
    assert done.exit_code == 0
    assert f"3 of these tasks lack a trace or its picture, such as {FIRST}: this" in done.stderr


def test_who_is_out_of_the_frame_keeps_the_place(release: Path, tmp_path: Path) -> None:
    make_pipeline(tmp_path / "sd", "sd")
    eraser = diffusion(str(tmp_path / "sd"), steps=1, side=64, size="crop", margin=0.0)
    assert isinstance(eraser, ProbedEraser)
    assert not isinstance(Boaster(), ProbedEraser)
    [task] = Release.open(release).tasks(frozenset([FIRST]))
    people = np.zeros_like(task.people)
    people[:8, :8], people[40:, 40:] = 1, 2
    task = replace(task, people=people, mask=people == 2, person_ids=("ann", "ben"), erase=("ben",))
    seen = eraser.prepare(task)
    assert not seen.people["ann"].any() and seen.people["ben"].any()
    regions = regions_of(seen)
    assert regions.groups[1:3] == ("ann", "ben")
    assert regions.erased == ("ben",)
    assert regions.query is not None and (regions.query == seen.hole).all()


def test_scores_follow_the_trace(run: Path) -> None:
    values, _ = attention(run)
    file = run / "scores" / "mild" / f"{FIRST}.json"
    stamp = file.stat().st_mtime_ns
    attention(run)
    assert file.stat().st_mtime_ns == stamp, "nothing changed: nothing is scored again"
    path = run / "traces" / f"{FIRST}.npz"
    good = path.read_bytes()
    path.write_bytes(good[:-1])
    assert set(attention(run)[1].values()) == {
        "the trace's file is not the one that the run wrote; erase this task again"
    }
    path.unlink()
    assert len(attention(run)[1]) == 4
    path.write_bytes(good)
    assert attention(run) == (values, {})
    noted = note(run)
    noted["probe"]["sha256"] = sha256_file(run / "results" / f"{FIRST}.png")
    shutil.copy(run / "results" / f"{FIRST}.png", path)
    write_json(run / "tasks" / f"{FIRST}.json", noted)
    assert "the trace: expected a trace of --probe cag" in attention(run)[1][KEYS[0]]


def measured(trace: Trace, make: Any = cag_measure, **rules: Any) -> float | str:
    measure: TraceMeasure = make(Settings(replace(PROTOCOL, **rules)))
    return measure.value(trace)


def test_the_protocol_names_the_part_and_the_threshold(release: Path, tmp_path: Path) -> None:
    for number, parts in enumerate(("uncond cond", "ground figures", "all")):
        erase_release(
            release, f'noise[parts="{parts}"]', tmp_path / str(number), probe="cag", limit=1
        )
    guided, own, only = (
        Trace.load(tmp_path / str(n) / "traces" / f"{FIRST}.npz") for n in range(3)
    )
    assert measured(guided) == guided.where(part="cond").summary().cag
    assert measured(only) == only.summary().cag
    assert measured(own) == "the protocol asks for part cond, there are ground, figures"
    assert measured(own, attention_part="ground") == own.where(part="ground").summary().cag
    refused = "the trace was taken with a threshold of 0.5, and the protocol asks for 0.7; erase"
    for make in (cag_measure, leakage_measure):
        assert str(measured(guided, make, attention_threshold=0.7)).startswith(refused)


def test_what_has_no_number_has_a_reason(run: Path) -> None:
    trace = Trace.load(run / "traces" / f"{FIRST}.npz")
    rows = len(trace)
    blind = {"cag": np.full(rows, np.inf), "leakage": np.zeros(rows)}
    infinite = replace(trace, columns={**trace.columns, **blind})
    assert "CAG is infinite" in str(measured(infinite))
    assert measured(infinite, leakage_measure) == 0
    nothing = {name: np.full(rows, np.nan) for name in ("cag", "leakage")}
    why = {"reason": np.array(["no token is a person"] * rows)}
    empty = replace(trace, columns={**trace.columns, **nothing, **why})
    for make in (cag_measure, leakage_measure):
        assert measured(empty, make) == "no token is a person"
        unread = replace(trace.where(layer="none"), skipped={"mid": "cross-attention"})
        assert measured(unread, make) == "no self-attention was read: cross-attention"


def test_a_board_of_runs_with_and_without_a_probe_builds(
    release: Path, run: Path, tmp_path: Path
) -> None:
    runs = [run]
    for spec in ("telea", "copy-input", "truth"):
        erase_release(release, spec, tmp_path / spec)
        runs.append(tmp_path / spec)
    score_runs(runs, workers=1)
    build_board(runs, tmp_path / "board")
    board = json.loads((tmp_path / "board" / "board.json").read_text())
    assert "cag/hole/raw" in json.dumps(board)
    page = (tmp_path / "board" / "index.html").read_text()
    assert "CAG" in page and "this eraser has no attention to read" in page


KILLABLE = """
import os
from mild_bench import plugins
os.sched_getaffinity = lambda process: {0}
plugins.ERASERS["noise"] = "probed_eraser:noise"
from mild_bench.cli import main
main()
"""


@pytest.mark.slow
def test_kill_9_at_a_random_moment_ends_with_the_same_bytes(tmp_path: Path) -> None:
    tasks = 4
    release = make_release(tmp_path / "release", tasks=tasks)
    erase_release(release, "noise", tmp_path / "undisturbed", probe="cag")
    run = tmp_path / "run"
    chance = random.Random(3)
    landed = _start_and_kill(release, run, 1, chance)
    assert 0 < landed < tasks, f"the kill came too late: {landed}"
    assert erase_release(release, "noise", run, probe="cag").kept == landed
    assert tree(run) == tree(tmp_path / "undisturbed")


def _start_and_kill(release: Path, run: Path, goal: int, chance: random.Random) -> int:
    """Kill the command soon after ``goal`` traces are there; returns how many tasks were done."""
    words = ["erase", str(release), "--eraser", "noise", "--probe", "cag", "--out", str(run)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        [sys.executable, "-c", KILLABLE, *words], cwd=Path(__file__).parent, **quiet
    ) as process:
        until = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < until and _traces(run) <= goal:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
    return len(list((run / "tasks").glob("[!.]*.json")))


def _traces(run: Path) -> int:
    return len(list((run / "traces").glob("[!.]*.npz")))
