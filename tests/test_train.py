"""Training: nothing of the test part, exact examples, exact resumption, every preset for real."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pipelines import _vae, make_pipeline

from mild_bench.curation.composing.compose import sketch_scene
from mild_bench.curation.composing.pack import load_pack, plate_picture
from mild_bench.curation.composing.pool import fill_pool, read_pooled, training_plates
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.errors import BadInput, MissingPart
from mild_bench.mild.latents import Codec
from mild_bench.mild.train.augment import (
    Augmentation,
    Light,
    hue_and_saturation,
    in_sight,
    vary,
)
from mild_bench.mild.train.codec import RememberingCodec
from mild_bench.mild.train.ema import RunningMean
from mild_bench.mild.train.holes import random_hole
from mild_bench.mild.train.layered import alpha_loss
from mild_bench.mild.train.objective import Denoising
from mild_bench.mild.train.samples import Sizes, erase_samples, person_sample
from mild_bench.run.train import train
from mild_bench.run.train_data import Examples, batches, find_scenes
from mild_bench.run.train_record import read_log
from mild_bench.run.train_settings import DataSettings, TrainSettings, read_settings
from mild_bench.scene import Scene

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "training.md").read_text()
CONFIG: dict[str, Any] = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", DOCS, re.S)[0])
SIZES = Sizes(64, 32, 0.35)
STAGES = ("autoencoder", "base", "layers")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scenes of the docs' first try."""
    folder = tmp_path_factory.mktemp("train") / "scenes"
    find_scenes(DataSettings(**CONFIG["data"]), folder, seed=0, workers=0)
    return folder


@pytest.fixture(scope="session")
def scenes(pool: Path) -> list[Scene]:
    return [read_pooled(file) for file in sorted(pool.glob("*.npz"))]


def config(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, **changes}))
    return str(path)


def short(steps: int, **more: Any) -> list[dict[str, Any]]:
    return [{**stage, "steps": steps, "log_every": 1, **more} for stage in CONFIG["stages"]]


def losses(out: Path, stage: str) -> list[dict[str, float]]:
    lines = [line for line in read_log(out / stage) if "loss" in line]
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]


# --- data


def test_nothing_of_the_test_part_is_learnt_from(scenes: list[Scene]) -> None:
    held = load_pack("test")
    used = {asset for scene in scenes for asset in scene.provenance["assets"]}  # type: ignore[attr-defined]
    assert not used & {asset.asset_id for asset in (*held.people, *held.props)}
    subjects = {layer.subject for scene in scenes for layer in scene.layers}
    assert subjects and not subjects & {asset.subject for asset in (*held.people, *held.props)}
    assert not {scene.group for scene in scenes} & {plate.group for plate in held.plates}
    kept_back = {plate_picture(plate).tobytes() for plate in held.plates}
    assert not kept_back & {plate.tobytes() for plate in training_plates()}


def test_a_recipe_of_the_test_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected one of the train part, got mild-mini-test"):
        find_scenes(DataSettings(recipe="mild-mini-test"), tmp_path / "p", seed=0, workers=0)
    assert not (tmp_path / "p").exists()


def test_a_pool_is_what_composing_gives_and_goes_on_where_it_was(tmp_path: Path) -> None:
    recipe = read_recipe(find_recipe("mild-mini-train"), scenes=1)
    recipe = recipe.model_copy(update={"size": 128})
    (first,) = fill_pool(recipe, tmp_path / "p", workers=1)
    before = first.stat().st_mtime_ns
    files = fill_pool(recipe.model_copy(update={"scenes": 2}), tmp_path / "p", workers=1)
    assert len(files) == 2 and files[0].stat().st_mtime_ns == before
    for number, file in enumerate(files):
        pooled, composed = read_pooled(file), sketch_scene(recipe, number, load_pack("train"))
        assert (pooled.recompose() == composed.recompose()).all()
        for ours, theirs in zip(pooled.layers, composed.layers, strict=True):
            assert (ours.amodal == theirs.amodal).all()
            assert ours.keypoints == theirs.keypoints
            assert ours.parts is theirs.parts or (ours.parts == theirs.parts).all()
    with pytest.raises(BadInput, match="another recipe"):
        fill_pool(recipe.model_copy(update={"seed": 1}), tmp_path / "p", workers=1)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_varied_scenes_stay_exact(scenes: list[Scene], seed: int) -> None:
    rng = np.random.default_rng(seed)
    scene = vary(rng, scenes[seed % len(scenes)], Augmentation())
    assert scene.recompose().shape == scene.plate.shape
    for person in in_sight(scene):
        joints = np.array([(x, y) for x, y, seen in person.keypoints if seen == 2], int)
        if len(joints) > 5:
            on = person.amodal[joints[:, 1], joints[:, 0]]
            assert on.mean() > 0.6, "joints left their person"


