"""Diffusers pipelines as erasers: real classes with tiny weights, loaded from a folder, offline."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_release import ask, draw_scene, make_release
from safetensors.torch import load_file, save_file
from tiny_pipelines import FAMILIES, TEXT_TO_IMAGE, make_pipeline

from mild_bench.erasers.diffusion.eraser import DiffusionEraser, PreparedTask
from mild_bench.erasers.diffusion.fit import dilate
from mild_bench.erasers.diffusion.settings import DiffusionSettings
from mild_bench.erasure import Eraser
from mild_bench.errors import BadInput, MildBenchError, MissingPart
from mild_bench.images import Mask, Rgb, read_rgb
from mild_bench.plugins import load_eraser, parse_spec
from mild_bench.run.erase import erase_release
from mild_bench.task import Task

ROOT = Path(__file__).parents[1]
CLASSES = {
    "sd": "StableDiffusionInpaintPipeline",
    "sdxl": "StableDiffusionXLInpaintPipeline",
    "sd3": "StableDiffusion3InpaintPipeline",
    "flux-fill": "FluxFillPipeline",
    "kandinsky": "KandinskyV22InpaintCombinedPipeline",
    TEXT_TO_IMAGE: "StableDiffusionInpaintPipeline",
}
FILLS = ("sd", "sdxl", "flux-fill")  # trained to be told nothing of what is under the mask

Saved = Callable[[str], Path]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Networks this small lose more to waiting for each other's threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0})  # the run engine asks it
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    base = tmp_path_factory.mktemp("pipelines")

    def find(family: str) -> Path:
        folder = base / family
        return folder if folder.exists() else make_pipeline(folder, family)

    return find


@pytest.fixture
def copied(saved: Saved, tmp_path: Path) -> Path:
    """A pipeline of the test's own, to break."""
    return Path(shutil.copytree(saved("sd"), tmp_path / "broken"))


def load(folder: Path, **chosen: Any) -> DiffusionEraser:
    words = {True: "on", False: "off"}
    settings = {"steps": 2, "side": 64, "dilate": 2, **chosen}
    pairs = (f"{key}={words.get(value, value)}" if isinstance(value, bool) else f"{key}={value}"
             for key, value in settings.items())  # fmt: skip
    eraser = load_eraser(f"diffusers:{folder}[{','.join(pairs)}]")
    assert isinstance(eraser, DiffusionEraser)
    return eraser


def drawn(number: int = 0, size: tuple[int, int] = (64, 64)) -> Task:
    return ask(draw_scene(number, size=size, seed=0), number)


def with_hole(source: Rgb, mask: Mask, name: str = "t") -> Task:
    people = np.zeros(mask.shape, np.uint8)
    return Task(name, "s", "free", (), source, mask, None, people, ())


def erase(eraser: Eraser, *tasks: Task, seed: int = 0) -> list[Rgb]:
    return [answer.result for answer in eraser(tasks, seed=seed)]


@pytest.mark.parametrize("family", CLASSES)
def test_every_family_loads_offline_fills_the_hole_and_keeps_the_rest(
    saved: Saved, family: str
) -> None:
    assert set(CLASSES) == {*FAMILIES, TEXT_TO_IMAGE}
    eraser, asked = load(saved(family)), drawn()
    assert eraser.card.settings["pipeline"] == CLASSES[family]
    assert eraser.card.supports_attention_probe
    before = asked.input.copy()
    first, again = erase(eraser, asked)[0], erase(eraser, asked)[0]
    (other,) = erase(eraser, asked, seed=1)
    assert first.shape == asked.input.shape
    assert first.dtype == np.uint8
    assert (first != asked.input).any(axis=2)[asked.mask].mean() > 0.95
    outside = ~dilate(asked.mask, 2)
    np.testing.assert_array_equal(first[outside], asked.input[outside])
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=2)[asked.mask].mean() > 0.5
    np.testing.assert_array_equal(asked.input, before, err_msg="the eraser changed its input")


