"""Training on scenes of one's own: what is read from a workspace, and what is refused."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mild_bench.curation.composing.compose import compose
from mild_bench.curation.composing.pool import read_pooled
from mild_bench.curation.composing.pool_workspace import fill_from, scaled, train_scenes
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.curation.ledger import Decision, record
from mild_bench.curation.scene_folder import read_scene, read_scenes, scene_folders, write_scene
from mild_bench.errors import BadInput
from mild_bench.mild.train.augment import middle
from mild_bench.run.train import train
from mild_bench.run.train_data import Examples
from mild_bench.run.train_record import read_log
from mild_bench.run.train_settings import DataSettings, TrainSettings, read_settings
from mild_bench.scene import Scene
from mild_bench.store import read_json

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "training.md").read_text()
FIRST, MINE = (yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", DOCS, re.S))
STAGES = ("autoencoder", "base", "layers")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def composed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two composed scenes, and one written as the docs say, wider than high."""
    workspace = tmp_path_factory.mktemp("own") / "mine"
    recipe = read_recipe(find_recipe("mild-mini-train"), scenes=2)
    compose(recipe.model_copy(update={"size": 160}), workspace)
    write_as_documented(workspace)
    return workspace


@pytest.fixture
def workspace(composed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(composed, tmp_path / "mine"))


def write_as_documented(workspace: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", DOCS, re.S)
    rng = np.random.default_rng(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace.parent)
        place = cv2.resize(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8), (240, 160))
        Image.fromarray(place).save("garden.png")
        for left, name in ((60, "anna"), (90, "ben")):
            person = np.zeros((160, 240, 4), np.uint8)
            person[30:140, left : left + 50] = (*rng.integers(0, 256, 3), 255)
            Image.fromarray(person).save(f"{name}.png")
        exec(code, {})


def config(tmp_path: Path, workspace: Path, **data: Any) -> str:
    stages = [
        {**stage, "steps": 2, "log_every": 1, "probe_every": 2, "warmup": 0}
        for stage in FIRST["stages"]
    ]
    values = {"workspace": str(workspace), "size": 128, "people": 1, **data}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**FIRST, "data": values, "stages": stages}))
    return str(path)


def own(workspace: Path) -> Scene:
    return read_scene(workspace / "scenes" / "garden-1")[0]


def test_every_stage_trains_on_a_workspace(workspace: Path, tmp_path: Path) -> None:
    path = config(tmp_path, workspace)
    assert train(path, tmp_path / "out", cpu=True).pipeline
    for stage in STAGES:
        lines = [line for line in read_log(tmp_path / "out" / stage) if "loss" in line]
        assert len(lines) == 2 and all(np.isfinite(line["loss"]) for line in lines)
    card = (tmp_path / "out/pipeline/README.md").read_text()
    own_hash = read_json(tmp_path / "out/train.json")["scenes"]
    assert own_hash in card and "mild-bench-pack" not in card and "mild-mini" not in card
    credits = {line for scene, _ in read_scenes(workspace) for line in scene.credits}
    assert credits and all(f"- {line}" in card for line in credits)
    again = read_settings(str(tmp_path / "out/pipeline/training/config.yaml"))
    assert again.hash == read_settings(path).hash
    pooled = [read_pooled(file) for file in sorted((tmp_path / "out/scenes").glob("*.npz"))]
    assert {one.scene_id for one in pooled} == {f.name for f in scene_folders(workspace)}
    # A training goes on when its scenes moved, and only with them.
    moved = workspace.rename(tmp_path / "moved")
    path = config(tmp_path, moved)
    assert train(path, tmp_path / "out", cpu=True).pipeline
    scene = own(moved)
    write_scene(moved, replace(scene, plate=255 - scene.plate), {})
    with pytest.raises(BadInput, match="holds a training on other scenes"):
        train(path, tmp_path / "out", cpu=True)


def test_scenes_of_the_test_part_are_refused(workspace: Path, tmp_path: Path) -> None:
    write_scene(workspace, replace(own(workspace), scene_id="held-1", split="test"), {})
    with pytest.raises(BadInput, match=r"split train only, got 1 of others \(split test: held-1"):
        train(config(tmp_path, workspace), tmp_path / "out", cpu=True)
    assert not (tmp_path / "out").exists()
    record(workspace, [Decision("held-1", "rejected", "of the test part", "person:here")])
    assert "held-1" not in [folder.name for folder in train_scenes(workspace).folders]