def test_mirroring_keeps_left_and_right(scenes: list[Scene]) -> None:
    """A joint of the left side of a mirrored person is the right one's place, mirrored."""
    plain = vary(np.random.default_rng(0), scenes[0], Augmentation(0, 1, flip=False))
    for seed in range(20):
        turned = vary(np.random.default_rng(seed), scenes[0], Augmentation(0, 1, flip=True))
        if (turned.plate != plain.plate).any():
            break
    assert (turned.plate[:, ::-1] == plain.plate).all()
    wide = plain.plate.shape[1]
    left_hip, right_hip = turned.people[0].keypoints[11], plain.people[0].keypoints[12]
    assert left_hip[0] == pytest.approx(wide - right_hip[0])
    assert left_hip[1:] == right_hip[1:]


@settings(max_examples=30, deadline=None)
@given(angle=st.floats(-3.1, 3.1), saturation=st.floats(0, 2), grey=st.integers(0, 255))
def test_hue_and_saturation_leave_greys_alone(angle: float, saturation: float, grey: int) -> None:
    """A turn keeps each colour's mean and its distance from grey, but for the saturation."""
    mix = hue_and_saturation(angle, saturation)
    assert mix @ np.full(3, grey) == pytest.approx([grey] * 3, abs=1e-2)
    colour = np.array([200.0, 120, 40])
    turned = mix @ colour
    assert turned.mean() == pytest.approx(colour.mean(), abs=1e-3)
    spread = np.linalg.norm(colour - colour.mean())
    assert np.linalg.norm(turned - turned.mean()) == pytest.approx(saturation * spread, abs=1e-2)
    back = hue_and_saturation(-angle, 1) @ hue_and_saturation(angle, 1)
    assert back == pytest.approx(np.eye(3), abs=1e-5)


def test_light_shows_colours_that_the_photographs_lack() -> None:
    """A third of a green picture's lights make it red or blue; none does at strength 0."""
    green = np.full((2, 2, 3), (40, 160, 60), np.uint8)
    rng = np.random.default_rng(0)
    lit = [Light.random(rng, 1).on(green)[0, 0] for _ in range(300)]
    assert 0.2 < np.mean([one.argmax() != 1 for one in lit]) < 0.6
    assert (Light.random(rng, 0).on(green) == green).all()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_samples_tell_the_truth(scenes: list[Scene], seed: int) -> None:
    """What a branch sees is in its truth already, and a person's truth is grey without alpha."""
    rng = np.random.default_rng(seed)
    background, *people = erase_samples(rng, scenes[seed % len(scenes)], SIZES, people=3)
    assert background.alpha is None and 0 < background.branch.unknown.float().mean() < 1
    grey = background.branch.picture[:, background.branch.unknown]
    assert (grey == 0.5).all()
    for sample in people:
        assert sample.alpha is not None
        empty = sample.alpha == 0
        assert (sample.truth[:, empty] - 0.5).abs().max() < 1e-3
        near = torch.nn.functional.max_pool2d(sample.branch.unknown[None].float(), 5, 1, 2)[0]
        known = (near == 0) & (sample.alpha > 0.999)  # at the rim what is seen fades to grey
        if known.any():
            gap = (sample.truth - sample.branch.picture)[:, known].abs().float()
            assert gap.max() < 0.02
        assert sample.branch.labels.max() <= 1