def test_a_saved_pipeline_gives_the_same_picture_when_it_is_loaded_again(saved: Saved) -> None:
    first, second = (erase(load(saved("sd")), drawn())[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("family", ["sd", "flux-fill"])
def test_order_and_other_tasks_change_nothing(saved: Saved, family: str) -> None:
    eraser = load(saved(family))
    tasks = [drawn(number) for number in range(3)]
    alone = [erase(eraser, one)[0] for one in tasks]
    together = erase(eraser, *reversed(tasks))[::-1]
    for first, second in zip(alone, together, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("family", FILLS)
def test_what_stood_in_the_hole_does_not_matter_to_a_fill_and_what_is_kept_does(
    saved: Saved, family: str
) -> None:
    """Holds only when the mask's polarity, place and size are right all the way down."""
    eraser, asked = load(saved(family), composite=False), drawn()
    people, rest = asked.input.copy(), asked.input.copy()
    people[asked.mask] = 255 - people[asked.mask]
    rest[~dilate(asked.mask, 12)] //= 2
    first, second, third = (
        erase(eraser, with_hole(source, asked.mask))[0] for source in (asked.input, people, rest)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != third).any(axis=2)[asked.mask].mean() > 0.2


def odd_cases() -> Iterator[tuple[str, Rgb, Mask]]:
    rng = np.random.default_rng(5)
    for height, width in ((17, 40), (61, 33), (64, 100)):
        source = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        one, frame, corner = (np.zeros((height, width), bool) for _ in range(3))
        one[height // 3, width // 2] = True
        frame[:, : width // 3] = True
        corner[-1, -1] = True
        for name, mask in {"one": one, "frame": frame, "corner": corner}.items():
            yield f"{width}x{height}-{name}", source, mask


ODD = {name: (source, mask) for name, source, mask in odd_cases()}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("size", ["resize", "pad", "crop"])
def test_any_size_and_hole_comes_back_whole(saved: Saved, size: str, case: str) -> None:
    source, mask = ODD[case]
    eraser = shared(saved("sd"), size)
    (result,) = erase(eraser, with_hole(source, mask))
    outside = ~dilate(mask, 2)
    assert result.shape == source.shape
    np.testing.assert_array_equal(result[outside], source[outside])
    assert (result != source).any(axis=2)[mask].mean() > 0.9


SHARED: dict[tuple[Path, str], DiffusionEraser] = {}


def shared(folder: Path, size: str) -> DiffusionEraser:
    key = (folder, size)
    return SHARED.get(key) or SHARED.setdefault(key, load(folder, size=size))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", ["resize", "pad"])
def test_every_family_takes_odd_sizes(saved: Saved, family: str, size: str) -> None:
    source, mask = ODD["33x61-frame"]
    (result,) = erase(load(saved(family), size=size, steps=1), with_hole(source, mask))
    assert result.shape == source.shape
    assert (result != source).any(axis=2)[mask].mean() > 0.9


def test_a_crop_leaves_the_rest_alone_and_without_compositing_the_rest_changes(
    saved: Saved,
) -> None:
    rng = np.random.default_rng(2)
    source = rng.integers(0, 256, (160, 200, 3), dtype=np.uint8)
    mask = np.zeros((160, 200), bool)
    mask[70:90, 20:40] = True
    chosen: dict[str, Any] = {"size": "crop", "margin": 0.5, "composite": False, "side": 64}
    eraser = load(saved("sd"), **chosen)
    top, left, bottom, right = eraser.prepare(with_hole(source, mask)).fit.box
    assert (bottom - top, right - left) == (48, 48)  # 24 dilated, and half of it on each side
    (result,) = erase(eraser, with_hole(source, mask))
    changed = (result != source).any(axis=2)
    assert changed[top:bottom, left:right].mean() > 0.9
    changed[top:bottom, left:right] = False
    assert not changed.any()


def test_the_seed_dtype_prompt_and_steps_reach_the_pipeline(saved: Saved) -> None:
    asked = drawn()
    plain = erase(load(saved("sd")), asked)[0]
    for chosen in (
        {"dtype": "bfloat16"}, {"prompt": "beach"}, {"negative_prompt": '"a, b"'}, {"steps": 3},
        {"guidance": 1.5}, {"strength": 0.5}, {"dilate": 5}, {"latent_dilate": 3},
    ):  # fmt: skip
        assert (erase(load(saved("sd"), **chosen), asked)[0] != plain).any(), chosen


def test_a_hook_sees_the_task_as_the_pipeline_does_and_changes_nothing(saved: Saved) -> None:
    asked = drawn(1, size=(64, 48))
    for family, cell in (("sd", 4), ("flux-fill", 8), ("kandinsky", 4)):
        eraser = load(saved(family), size="pad")
        (plain,) = erase(eraser, asked)
        seen: list[PreparedTask] = []
        shapes: list[tuple[int, ...]] = []

        @contextmanager
        def watch(
            prepared: PreparedTask,
            eraser: DiffusionEraser = eraser,
            seen: list[PreparedTask] = seen,
            shapes: list[tuple[int, ...]] = shapes,
        ) -> Iterator[None]:
            def note(module: Any, inputs: Any, named: Any, output: Any) -> None:
                shapes.append(
                    tuple(named.get("hidden_states", named.get("sample", (inputs or [0])[0])).shape)
                )

            handle = eraser.denoiser.register_forward_hook(note, with_kwargs=True)
            seen.append(prepared)
            yield
            handle.remove()

        eraser.on_task = watch
        np.testing.assert_array_equal(erase(eraser, asked)[0], plain)
        (prepared,) = seen
        height, width = prepared.fit.frame
        assert prepared.task is asked
        assert len(shapes) >= 2
        grid = (height // cell) * (width // cell)
        assert grid in (shapes[0][1], shapes[0][-1] * shapes[0][-2])
        assert prepared.picture.shape == (height, width, 3)
        for mask in (prepared.mask, prepared.hole, prepared.padding, *prepared.people.values()):
            assert mask.shape == (height, width)
        assert set(prepared.people) == set(asked.person_ids)
        assert not prepared.hole[~prepared.mask].any()
        erased = np.any([prepared.people[name] for name in asked.erase], axis=0)
        assert erased.any()
        assert not (erased & ~prepared.hole).any()
        assert prepared.padding.sum() == height * width - asked.mask.size


def test_loading_and_running_say_nothing(saved: Saved, capfd: pytest.CaptureFixture[str]) -> None:
    folder = saved("sdxl")
    capfd.readouterr()
    erase(load(folder), drawn())
    assert capfd.readouterr() == ("", "")


def test_a_run_over_a_release_goes_on_where_it_was(saved: Saved, tmp_path: Path) -> None:
    release = make_release(tmp_path / "release", tasks=2)
    spec = f'diffusers:{saved("sd")}[steps=2,side=64,prompt="a wall, empty"]'
    summary = erase_release(release, spec, tmp_path / "run", limit=1)
    assert (summary.erased, summary.failed) == (1, {})
    summary = erase_release(release, spec, tmp_path / "run")
    assert (summary.erased, summary.kept, summary.failed) == (1, 1, {})
    card = json.loads((tmp_path / "run" / "run.json").read_text())["eraser"]
    assert card["name"] == 'diffusers:sd[steps=2,side=64,prompt="a wall, empty"]'
    assert card["settings"]["prompt"] == "a wall, empty"
    whole = erase_release(release, spec, tmp_path / "whole")
    for path in sorted((whole.out / "results").iterdir()):
        np.testing.assert_array_equal(
            read_rgb(path), read_rgb(tmp_path / "run" / "results" / path.name)
        )


def test_the_card_shows_what_the_pipeline_gets(saved: Saved) -> None:
    flux = load(saved("flux-fill")).card
    assert (flux.settings["guidance"], flux.settings["negative_prompt"]) == (30.0, None)
    card = load(saved("sd"), guidance=4, download=False, device="cpu").card
    assert card.name == "diffusers:sd[steps=2,side=64,dilate=2,guidance=4]"
    assert card.settings["guidance"] == 4.0
    assert {field.name for field in fields(DiffusionSettings)} - {"download"} < set(card.settings)
    json.dumps(card.as_json(), allow_nan=False)


def test_a_card_takes_licence_and_data_from_the_model_card_and_changes_with_the_weights(
    copied: Path,
) -> None:
    before = load(copied).card
    (copied / "README.md").write_text("---\nlicense: openrail\ndatasets:\n- laion\n---\n# It\n")
    card = load(copied).card
    assert (card.licence, card.trained_on) == ("openrail", ("laion",))
    assert card.settings == before.settings
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    weights["conv_in.bias"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert load(copied).card.settings["weights"] != before.settings["weights"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("steps=0", "steps must be a whole number from 1 to 1000, got 0"),
        ("steps=2.5", "steps must be a whole number"),
        ("steps=4,strength=0.1", "steps x strength must be at least 1"),
        ("strength=0", "strength must be a number from 0.01 to 1, got 0"),
        ("guidance=high", "guidance must be a number from 0 to 100, got 'high'"),
        ("dtype=int8", "dtype must be one of float32, bfloat16, float16, got 'int8'"),
        ("device=tpu", "device must be one of auto, cpu, cuda, mps"),
        ("size=stretch", "size must be one of resize, pad, crop, got 'stretch'"),
        ("side=8", "side must be a whole number from 16 to 8192"),
        ("margin=-1", "margin must be a number from 0 to 10"),
        ("dilate=-1", "dilate must be a whole number from 0 to 512"),
        ("latent_dilate=99", "latent_dilate must be a whole number from 0 to 32"),
        ("composite=2", "composite must be on or off, got 2"),
        ("prompt=3", "prompt must be one line of text without double quotes, got 3"),
        ("offload=disk", "offload must be one of none, model, sequential, got 'disk'"),
        ("offload=model,device=cpu", "there is no GPU in use; leave offload out"),
        ("colour=red", "there is no setting 'colour'; there are prompt, negative_prompt"),
    ],
)
def test_a_bad_setting_is_one_clear_line(saved: Saved, settings: str, message: str) -> None:
    refused(f"diffusers:{saved('sd')}[{settings}]", message)


def test_a_setting_that_the_pipeline_has_no_use_for_is_refused(saved: Saved) -> None:
    folder = saved("flux-fill")
    refused(f"diffusers:{folder}[negative_prompt=person]", "takes no negative_prompt; leave")
    refused(f"diffusers:{saved('kandinsky')}[strength=0.5,steps=4]", "takes no strength; leave")


def refused(spec: str, message: str, kind: type[MildBenchError] = BadInput) -> None:
    with pytest.raises(kind) as caught:
        load_eraser(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_refused(copied: Path) -> None:
    (copied / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(copied / "vae")
    shutil.rmtree(copied / "tokenizer")
    message = "vae is not there"
    refused(f"diffusers:{copied}", message)
    refused(f"diffusers:{copied}", "unet has no weights")
    refused(f"diffusers:{copied}", "tokenizer is not there")


def test_weights_that_can_run_code_are_refused(copied: Path) -> None:
    weights = copied / "text_encoder" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    refused(f"diffusers:{copied}", "text_encoder has only pytorch_model.bin, which can run code")


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("unet/diffusion_pytorch_model", "mid_block.attentions.0.norm.weight"),
        ("vae/diffusion_pytorch_model", "decoder.conv_out.bias"),
        ("text_encoder/model", "text_model.final_layer_norm.weight"),
    ],
)
def test_a_parameter_that_would_be_random_is_refused(copied: Path, part: str, key: str) -> None:
    path = copied / f"{part}.safetensors"
    weights = load_file(path)
    (found,) = [name for name in weights if key.endswith(name) or name.endswith(key)]
    del weights[found]
    save_file(weights, path, metadata={"format": "pt"})
    name = part.split("/")[0]
    refused(f"diffusers:{copied}", f"the weights of {name} lack 1 of its parameters")


def test_cut_off_weights_are_refused(copied: Path) -> None:
    path = copied / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:2000])
    refused(f"diffusers:{copied}", "unet does not load")


def test_a_folder_that_is_no_pipeline_is_refused(saved: Saved, tmp_path: Path) -> None:
    refused(f"diffusers:{tmp_path}", "holds no model_index.json, so it is no saved pipeline")
    refused(f"diffusers:{saved('sd') / 'text_encoder'}", "holds no model_index.json")
    refused("diffusers:", "expected diffusers:DIR with a saved pipeline")
    refused(f"diffusers:{tmp_path}/none/such", "expected diffusers:DIR with a saved pipeline")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PixArtAlphaPipeline", "(PixArtAlphaPipeline takes no picture and mask)"),
        ("StableDiffusionControlNetInpaintPipeline", "needs control_image"),
        ("PaintByExamplePipeline", "needs example_image"),
        ("UNet2DConditionModel", "is no pipeline that runs in torch"),
        ("PowerPaintPipeline", "no inpainting for a PowerPaintPipeline in diffusers"),
        (["pipeline", "BrushNetPipeline"], "code that comes with a pipeline is not run"),
        (None, "names no pipeline class"),
    ],
)
def test_a_pipeline_that_cannot_erase_is_refused(copied: Path, name: Any, message: str) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    (copied / "model_index.json").write_text(json.dumps({**index, "_class_name": name}))
    refused(f"diffusers:{copied}", message)


def test_a_part_of_unknown_code_is_refused(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    index["unet"] = ["my_code", "MyUNet"]
    (copied / "model_index.json").write_text(json.dumps(index))
    refused(f"diffusers:{copied}", "its part unet is a MyUNet of 'my_code'")


def test_another_family_than_the_folder_says_is_refused(copied: Path) -> None:
    index = json.loads((copied / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusion3InpaintPipeline"
    (copied / "model_index.json").write_text(json.dumps(index))
    refused(f"diffusers:{copied}", "no whole StableDiffusion3InpaintPipeline: transformer is")


def test_a_hub_id_comes_from_the_cache_and_is_not_fetched_unasked(
    saved: Saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused("diffusers:somebody/eraser", "not in the Hugging Face cache; run 'hf dow", MissingPart)
    repo = tmp_path / "models--somebody--eraser"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    shutil.copytree(saved("sd"), repo / "snapshots" / ("0" * 40))
    eraser = load_eraser("diffusers:somebody/eraser[steps=2,side=64,dilate=2]")
    assert eraser.card.name == "diffusers:somebody/eraser[steps=2,side=64,dilate=2]"
    np.testing.assert_array_equal(erase(eraser, drawn())[0], erase(load(saved("sd")), drawn())[0])


def test_quotes_hold_text_with_commas_and_brackets() -> None:
    spec = parse_spec('diffusers:a/b[prompt="empty [room], 3 = 3",steps=4,negative_prompt="on"]')
    assert (spec.name, spec.argument) == ("diffusers", "a/b")
    assert spec.settings == {
        "prompt": "empty [room], 3 = 3", "steps": 4, "negative_prompt": "on"
    }  # fmt: skip
    assert parse_spec("x[a=1, b = two words ,c=on]").settings == {
        "a": 1,
        "b": "two words",
        "c": True,
    }
    assert parse_spec('x[a=""]').settings == {"a": ""}
    with pytest.raises(BadInput, match="expected name"):
        parse_spec('x[prompt="a, b]')


def test_the_docs_name_every_setting() -> None:
    text = (ROOT / "docs" / "diffusion.md").read_text()
    for field in fields(DiffusionSettings):
        assert f"| `{field.name}` |" in text, f"{field.name} is not in docs/diffusion.md"
