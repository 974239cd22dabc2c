"""The eraser ``mild`` on releases: settings, layers, what it is told, watching."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_release import make_release
from test_mild_priors import save_networks
from tiny_mild import make_mild

from mild_bench.erasers.diffusion.eraser import PreparedTask
from mild_bench.erasers.mild import WEIGHTS, MildEraser
from mild_bench.errors import BadInput, MissingPart
from mild_bench.metrics.cag.probe import probe_pipeline
from mild_bench.metrics.cag.regions import Regions
from mild_bench.plugins import load_eraser
from mild_bench.release import Release
from mild_bench.run.erase import erase_release
from mild_bench.run.score import score_runs
from mild_bench.store import read_json
from mild_bench.task import Task


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})  # the run engine asks it
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("mild")
    make_mild(base / "base").save_pretrained(base / "tiny")
    (base / "tiny" / "README.md").write_text(
        "---\nlicense: cc0-1.0\ndatasets:\n- mild-bench/pack-train\n---\n# A model\n"
    )
    return base / "tiny"


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_release(tmp_path_factory.mktemp("release"), tasks=4)


@pytest.fixture
def task(release: Path) -> Task:
    return next(Release.open(release).tasks())


def load(folder: Path, settings: str = "") -> MildEraser:
    eraser = load_eraser(f"mild[folder={folder},steps=2,dilate=2{settings}]")
    assert isinstance(eraser, MildEraser)
    return eraser


def test_a_run_keeps_background_and_layers(weights: Path, release: Path, tmp_path: Path) -> None:
    done = erase_release(release, f"mild[folder={weights},steps=1]", tmp_path / "run")
    assert not done.failed
    assert done.erased == 4
    for one in Release.open(release).tasks():
        files = {path.stem for path in (tmp_path / "run/layers" / one.task_id).iterdir()}
        assert files == {name for k, name in enumerate(one.person_ids, 1)
                         if name in one.erase and (one.people == k).any()}  # fmt: skip
    card = read_json(tmp_path / "run/run.json")["eraser"]
    assert card["trained_on"] == ["mild-bench/pack-train"]
    assert card["licence"] == "cc0-1.0"
    assert card["supports_attention_probe"]
    assert card["settings"]["scheduler"] == "DDIMScheduler"


def test_its_layers_are_scored(weights: Path, release: Path, tmp_path: Path) -> None:
    for name, more in (("with", ",complete=off"), ("without", ",layers=off")):
        spec = f"mild[folder={weights},steps=1{more}]"
        erase_release(release, spec, tmp_path / name, limit=2)
    records = score_runs([tmp_path / "with", tmp_path / "without"], workers=1)
    layered, bare = (read_json(path)["tasks"][1] for path in records)
    assert layered["kind"] == "occluder"  # one person: nobody else's layer can be in the way
    assert layered["scores"]["recompose-psnr/visible/raw"] == 100
    assert 0 < layered["scores"]["alpha-iou/whole/raw"] <= 1
    assert bare["reasons"]["alpha-iou/whole/raw"] == "this eraser makes no layers"
    assert bare["scores"]["psnr/hole/raw"] == layered["scores"]["psnr/hole/raw"]


def test_the_answer_fits_the_task(weights: Path, task: Task) -> None:
    eraser = load(weights)
    first, again = (next(iter(eraser([task], seed=3))) for _ in range(2))
    other = next(iter(eraser([task], seed=4)))
    assert first.result.shape == task.input.shape
    assert np.array_equal(first.result, again.result)
    assert not np.array_equal(first.result, other.result)
    changed = (first.result != task.input).any(axis=2)
    assert changed.any()
    assert task.mask[changed].mean() > 0.5  # the mask, grown by two pixels
    for number, name in enumerate(task.person_ids, 1):
        shows = task.people == number
        layer = first.layers[name]
        assert layer.shape == (*task.mask.shape, 4)
        assert (layer[shows, 3] == 255).all()
        assert np.array_equal(layer[shows, :3], task.input[shows])


def test_a_release_tells_what_it_knows_of_people(task: Task, release: Path) -> None:
    assert set(task.parts) == set(task.person_ids)
    for number, name in enumerate(task.person_ids, 1):
        shows = task.people == number
        assert (task.parts[name][shows] > 0).mean() > 0.9
    assert task.keypoints == {}  # these drawings have none


def test_refining_fills_the_hole_with_what_the_picture_shows(weights: Path, task: Task) -> None:
    eraser, plain = load(weights, ",dilate=0"), load(weights, ",refine=off,dilate=0")
    fine, coarse = eraser.take_apart(task, 3), plain.take_apart(task, 3)
    again = eraser.take_apart(task, 3)
    assert np.array_equal(fine.background, again.background)
    assert np.array_equal(fine.background[~task.mask], task.input[~task.mask])
    assert np.array_equal(fine.painted[~task.mask], coarse.painted[~task.mask])
    assert fine.layers.keys() == coarse.layers.keys()
    known = task.input[~task.mask].reshape(-1, 3).astype(int)
    low, high = known.min(axis=0), known.max(axis=0)
    filled = fine.background[task.mask]
    assert ((filled >= low - 1) & (filled <= high + 1)).all()  # nearly blends of known pixels
    assert not (
        (coarse.background[task.mask] >= low) & (coarse.background[task.mask] <= high)
    ).all()


@pytest.mark.parametrize("settings", ["sma=off", "hmg=none", "hmg=parsing", "composite=off"])
def test_settings_change_the_picture_and_the_name(weights: Path, task: Task, settings: str) -> None:
    plain, chosen = load(weights), load(weights, f",{settings}")
    assert settings in chosen.card.name
    assert settings not in plain.card.name
    assert plain.card.settings_hash != chosen.card.settings_hash
    one, other = (next(iter(eraser([task], seed=0))).result for eraser in (plain, chosen))
    assert not np.array_equal(one, other)


def test_without_layers_the_result_is_the_same(weights: Path, task: Task) -> None:
    one, other = (
        next(iter(load(weights, settings)([task], seed=0)))
        for settings in (",complete=off", ",layers=off")
    )
    assert np.array_equal(one.result, other.result)
    assert other.layers == {}


def test_the_probe_is_told_what_the_background_does_not_see(weights: Path, release: Path) -> None:
    """Who stays at the hole is painted over as well; attention is asked of the hole alone."""
    tasks = [one for one in Release.open(release).tasks() if one.kind != "all"]
    whole, plain = load(weights, ",side=64"), load(weights, ",complete=off,side=64")
    found = [(whole.prepare(one), plain.prepare(one)) for one in tasks]
    assert any(one.mask.sum() > other.mask.sum() for one, other in found)
    for one, other in found:
        assert np.array_equal(one.hole, other.hole)
        assert not (other.mask & ~one.mask).any()


def test_worse_priors_change_the_picture(weights: Path, task: Task) -> None:
    results = [
        next(iter(load(weights, settings)([task], seed=0))).result
        for settings in ("", ",drop=1", ",jitter=6")
    ]
    for number, one in enumerate(results):
        assert all(not np.array_equal(one, other) for other in results[number + 1 :])


def test_detected_priors(weights: Path, task: Task, tmp_path: Path) -> None:
    pose, parsing = save_networks(tmp_path)
    eraser = load(weights, f",priors=detected,pose_model={pose},parsing_model={parsing}")
    assert next(iter(eraser([task], seed=0))).layers
    with pytest.raises(BadInput, match="go together"):
        load(weights, ",priors=detected")
    with pytest.raises(BadInput, match="go together"):
        load(weights, f",pose_model={pose}")


def test_your_own_picture_has_no_people(weights: Path, task: Task) -> None:
    mine = Task("picture", "picture", "free", (), task.input, task.mask, None,
                np.zeros(task.mask.shape, np.uint8), ())  # fmt: skip
    answer = next(iter(load(weights)([mine], seed=0)))
    assert answer.layers == {}
    assert (answer.result != task.input).any()


def test_a_probe_sees_the_background_only(weights: Path, task: Task) -> None:
    """Crops show something else than the frame, in calls or in rows of their own."""
    for crop_side in (32, 64):
        eraser = load(weights)
        eraser.pipeline.register_to_config(crop_side=crop_side)
        probes = []

        @contextmanager
        def watch(seen: PreparedTask, eraser: Any = eraser, probes: Any = probes) -> Iterator[None]:
            people = np.stack(list(seen.people.values()))
            with probe_pipeline(eraser.pipeline, Regions(people, query=seen.hole)) as probe:
                yield
            probes.append(probe)

        eraser.on_task = watch
        watched = next(iter(eraser([task], seed=0))).result
        eraser.on_task = None
        assert np.array_equal(watched, next(iter(eraser([task], seed=0))).result)
        trace = probes[0].trace()
        assert set(trace.columns["part"]) == {"background"}
        assert set(trace.columns["step"]) == {0, 1}
        assert {(64, 64)} == {probes[0].regions.size}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("hmg=face", "hmg must be one of none, pose, parsing, both"),
        ("steps=0", "steps must be a whole number from 1"),
        ("drop=2", "drop must be a number from 0 to 1"),
        ("colour=red", "there is no setting 'colour'"),
        ("sma=1", "sma must be on or off"),
        ("folder=nowhere", "saved MildPipeline, got nowhere"),
    ],
)
def test_wrong_settings_are_refused(settings: str, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        load_eraser(f"mild[{settings}]")


def test_no_weights_no_eraser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mild_bench.erasers.mild.WEIGHTS", tmp_path)
    with pytest.raises(MissingPart, match="comes without weights; train some"):
        load_eraser("mild")
    assert WEIGHTS.parts[-2:] == ("mild", "weights")