def test_erased_people_are_gone_and_the_rest_is_there(scenes: list[Scene]) -> None:
    changes = []
    for seed in range(8):
        sample = erase_samples(np.random.default_rng(seed), scenes[seed % 6], SIZES, people=0)[0]
        hole = sample.branch.unknown
        gap = (sample.truth - sample.branch.picture).abs().float().mean(dim=0)
        changes.append(float(gap[~hole].mean()))
    assert max(changes) < 0.05  # shadows outside of masks that leave them out


def test_a_completed_person_is_larger_than_what_shows(scenes: list[Scene]) -> None:
    hidden = 0
    for scene in scenes:
        for person in in_sight(scene):
            sample = person_sample(np.random.default_rng(0), scene, person, SIZES)
            assert sample.alpha is not None
            shown = float((~sample.branch.unknown).float().mean())
            hidden += float(sample.alpha.float().mean()) > shown + 0.01
    assert hidden


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), side=st.sampled_from([32, 64, 96]))
def test_holes_leave_something(seed: int, side: int) -> None:
    hole = random_hole(np.random.default_rng(seed), side, [np.ones((9, 4), bool)])
    assert hole.shape == (side, side) and 0.01 < hole.mean() < 0.7


@pytest.mark.parametrize("stage", STAGES)
def test_examples_are_functions_of_their_number(pool: Path, stage: str) -> None:
    whole = TrainSettings(**CONFIG)
    chosen = next(one for one in whole.stages if one.stage == stage)
    files = tuple(sorted(pool.glob("*.npz")))
    examples = Examples(files, chosen, whole.data, whole.model, 3)

    def run(start: int, process: int, processes: int, workers: int) -> list[bytes]:
        found = batches(
            examples, start=start, stop=3, process=process, processes=processes, workers=workers
        )
        return [_bytes(one) for batch in found for one in batch]

    alone = run(0, 0, 1, 0)
    assert len(set(alone)) == len(alone) == 6
    assert run(1, 0, 1, 0) == alone[2:]
    shared = [run(0, process, 2, 0) for process in (0, 1)]
    assert shared[0][:2] + shared[1][:2] == alone[:4]
    if stage == "layers":
        assert run(0, 0, 1, 1) == alone


def _bytes(example: Any) -> bytes:
    if isinstance(example, np.ndarray):
        return example.tobytes()
    return b"".join(s.truth.numpy().tobytes() + s.branch.picture.numpy().tobytes() for s in example)


# --- objectives


@pytest.mark.parity
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_forward_process_is_the_schedulers(kind: str) -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type=kind, beta_schedule="scaled_linear")
    ours = Denoising(scheduler)
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(5, 4, 8, 8, generator=generator) for _ in range(2))
    steps = ours.timesteps(5, generator)
    expected = scheduler.add_noise(latents, noise, steps)
    assert torch.allclose(ours.noisy(latents, noise, steps), expected, atol=1e-5)
    target = {
        "epsilon": noise, "sample": latents,
        "v_prediction": scheduler.get_velocity(latents, noise, steps),
    }[kind]  # fmt: skip
    found = ours.target(latents, noise, steps)
    assert torch.allclose(found, target, atol=1e-5)
    hole = torch.ones(5, 1, 8, 8)
    assert float(ours.loss(found, found, steps, hole)) == 0
    assert float(ours.loss(found + 1, found, steps, hole)) > 0


def test_pure_noise_is_learnt_from_and_holes_count_more() -> None:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    ours = Denoising(scheduler, outside=0.25)
    last = torch.tensor([999])
    one = torch.zeros(1, 4, 4, 4)
    hole = torch.zeros(1, 1, 4, 4)
    hole[..., :2] = 1
    inside, outside = one.clone(), one.clone()
    inside[..., :2], outside[..., 2:] = 1, 1
    assert float(ours.loss(inside, one, last, hole)) > 0.5
    ratio = ours.loss(inside, one, last, hole) / ours.loss(outside, one, last, hole)
    assert float(ratio) == pytest.approx(4)
    with pytest.raises(BadInput, match="alphas_cumprod"):
        Denoising(type("Flow", (), {"config": scheduler.config})())