def test_what_cannot_be_learnt_from_is_said(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a workspace with scenes, found none"):
        train(config(tmp_path, tmp_path / "nothing"), tmp_path / "out", cpu=True)
    with pytest.raises(BadInput, match=r"data: .*leave out recipe and scenes"):
        read_settings(config(tmp_path, workspace, recipe="mine.yaml", scenes=3))
    scenes = train_scenes(workspace)
    fill_from(scenes, tmp_path / "pool", side=128, workers=0)
    with pytest.raises(BadInput, match="another recipe or version"):
        fill_from(scenes, tmp_path / "pool", side=144, workers=0)
    write_scene(workspace, replace(own(workspace), truth_kind="masks-only"), {})
    with pytest.raises(BadInput, match=r"garden-1: expected .* got masks only; reject it"):
        fill_from(train_scenes(workspace), tmp_path / "other", side=128, workers=0)


def test_a_pool_holds_the_scenes_and_their_hash_their_pictures(
    workspace: Path, tmp_path: Path
) -> None:
    scenes = train_scenes(workspace)
    files = fill_from(scenes, tmp_path / "pool", side=128, workers=0)
    for file, (scene, _) in zip(files, read_scenes(workspace), strict=True):
        pooled, small = read_pooled(file), scaled(scene, 128)
        assert min(pooled.plate.shape[:2]) == 128
        assert np.array_equal(pooled.recompose(), small.recompose())
        assert [one.layer_id for one in pooled.layers] == [one.layer_id for one in scene.layers]
    assert train_scenes(Path(shutil.copytree(workspace, tmp_path / "copy"))).hash == scenes.hash
    picture = workspace / "scenes" / "garden-1" / "layers" / "anna.png"
    picture.write_bytes(picture.read_bytes() + b"\n")
    assert train_scenes(workspace).hash != scenes.hash


@settings(max_examples=8, deadline=None)
@given(side=st.integers(96, 200))
def test_scaling_a_scene_scales_its_picture(composed: Path, side: int) -> None:
    for scene, _ in read_scenes(composed):
        small, whole = scaled(scene, side), scene.recompose()
        high, wide = small.plate.shape[:2]
        assert min(high, wide) == min(side, *scene.plate.shape[:2])
        assert wide / high == pytest.approx(whole.shape[1] / whole.shape[0], rel=0.02)
        expected = cv2.resize(whole, (wide, high), interpolation=cv2.INTER_AREA)
        gap = np.abs(small.recompose().astype(int) - expected)
        assert gap.mean() < 1.5
        for before, after in zip(scene.people, small.people, strict=True):
            share = high * wide / (whole.shape[0] * whole.shape[1])
            assert after.amodal.sum() == pytest.approx(before.amodal.sum() * share, rel=0.1)
            joints = [(x, y) for x, y, seen in after.keypoints if seen == 2]
            on = [after.amodal[min(int(y), high - 1), min(int(x), wide - 1)] for x, y in joints]
            assert not joints or np.mean(on) > 0.6


def test_readings_are_of_squares(composed: Path) -> None:
    wide = own(composed)
    square = middle(wide)
    assert np.array_equal(square.recompose(), wide.recompose()[:, 40:200])
    assert middle(square) is square


def test_only_own_photographs_are_learnt_from(workspace: Path, tmp_path: Path) -> None:
    """A place of one colour, and nobody: every picture of the autoencoder has one colour."""
    for folder in scene_folders(workspace):
        shutil.rmtree(folder)
    flat = np.full((150, 200, 3), 90, np.uint8)
    write_scene(workspace, Scene("flat", "train", "flat", "exact", flat, ()), {})
    files = fill_from(train_scenes(workspace), tmp_path / "pool", side=128, workers=0)
    whole = TrainSettings(**FIRST)
    data = DataSettings(workspace=str(workspace), size=128)
    for stage in whole.stages[:2]:
        examples = Examples(tuple(files), stage, data, whole.model, 0)
        for number in range(12):
            made = examples[number]
            one = made if isinstance(made, np.ndarray) else made[0].truth.float().numpy()
            axes = (0, 1) if isinstance(made, np.ndarray) else (1, 2)
            assert np.ptp(one, axis=axes).max() <= 1e-3


def test_the_documented_config_is_one() -> None:
    assert TrainSettings(**MINE).data.workspace == "mine"
