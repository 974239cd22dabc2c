"""The weights in the package: what is there, where it is from, and that they erase as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_release import make_release

from mild_bench.erasers.mild import WEIGHTS, package_card
from mild_bench.mild.picture import with_rim
from mild_bench.plugins import load_eraser
from mild_bench.release import Release
from mild_bench.run.train_settings import read_settings
from mild_bench.task import Task

LIMIT_MB = 40


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = make_release(tmp_path_factory.mktemp("release") / "r", tasks=2, size=(96, 96))
    return next(iter(Release.open(folder).tasks()))


def test_they_are_small_and_safetensors_only() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LIMIT_MB * 10**6
    assert {path.suffix for path in files} <= {
        ".safetensors",
        ".json",
        ".md",
        ".yaml",
        ".jsonl",
        ".png",
    }


def test_they_are_what_the_preset_trains() -> None:
    """Config, logs and curves are those of ``mild-bench train tiny-cpu``."""
    trained = read_settings(str(WEIGHTS / "training" / "config.yaml"))
    assert trained == read_settings("tiny-cpu")
    for stage in trained.stages:
        lines = (WEIGHTS / "training" / f"{stage.stage}.jsonl").read_text().splitlines()
        log = [json.loads(line) for line in lines]
        losses = [line["loss"] for line in log if "loss" in line]
        assert log[-1]["step"] == stage.steps
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
        assert (WEIGHTS / "training" / f"{stage.stage}.png").stat().st_size > 5000
    readings = [line for line in log if "cag" in line]
    assert len(readings) >= 4 and readings[-1]["cag"] > readings[0]["cag"]


def test_the_card_tells_licence_and_data() -> None:
    card = package_card()
    assert card == load_eraser("mild").card
    assert card.name == "mild" and "CC-BY-SA-4.0" in card.licence
    assert card.trained_on == ("mild-bench-pack-train",)


def test_it_erases_out_of_the_box(task: Task) -> None:
    eraser: Any = load_eraser("mild[steps=2]")
    first, again = (next(iter(eraser([task], seed=3))) for _ in range(2))
    assert np.array_equal(first.result, again.result)
    wide = with_rim(task.mask, eraser.settings.dilate)
    assert np.array_equal(first.result[~wide], task.input[~wide])
    assert not np.array_equal(first.result[task.mask], task.input[task.mask])
    seen = [name for k, name in enumerate(task.person_ids, 1) if (task.people == k).any()]
    assert set(first.layers) == {name for name in task.erase if name in seen}
    for name, layer in first.layers.items():
        shown = task.people == task.person_ids.index(name) + 1
        assert (layer[shown, 3] == 255).all()
        assert np.array_equal(layer[shown, :3], task.input[shown])


def test_spatial_attention_still_prefers_the_background() -> None:
    """Training moved the biases, but left most of the 0.5 nats that they began with."""
    from safetensors.torch import load_file

    alphas = load_file(WEIGHTS / "mild" / "sma.safetensors")
    assert len(alphas) > 0
    assert torch.stack([one.float()[:, 2].mean() for one in alphas.values()]).mean() > 0.4
    assert all(torch.isfinite(one).all() for one in alphas.values())
    assert all(one.float()[:, 0].abs().max() > 0.01 for one in alphas.values())


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    from mild_bench.errors import BadInput

    with pytest.raises(BadInput, match=r"without model_index\.json"):
        load_eraser(f"mild[folder={tmp_path}]")