def test_timesteps_spread_over_all_levels() -> None:
    from diffusers import DDIMScheduler

    steps = Denoising(DDIMScheduler()).timesteps(10, torch.Generator().manual_seed(1))
    assert sorted(int(step) // 100 for step in steps) == list(range(10))


def test_alpha_loss_knows_the_answer() -> None:
    alpha = (torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    right = alpha_loss((alpha * 2 - 1) * 20, alpha)
    assert float(right) < 0.01 < float(alpha_loss(torch.zeros_like(alpha), alpha))
    assert float(alpha_loss((1 - alpha * 2) * 20, alpha)) > 5


def test_the_running_mean_is_one_of_the_weights() -> None:
    weight = torch.nn.Parameter(torch.tensor([0.0]))
    mean = RunningMean({"w": weight}, 0.9)
    for step in range(200):
        weight.data.fill_(float(step >= 100))
        mean.update(step)
    assert 0.99 < float(mean.means["w"]) < 1
    with mean.in_place():
        assert float(weight.detach()) == float(mean.means["w"])
    assert float(weight.detach()) == 1


@pytest.mark.parity
def test_the_perceptual_loss_is_lpips_and_has_gradients() -> None:
    from mild_bench.images import to_bchw
    from mild_bench.metrics.perceptual import load_lpips
    from mild_bench.metrics.view import Settings
    from mild_bench.protocol import find_protocol
    from mild_bench.run.train_perceptual import PerceptualDistance

    try:
        lpips, _ = load_lpips("alex", Settings(find_protocol("mild")))
    except MissingPart as missing:
        pytest.skip(str(missing))
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 256, (64, 64, 3), dtype=np.uint8) for _ in range(2))
    ours = PerceptualDistance(torch.device("cpu"))
    given, wanted = (to_bchw(picture) * 2 - 1 for picture in (one, other))
    given.requires_grad_(True)
    distance = ours(given, wanted)
    assert float(distance.detach()) == pytest.approx(lpips.compare(one, [other])[0].whole, abs=1e-4)
    distance.backward()
    assert given.grad is not None and float(given.grad.abs().max()) > 0
    assert float(ours(wanted, wanted)) < 1e-6


# --- the whole


def test_examples_come_again(pool: Path) -> None:
    """The first round is the one without ``distinct``; after it, nothing is made anew."""
    whole = TrainSettings(**CONFIG)
    files = tuple(sorted(pool.glob("*.npz")))
    plain = Examples(files, whole.stages[1], whole.data, whole.model, 3)
    again = Examples(
        files, whole.stages[1].model_copy(update={"distinct": 2}), whole.data, whole.model, 3
    )
    assert [_bytes(again[n]) for n in (0, 1, 2, 5)] == [_bytes(plain[n]) for n in (0, 1, 0, 1)]
    assert again[0] is again[2]


def test_a_codec_that_remembers_says_what_a_codec_says() -> None:
    vae = _vae()
    rng = torch.Generator().manual_seed(0)
    pictures = torch.rand(3, 3, 32, 32, generator=rng)
    plain, remembering = Codec(vae), RememberingCodec(vae)
    first = remembering.encode(pictures[:2])
    with patch.object(vae, "encode", side_effect=AssertionError("encoded twice")):
        assert torch.equal(remembering.encode(pictures[[1, 0]]), first[[1, 0]])
        with pytest.raises(AssertionError, match="encoded twice"):
            remembering.encode(pictures)
    assert torch.equal(remembering.encode(pictures), plain.encode(pictures))


@pytest.fixture(scope="session")
def first_try(tmp_path_factory: pytest.TempPathFactory, pool: Path) -> Path:
    """The 200 steps of the docs."""
    folder = tmp_path_factory.mktemp("first-try")
    done = train(config(folder), folder / "out", pool=pool, cpu=True)
    assert done.pipeline == folder / "out" / "pipeline"
    return folder / "out"


