"""Runs: resumable to the same bytes, one failure does not stop them, nothing is mixed up."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from make_release import make_release
from typer.testing import CliRunner

from mild_bench import plugins
from mild_bench.cli import app
from mild_bench.erasure import EraserCard, Erasure
from mild_bench.errors import BadInput
from mild_bench.images import Rgb, decode_png, encode_png
from mild_bench.release import Release
from mild_bench.run import peak
from mild_bench.run.erase import erase_release
from mild_bench.run.run_folder import RunFolder
from mild_bench.run.scored_run import ScoredRun
from mild_bench.store import sha256_file, write_json
from mild_bench.task import Task, task_seed

MAIN = "from mild_bench.cli import main; main()"
SEEN: list[Task] = []


@dataclass(frozen=True)
class Clumsy:
    """Does well, but for the tasks whose id holds ``on``, where it fails in the way of ``how``."""

    how: str
    on: str
    card: EraserCard = field(default_factory=lambda: EraserCard("clumsy", "1", "none"))

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        for task in tasks:
            SEEN.append(task)
            drawn = np.random.default_rng(task_seed(seed, task.task_id))
            good = drawn.integers(0, 256, task.input.shape, dtype=np.uint8)
            yield (
                self.answer(task, good) if self.on in task.task_id else Erasure(task.task_id, good)
            )

    def answer(self, task: Task, good: Rgb) -> Erasure:
        layer = np.zeros((*task.mask.shape, 4), np.uint8)
        ways: dict[str, Any] = {
            "size": lambda: Erasure(task.task_id, good[:-3]),
            "type": lambda: Erasure(task.task_id, good.astype(np.float32)),
            "id": lambda: Erasure("another", good),
            "layer": lambda: Erasure(task.task_id, good, {"../../stranger": layer}),
            "layers": lambda: Erasure(task.task_id, good, {task.person_ids[0]: layer}),
        }
        if self.how not in ways:
            raise RuntimeError("out of\nmemory on device 0")
        answer: Erasure = ways[self.how]()
        return answer


def clumsy(how: str = "raise", on: str = "-pair", batch: int = 1) -> Clumsy:
    return Clumsy(how, on, EraserCard("clumsy", "1", "none", batch=batch))


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(plugins.ERASERS, "clumsy", f"{__name__}:clumsy")
    SEEN.clear()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("data") / "release")


def tree(run: Path) -> dict[str, bytes]:
    """Everything in a run folder that two equal runs share."""
    files = [path for path in run.rglob("*") if path.is_file()]
    kept = [path for path in files if path.relative_to(run).parts[0] != "measured"]
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in kept}


def note(run: Path, task_id: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((run / "tasks" / f"{task_id}.json").read_text())
    return values


def test_a_run_folder_is_what_the_contract_says(release: Path, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "telea"
    summary = erase_release(release, "telea[radius=3]", run, seed=4)
    assert (summary.erased, summary.kept, summary.failed) == (6, 0, {})
    header = json.loads((run / "run.json").read_text())
    assert header["schema"] == 1
    assert header["eraser"]["name"] == header["spec"] == "telea[radius=3]"
    assert header["seed"] == 4
    assert (run / header["release"]["folder"]).resolve() == release.resolve()
    assert header["release"]["hash"] == Release.open(release).hash
    assert header["environment"]["numpy"] == np.__version__
    for task in Release.open(release).tasks():
        picture = run / "results" / f"{task.task_id}.png"
        assert decode_png(picture.read_bytes()).shape == task.input.shape
        assert note(run, task.task_id) == {
            "task_id": task.task_id,
            "status": "ok",
            "reason": None,
            "sha256": sha256_file(picture),
            "seed": task_seed(4, task.task_id),
        }
        spent = json.loads((run / "measured" / f"{task.task_id}.json").read_text())
        assert 0 < spent["seconds"] < 30
        assert 20 < spent["peak_mb"] < 20_000


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("raise", "RuntimeError: out of memory on device 0"),
        ("size", "expected a result of the input's size 96 x 64 x 3, got 96 x 61 x 3"),
        ("type", "expected a uint8 array, got float32"),
        ("id", "expected one answer a task, in order (['scene-003-pair']), got ['another']"),
        ("layer", "expected layers of person-0"),
    ],
)
def test_one_failing_task_is_recorded_and_the_run_goes_on(
    release: Path, tmp_path: Path, how: str, reason: str, batch: int
) -> None:
    run = tmp_path / "run"
    summary = erase_release(release, f"clumsy[how={how},batch={batch}]", run)
    assert list(summary.failed) == ["scene-003-pair"]
    assert summary.erased == 5
    failed = note(run, "scene-003-pair")
    assert failed["status"] == "failed"
    assert failed["reason"].startswith(reason)
    assert failed["sha256"] is None
    assert not (run / "results" / "scene-003-pair.png").exists()
    assert not (run / "measured" / "scene-003-pair.json").exists()
    assert len(list((run / "results").iterdir())) == 5


def test_only_failed_tasks_are_tried_again(release: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    erase_release(release, "clumsy", run)
    before = tree(run)
    SEEN.clear()
    summary = erase_release(release, "clumsy", run)
    assert [task.task_id for task in SEEN] == ["scene-003-pair"]
    assert (summary.erased, summary.kept, len(summary.failed)) == (0, 5, 1)
    assert tree(run) == before


def test_a_damaged_result_is_made_again(release: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    erase_release(release, "telea", run)
    before = tree(run)
    picture = run / "results" / "scene-001-occluder.png"
    picture.write_bytes(picture.read_bytes()[:100])
    (run / "results" / "scene-002-occluded.png").unlink()
    (run / "results" / ".scene-004-single.png.123.part").write_bytes(b"half")
    summary = erase_release(release, "telea", run)
    assert (summary.erased, summary.kept) == (2, 4)
    assert tree(run) == before


def test_batches_change_no_byte(release: Path, tmp_path: Path) -> None:
    for batch in (1, 4):
        erase_release(release, f"clumsy[how=layers,batch={batch}]", tmp_path / str(batch))
    one, four = tree(tmp_path / "1"), tree(tmp_path / "4")
    assert one.pop("run.json") != four.pop("run.json")  # the spec names the batch size
    assert one == four
    assert (tmp_path / "1" / "layers" / "scene-003-pair" / "person-0.png").is_file()


def test_limit_takes_the_first_tasks_and_a_later_run_the_rest(
    release: Path, tmp_path: Path
) -> None:
    erase_release(release, "blur", tmp_path / "whole")
    first = erase_release(release, "blur", tmp_path / "parts", limit=2)
    assert first.erased == 2
    second = erase_release(release, "blur", tmp_path / "parts")
    assert (second.erased, second.kept) == (4, 2)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")
    with pytest.raises(BadInput, match="limit must be at least 1, got 0"):
        erase_release(release, "blur", tmp_path / "none", limit=0)


def test_another_run_is_never_overwritten(release: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    erase_release(release, "telea", run)
    before = tree(run)
    other = make_release(tmp_path / "other", tasks=2, seed=9)
    with pytest.raises(BadInput, match=r"holds another run \(eraser telea .*, blur .* asked"):
        erase_release(release, "blur", run)
    with pytest.raises(BadInput, match=r"holds another run \(eraser telea .*telea\[radius=3\]"):
        erase_release(release, "telea[radius=3]", run)
    with pytest.raises(BadInput, match=r"holds another run \(seed 0 there, 1 asked for\)"):
        erase_release(release, "telea", run, seed=1)
    with pytest.raises(BadInput, match=r"holds another run \(release toy"):
        erase_release(other, "telea", run)
    assert tree(run) == before


def test_a_folder_with_other_files_or_a_file_is_refused(release: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"mine")
    with pytest.raises(BadInput, match="got a folder with other files"):
        erase_release(release, "telea", tmp_path / "photos")
    with pytest.raises(BadInput, match="expected a folder for the run, got a file"):
        erase_release(release, "telea", tmp_path / "photos" / "me.jpg")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["me.jpg"]


def test_a_release_whose_name_is_not_utf_8_is_one_line(release: Path, tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(release, odd)
    with pytest.raises(BadInput, match="not UTF-8; rename that file or folder") as caught:
        erase_release(odd, "telea", tmp_path / "run")
    assert "caf\\udce9" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_erasers_do_not_see_the_truth(release: Path, tmp_path: Path) -> None:
    erase_release(release, "clumsy[on=nothing]", tmp_path / "run")
    assert SEEN
    assert all(task.truth is None for task in SEEN)


def without_truth(folder: Path, *, mask: bytes | None = None) -> Path:
    """Take the truth from the second task of a fresh release; or give it another mask."""
    make_release(folder, tasks=3)
    path = folder / "data" / "tasks-test.parquet"
    rows = parquet.read_table(path).to_pylist()
    if mask is None:
        rows[1]["truth"] = None
    else:
        rows[1]["mask"] = {"bytes": mask, "path": "mask.png"}
    schema = parquet.read_schema(path)
    parquet.write_table(pa.Table.from_pylist(rows, schema=schema), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["data/tasks-test.parquet"] = sha256_file(path)
    write_json(folder / "manifest.json", manifest)
    return folder


def test_truth_fails_where_there_is_none(tmp_path: Path) -> None:
    release = without_truth(tmp_path / "release")
    summary = erase_release(release, "truth", tmp_path / "run")
    assert summary.erased == 2
    assert summary.failed == {"scene-001-occluder": "truth: this task has no truth to copy"}


@pytest.mark.parametrize(("value", "reason"), [(0, "all-black mask"), (255, "covers everything")])
def test_a_task_nobody_can_do_fails_alone(tmp_path: Path, value: int, reason: str) -> None:
    mask = encode_png(np.full((64, 96), value, np.uint8))
    release = without_truth(tmp_path / "release", mask=mask)
    summary = erase_release(release, "patchmatch", tmp_path / "run")
    assert summary.erased == 2
    assert reason in summary.failed["scene-001-occluder"]


def test_a_changed_release_is_refused(release: Path, tmp_path: Path) -> None:
    copy = tmp_path / "release"
    shutil.copytree(release, copy)
    path = copy / "data" / "tasks-test.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(BadInput, match=r"changed since it was frozen \(data/tasks-test.parquet\)"):
        erase_release(copy, "telea", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_says_what_failed_and_exits_with_1(release: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    done = CliRunner().invoke(app, ["erase", str(release), "--eraser", "clumsy", "--out", run])
    assert done.exit_code == 1
    assert "5 tasks erased" in done.stdout
    assert "1 of the run's tasks failed, such as scene-003-pair: RuntimeError" in done.stderr
    good = ["erase", str(release), "--eraser", "clumsy[on=nothing]", "--out", run + "2"]
    assert CliRunner().invoke(app, good).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{release}", "--image", "a.png", "--mask", "b.png"], "expected either RELEASE, or both"),
        (["--image", "a.png"], "expected either RELEASE, or both"),
        (["{release}", "--convert"], "--convert: goes with --image"),
        (["--image", "a.png", "--mask", "b.png", "--limit", "3"], "--limit: goes with a release"),
        (["{release}", "--limit", "-1"], "limit must be at least 1, got -1"),
        (["no-such-folder"], "expected a release folder with manifest.json"),
    ],
)
def test_what_does_not_go_together_is_refused(
    release: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    words = [word.format(release=release) for word in arguments]
    out = ["--eraser", "telea", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["erase", *words, *out])
    assert isinstance(done.exception, BadInput)
    assert message in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_full_disk_keeps_what_is_done(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase_release(release, "telea", tmp_path / "undisturbed")
    run = tmp_path / "run"
    calls = iter(range(1000))
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if next(calls) >= 8:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(BadInput, match=r"No space left on device.*run the same command again"):
            erase_release(release, "telea", run)
    assert not list(run.rglob(".*.part"))
    done = [path for path in (run / "tasks").iterdir() if json.loads(path.read_text())]
    assert 1 <= len(done) < 6
    assert erase_release(release, "telea", run).kept == len(done)
    assert tree(run) == tree(tmp_path / "undisturbed")


def test_kill_9_at_random_moments_ends_with_the_same_bytes(tmp_path: Path) -> None:
    tasks = 10
    release = make_release(tmp_path / "release", tasks=tasks, size=(96, 96))
    erase_release(release, "patchmatch", tmp_path / "undisturbed")
    run = tmp_path / "run"
    words = ["erase", str(release), "--eraser", "patchmatch", "--out", str(run)]
    chance = random.Random(5)
    landed = [_start_and_kill(words, run, goal, chance) for goal in (0, 3, 6)]
    assert sum(0 < done < tasks for done in landed) >= 2, f"the kills came too late: {landed}"
    summary = erase_release(release, "patchmatch", run)
    assert summary.kept >= max(landed)
    assert tree(run) == tree(tmp_path / "undisturbed")


def _start_and_kill(words: list[str], run: Path, goal: int, chance: random.Random) -> int:
    """Kill the command soon after ``goal`` tasks are done; returns how many were done then."""
    command = [sys.executable, "-c", MAIN, *words]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < until and _done(run) <= goal:
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
    return _done(run)


def _done(run: Path) -> int:
    return len(list((run / "tasks").glob("[!.]*.json")))


@pytest.mark.parametrize("kernel", [True, False])
def test_peak_memory_is_that_of_the_block(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not kernel:
        monkeypatch.setattr(peak, "CLEAR", Path("/no/such/file"))
    with peak.measured() as before:
        pass
    with peak.measured() as large:
        block = np.ones(200_000_000, np.uint8)
        time.sleep(0.05)
        del block
    with peak.measured() as after:
        pass
    assert large.peak_mb > before.peak_mb + 180
    assert after.peak_mb < large.peak_mb - 150
    assert large.seconds >= 0.05


def test_the_gpu_s_peak_is_noted_where_one_was_used(tmp_path: Path) -> None:
    picture = Erasure("one", np.zeros((4, 4, 3), np.uint8))
    for cost, there in ((peak.Cost(1, 2), False), (peak.Cost(1, 2, 3.25), True)):
        RunFolder(tmp_path).keep(picture, cost, seed=0)
        run = ScoredRun(tmp_path, {}, "mild")
        want = {"seconds": 1.0, "peak_mb": 2.0, **({"gpu_peak_mb": 3.25} if there else {})}
        assert run.measured("one") == want


@pytest.mark.gpu
def test_gpu_peak_memory_is_that_of_the_block() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    small = torch.zeros(1, device="cuda")
    with peak.measured() as before:
        pass
    with peak.measured() as large:
        block = torch.zeros(200_000_000, dtype=torch.uint8, device=small.device)
        del block
    assert before.gpu_peak_mb is not None and large.gpu_peak_mb is not None
    assert large.gpu_peak_mb > before.gpu_peak_mb + 180
