"""Several processes: they train what one would, only the first writes, and scores add up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import multiprocessing

from mild_bench.metrics.cag.trace import VALUES, Trace
from mild_bench.run.train_record import read_log

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "training.md").read_text()
FIRST: dict[str, Any] = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", DOCS, re.S)[0])
STAGES = ("autoencoder", "base", "layers")
STEPS = 2


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(path: Path, *, accumulate: int) -> str:
    stages = [
        {**stage, "steps": STEPS, "batch": 1, "accumulate": accumulate, "log_every": 1,
         "checkpoint_every": 1, "probe_every": 2}
        for stage in FIRST["stages"]
    ]  # fmt: skip
    path.write_text(yaml.safe_dump({**FIRST, "stages": stages}))
    return str(path)


def launch(*arguments: object) -> str:
    """Run `mild-bench train` in two processes, by what `accelerate launch` runs on many GPUs."""
    command = [
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0", "-m", "mild_bench", "train", *map(str, arguments), "--cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_two_processes_train_what_one_does_with_twice_the_passes(tmp_path: Path) -> None:
    from mild_bench.mild.pipeline import MildPipeline
    from mild_bench.run.train import train

    alone, shared, pool = (tmp_path / name for name in ("alone", "shared", "scenes"))
    train(config(tmp_path / "one.yaml", accumulate=2), alone, pool=pool, cpu=True)
    two = config(tmp_path / "two.yaml", accumulate=1)
    said = launch(two, "--out", shared, "--scenes", pool, "--minutes", "0.1")  # stops somewhere
    assert re.fullmatch(rf"\w+: \d of {STEPS} steps\n", said)
    said = launch(two, "--out", shared, "--scenes", pool)
    assert said.splitlines() == [f"layers: {STEPS} of {STEPS} steps", str(shared / "pipeline")]
    for stage in STAGES:
        same_losses(alone / stage, shared / stage)
        same_moments(alone / stage, shared / stage)
    writers = {path.name.split(".")[-2] for path in shared.rglob("events.out.tfevents.*")}
    assert 1 <= len(writers) <= 2  # the first process of each launch
    assert not list(shared.rglob("*.part"))
    assert MildPipeline.from_pretrained(shared / "pipeline").network.trainable()


def same_losses(one: Path, other: Path) -> None:
    lines, others = (
        [{k: v for k, v in line.items() if k != "steps_per_second"} for line in read_log(folder)]
        for folder in (one, other)
    )
    assert [line["step"] for line in lines if "loss" in line] == [1, 2]
    assert len(lines) == len(others)
    for line, its in zip(lines, others, strict=True):
        assert line == pytest.approx(its, rel=1e-3, abs=1e-5)


def same_moments(one: Path, other: Path) -> None:
    """The optimiser's first moments: they are linear in the gradients, as weights are not."""
    states = [
        torch.load(folder / "checkpoint" / "optimiser.pt", weights_only=True)["state"]
        for folder in (one, other)
    ]
    assert states[0].keys() == states[1].keys()
    largest = max(float(state["exp_avg"].norm()) for state in states[0].values())
    for number, state in states[0].items():
        gap = float((state["exp_avg"] - states[1][number]["exp_avg"]).norm())
        assert gap <= 0.01 * float(state["exp_avg"].norm()) + 1e-5 * largest, number


# --- metrics


def _scores(process: int, processes: int) -> dict[str, float]:
    """Score every ``processes``-th of six pictures, and return what all of them give."""
    from mild_bench.metrics.accumulate import HolePsnr, Residue
    from mild_bench.metrics.cag.accumulate import AttentionGap, Leakage

    random = np.random.default_rng(0)
    truth, result, source = (torch.from_numpy(random.random((6, 3, 16, 16))) for _ in range(3))
    mask = torch.from_numpy(random.random((6, 16, 16)) > 0.6)
    mask[2] = False  # has no score
    mine = slice(process, None, processes)
    psnr, left, gap, leak = HolePsnr(), Residue(), AttentionGap(), Leakage()
    psnr.update(result[mine], truth[mine], mask[mine])
    left.update(result[mine], truth[mine], source[mine], mask[mine])
    traces = [_trace(leakage) for leakage in random.uniform(0.1, 0.9, 5)]
    for trace in [*traces, _trace(float("nan"))][mine]:
        gap.update(trace)
        leak.update(trace)
    return {type(one).__name__: float(one.compute()) for one in (psnr, left, gap, leak)}


def _trace(leakage: float) -> Trace:
    """Return a trace of one row; one without a number has no value."""
    row = {"leakage": leakage, "cag": np.log1p(-leakage) - np.log(leakage)}
    numbers = {name: np.array([row.get(name, np.nan)]) for name in VALUES}
    columns = {"layer": np.array(["l"]), "step": np.array([0]), "reason": np.array(["nobody"])}
    return Trace({**columns, **numbers}, np.zeros((1, 2, 2)), ("background", "p1"), {})


def _join(process: int, meeting: str, out: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{meeting}", rank=process, world_size=2)
    scores = _scores(process, 2)
    torch.save(scores, f"{out}-{process}.pt")
    torch.distributed.destroy_process_group()


def test_metrics_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    multiprocessing.spawn(_join, args=(str(tmp_path / "meet"), str(tmp_path / "scores")), nprocs=2)
    alone = _scores(0, 1)
    assert len(alone) == 4 and all(np.isfinite(value) for value in alone.values())
    for process in (0, 1):
        assert torch.load(tmp_path / f"scores-{process}.pt") == pytest.approx(alone, rel=1e-12)