def test_the_docs_train_from_nothing_for_200_steps(first_try: Path) -> None:
    assert sum(stage["steps"] for stage in CONFIG["stages"]) == 200
    for stage, learnt in zip(STAGES, ("absolute", "loss", "alpha"), strict=True):
        lines = [line[learnt] for line in read_log(first_try / stage) if learnt in line]
        assert len(lines) >= 4 and np.mean(lines[-2:]) < 0.9 * np.mean(lines[:2]), stage
        assert (first_try / stage / "curves.png").stat().st_size > 5000
        assert list((first_try / stage / "tensorboard").glob("events*"))
    readings = [line for line in read_log(first_try / "layers") if "cag" in line]
    assert [line["step"] for line in readings] == [0, 20, 40]
    assert all(0 < line["leakage"] < 1 for line in readings)
    assert len({line["cag"] for line in readings}) == 3


def test_what_was_trained_paints(first_try: Path) -> None:
    from tiny_mild import make_input

    from mild_bench.mild.pipeline import MildPipeline

    mild = MildPipeline.from_pretrained(first_try / "pipeline")
    mild.set_progress_bar_config(disable=True)
    given = make_input(2, height=64, width=64)
    output = mild(given, num_inference_steps=2)
    assert output.background.shape == given.picture.shape and len(output.layers) == 2
    scale = mild.vae.config.scaling_factor
    assert 0.05 < scale < 50 and scale != 0.18215
    weights = list((first_try / "pipeline").rglob("*.bin"))
    assert weights == [], "safetensors only"


def test_the_card_says_what_was_trained_and_from_what(first_try: Path) -> None:
    from mild_bench.erasers.diffusion.card import model_card

    licence, data_sets = model_card(first_try / "pipeline")
    assert licence and data_sets == ("mild-bench-pack-train",)
    text = (first_try / "pipeline" / "README.md").read_text()
    for plate in load_pack("train").plates:
        assert plate.credit in text and plate.licence in text
    records = first_try / "pipeline" / "training"
    again = read_settings(str(records / "config.yaml"))
    assert again.hash == TrainSettings(**CONFIG).hash
    for stage in STAGES:
        assert read_log(first_try / stage) == [
            json.loads(line) for line in (records / f"{stage}.jsonl").read_text().splitlines()
        ]
        assert f"training/{stage}.png" in text and (records / f"{stage}.png").stat().st_size > 5000
    assert "nan" not in text


def test_layers_leave_the_base_alone(first_try: Path) -> None:
    from safetensors.torch import load_file

    before = load_file(first_try / "base" / "checkpoint" / "means.safetensors")
    after = load_file(first_try / "pipeline" / "unet" / "diffusion_pytorch_model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    learnt = load_file(first_try / "layers" / "checkpoint" / "means.safetensors")
    changed = [name for name in learnt if "lora_B" in name and learnt[name].abs().max() > 0]
    assert {name.split(".")[0] for name in changed} == {"bg", "fg"}
    assert any(name.startswith("sma.") and learnt[name].abs().max() > 0 for name in learnt)


def test_a_killed_training_resumes_to_the_same_losses(tmp_path: Path, pool: Path) -> None:
    stages = short(6, checkpoint_every=2, accumulate=2, probe_every=3)
    stages = [stages[0], *({**stage, "distinct": 5} for stage in stages[1:])]
    path = config(tmp_path, stages=stages)
    train(path, tmp_path / "whole", pool=pool, cpu=True)
    command = [sys.executable, "-c", "from mild_bench.cli import main; main()", "train", path,
               "--out", str(tmp_path / "cut"), "--scenes", str(pool), "--cpu"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    cut = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    while not (tmp_path / "cut" / "base" / "checkpoint" / "step.json").exists():
        assert cut.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    cut.send_signal(signal.SIGKILL)
    cut.wait()
    stopped = train(path, tmp_path / "cut", pool=pool, cpu=True, minutes=0.001)
    assert stopped.pipeline is None
    assert train(path, tmp_path / "cut", pool=pool, cpu=True).pipeline
    for stage in STAGES:
        whole, pieces = losses(tmp_path / "whole", stage), losses(tmp_path / "cut", stage)
        assert whole == pieces and len(whole) == 6
    readings = [
        [line for line in read_log(tmp_path / run / "layers") if "cag" in line]
        for run in ("whole", "cut")
    ]
    assert readings[0] == readings[1]


@pytest.mark.parametrize(("preset", "family"), [("sd15", "sd"), ("sdxl", "sdxl")])
def test_presets_train_and_sample_on_checkpoints_of_their_classes(
    tmp_path: Path, pool: Path, preset: str, family: str
) -> None:
    """A real step and a real sampling step; only the sizes are those of the tiny checkpoint."""
    from safetensors.torch import load_file
    from tiny_mild import make_input

    from mild_bench.mild.pipeline import MildPipeline
    from mild_bench.run.train_settings import PRESETS

    values = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text())
    values |= {"data": CONFIG["data"], "weights": "float16"}
    values["model"] |= {
        "frame": 64,
        "crop": 32,
        "start": str(make_pipeline(tmp_path / "b", family)),
    }
    values["stages"][0] |= {"steps": 2, "batch": 1, "accumulate": 2, "log_every": 1}
    path = config(tmp_path, **values)
    done = train(path, tmp_path / "out", pool=pool, cpu=True)
    assert done.pipeline is not None
    assert all(np.isfinite(line["loss"]) for line in losses(tmp_path / "out", "layers"))
    kept = load_file(done.pipeline / "unet" / "diffusion_pytorch_model.safetensors")
    assert {one.dtype for one in kept.values()} == {torch.float16}
    mild = MildPipeline.from_pretrained(done.pipeline)
    mild.set_progress_bar_config(disable=True)
    moved = [p for n, p in mild.network.trainable().items() if "lora_B" in n and p.abs().max() > 0]
    assert moved
    assert len(mild(make_input(1), num_inference_steps=1).layers) == 1


def test_every_preset_is_one() -> None:
    assert {read_settings(name).name for name in ("tiny", "tiny-cpu", "sd15", "sdxl")} == {
        "tiny", "tiny-cpu", "sd15", "sdxl",
    }  # fmt: skip


# --- mistakes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precison": "bf16"}, r"precison: no such key \(did you mean precision\?\)"),
        ({"precision": "half"}, "precision: .*got 'half'"),
        ({"data": {"sizes": 128}}, r"data.sizes: no such key \(did you mean size\?\)"),
        ({"data": {"size": 64}}, "data.size: .*128, got 64"),
        ({"stages": []}, "stages: .*at least 1"),
        ({"stages": [{"stage": "base", "steps": 3}]}, "in this order, got .'base'.*model.start"),
        ({"stages": [{"stage": "autoencoder", "steps": 0}]}, "steps: .*got 0"),
        ({"model": {"start": "x"}}, "only layers train"),
    ],
)
def test_a_bad_config_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message) as caught:
        read_settings(config(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_trained_is_said(tmp_path: Path, pool: Path) -> None:
    with pytest.raises(BadInput, match=r"presets: sd15, sdxl, tiny, tiny-cpu \(did you mean tiny"):
        read_settings("tinny")
    with pytest.raises(BadInput, match="minutes: expected more than 0, got -1"):
        train("tiny", tmp_path / "o", minutes=-1)
    path = config(tmp_path, model={**CONFIG["model"], "unet": {"widths": 3}}, stages=short(2))
    with pytest.raises(BadInput, match=r"model\.unet: UNet2DConditionModel of diffusers"):
        train(path, tmp_path / "o", pool=pool, cpu=True)
    with pytest.raises(BadInput, match="training of another config"):
        train(config(tmp_path), tmp_path / "o", pool=pool, cpu=True)
    (tmp_path / "empty").mkdir()
    layers = [stage for stage in CONFIG["stages"] if stage["stage"] == "layers"]
    path = config(tmp_path, model={"start": str(tmp_path / "empty")}, stages=layers)
    with pytest.raises(BadInput, match=r"without model_index\.json"):
        train(path, tmp_path / "o2", pool=pool, cpu=True)


def test_every_setting_is_in_the_docs() -> None:
    from mild_bench.run import train_settings

    for part in ("TrainSettings", "DataSettings", "ModelSettings", "StageSettings"):
        for key in getattr(train_settings, part).model_fields:
            assert f"`{key}`" in DOCS, key


def test_logs_survive_a_cut_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 1, "loss": 2.0}) + '\n{"step": 2, "lo')
    assert read_log(tmp_path) == [{"step": 1, "loss": 2.0}]
