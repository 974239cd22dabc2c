"""MildPipeline on tiny real UNets of SD 1.5 and SDXL: one batch, chunks, settings, files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_mild import SIDE, make_input, make_mild

from mild_bench.errors import BadInput
from mild_bench.mild.adapters import KINDS, Adapters, AdapterSettings
from mild_bench.mild.alpha_head import AlphaHead
from mild_bench.mild.hmg import MODES, HumanMorphologyGuidance
from mild_bench.mild.latents import Codec
from mild_bench.mild.network import MildNetwork
from mild_bench.mild.picture import MildInput, branches_of, picture_layout
from mild_bench.mild.pipeline import MildPipeline

STEPS = 2
FAMILIES = ("sd", "sdxl")
Mild = Callable[..., MildPipeline]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small lose more to waiting for each other's threads than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def milds(tmp_path_factory: pytest.TempPathFactory) -> Mild:
    base = tmp_path_factory.mktemp("mild")
    made: dict[tuple[str, int], MildPipeline] = {}

    def find(family: str = "sd", crop_side: int = 32) -> MildPipeline:
        key = (family, crop_side)
        if key not in made:
            made[key] = make_mild(base / family, family, crop_side=crop_side)
        return made[key]

    return find


def final_latents(mild: MildPipeline, given: MildInput, **settings: Any) -> dict[str, torch.Tensor]:
    """Return every branch's latents after the last step."""
    kept: dict[str, torch.Tensor] = {}

    def keep(_pipe: Any, _step: int, _t: Any, found: dict[str, Any]) -> dict[str, Any]:
        kept.update(found["latents"])
        return found

    mild(given, num_inference_steps=STEPS, callback_on_step_end=keep, **settings)
    return kept


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("crop_side", [32, SIDE])
def test_one_batch_is_one_by_one(milds: Mild, family: str, crop_side: int) -> None:
    """With crops as large as the (square) frame all branches are one batch, else two."""
    mild = milds(family, crop_side)
    given = make_input(3, height=96, width=96)
    sizes: list[int] = []
    handle = mild.unet.register_forward_pre_hook(
        lambda _m, args, _k: sizes.append(len(args[0])), with_kwargs=True
    )
    together = final_latents(mild, given)
    alone = final_latents(mild, given, chunk=1)
    handle.remove()
    calls = [4] if crop_side == SIDE else [1, 3]
    assert sizes == calls * STEPS + [1] * 4 * STEPS
    assert set(together) == {"background", "p1", "p2", "p3"}
    for name, latents in together.items():
        assert torch.allclose(latents, alone[name], atol=1e-4, rtol=0), name


@pytest.mark.parametrize("sma", [True, False])
def test_in_double_precision_one_batch_is_one_by_one_to_the_last_digits(
    tmp_path: Path, sma: bool
) -> None:
    """What is left in float32 is rounding, whatever the guidance's weights make of it."""
    mild = make_mild(tmp_path / "sd", "sd", crop_side=SIDE)
    for weight in (mild.hmg.project.weight, mild.hmg.maps.conv_out.weight):
        weight.data.normal_(std=0.3, generator=torch.Generator().manual_seed(0))
    for part in (mild.unet, mild.vae, mild.hmg, mild.alpha_head, mild.network.sma):
        part.double()
    given = make_input(3, height=96, width=96)
    together, alone = (final_latents(mild, given, sma=sma, chunk=chunk) for chunk in (8, 1))
    for name, latents in together.items():
        assert latents.dtype == torch.float64
        assert torch.allclose(latents, alone[name], atol=1e-8, rtol=0), name


def test_each_sample_has_its_own_adapter(milds: Mild) -> None:
    network = milds().network
    given = make_input(2, height=96, width=96)
    layout = picture_layout((96, 96), SIDE, SIDE, 0.3, milds().multiple)
    branches = branches_of(given, layout, layers=True)
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        condition = network.condition(branches, milds().codec)
        mixed = network.predict(latents, 500, condition).noise
        for kind in KINDS:
            network.unet.set_adapter(kind)  # diffusers' own way, one adapter for the whole batch
            noise = network.unet(
                torch.cat([latents, condition.known], dim=1),
                500,
                encoder_hidden_states=condition.context,
                encoder_attention_mask=condition.is_token,
            ).sample  # SMA's sides are still set
            for row, one in enumerate(condition.kinds):
                assert torch.allclose(noise[row], mixed[row], atol=1e-5) == (one == kind)


def test_gradients_reach_both_adapters_and_nothing_of_the_base(milds: Mild, tmp_path: Path) -> None:
    mild = make_mild(tmp_path / "sd", "sd")
    network = mild.network
    layout = picture_layout((80, 96), SIDE, 64, 0.3, mild.multiple)
    background, *people = branches_of(make_input(1), layout, layers=True)
    loss = torch.zeros(())
    for branch in (background, *people):
        condition = network.condition([branch], mild.codec)
        height, width = condition.known.shape[2:]
        prediction = network.predict(torch.ones(1, 4, height, width), 500, condition)
        loss = loss + prediction.noise.square().mean()
        if branch.kind == "fg":
            loss = loss + network.alpha_logits(prediction, [0]).square().mean()
    loss.backward()
    trained = network.trainable()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in trained.items() if "lora" in n
    )
    ours = {id(parameter) for parameter in trained.values()}
    base = [p for p in (*mild.unet.parameters(), *mild.vae.parameters()) if id(p) not in ours]
    assert base
    assert all(parameter.grad is None for parameter in base)
    assert len(ours) == len(trained)


def test_chunks_bound_the_batch_and_change_nothing(milds: Mild) -> None:
    mild, given = milds(), make_input(5)
    sizes: list[int] = []
    handle = mild.unet.register_forward_pre_hook(
        lambda _m, args, _k: sizes.append(len(args[0])), with_kwargs=True
    )
    outputs = [mild(given, num_inference_steps=STEPS, chunk=chunk) for chunk in (8, 2)]
    handle.remove()
    assert max(sizes[: 2 * STEPS]) == 5
    assert max(sizes[2 * STEPS :]) == 2
    for one, other in zip(*(found.layers.items() for found in outputs), strict=True):
        assert one[0] == other[0]
        assert np.abs(one[1].astype(int) - other[1]).max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_save_and_load_gives_the_same_pictures(family: str, tmp_path: Path) -> None:
    mild, given = make_mild(tmp_path / "base", family), make_input(2)
    mild.save_pretrained(tmp_path / "mild")
    assert not list((tmp_path / "mild").rglob("*.bin"))
    loaded = MildPipeline.from_pretrained(tmp_path / "mild", local_files_only=True)
    loaded.set_progress_bar_config(disable=True)
    first, second = (one(given, num_inference_steps=STEPS) for one in (mild, loaded))
    assert np.array_equal(first.painted, second.painted)
    assert all(np.array_equal(first.layers[n], second.layers[n]) for n in first.layers)
    assert dict(loaded.config)["crop_side"] == 32


def test_the_saved_base_is_the_base(milds: Mild, tmp_path: Path) -> None:
    """A UNet saved with its adapters would reload with random attention."""
    from diffusers import UNet2DConditionModel

    mild = milds()
    mild.save_pretrained(tmp_path)
    plain, info = UNet2DConditionModel.from_pretrained(tmp_path / "unet", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    ours = {
        name.replace(".base_layer.", "."): value
        for name, value in mild.unet.state_dict().items()
        if ".lora_" not in name
    }
    assert all(torch.equal(value, ours[name]) for name, value in plain.state_dict().items())


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("mild/adapters.safetensors", "adapters"),
        ("mild/sma.safetensors", "sma"),
        ("hmg/diffusion_pytorch_model.safetensors", "HumanMorphologyGuidance"),
        ("unet/diffusion_pytorch_model.safetensors", "UNet2DConditionModel"),
    ],
)
def test_a_checkpoint_that_lacks_a_key_says_which(
    milds: Mild, tmp_path: Path, file: str, said: str
) -> None:
    milds().save_pretrained(tmp_path)
    state = load_file(tmp_path / file)
    lost = sorted(state)[3]
    save_file({n: v for n, v in state.items() if n != lost}, tmp_path / file, {"format": "pt"})
    with pytest.raises(BadInput, match=said) as caught:
        MildPipeline.from_pretrained(tmp_path, local_files_only=True)
    assert lost in str(caught.value)


def test_adapters_of_another_rank_say_both_shapes(milds: Mild) -> None:
    adapters = milds().network.adapters
    state = {name: value.repeat(2, 1) for name, value in adapters.state_dict().items()}
    name = min(state)
    ours = " x ".join(map(str, adapters.state_dict()[name].shape))
    with pytest.raises(BadInput, match=f"{name} is .* instead of {ours}"):
        adapters.load_state_dict(state)


def test_a_folder_without_a_part_is_refused(milds: Mild, tmp_path: Path) -> None:
    milds().save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "mild")
    with pytest.raises(BadInput, match=r"adapters\.safetensors: no such file"):
        MildPipeline.from_pretrained(tmp_path, local_files_only=True)


def test_another_pipeline_is_refused(milds: Mild, tmp_path: Path) -> None:
    make_mild(tmp_path / "sd", "sd")
    with pytest.raises(BadInput, match="got a StableDiffusionInpaintPipeline; make one"):
        MildPipeline.from_pretrained(tmp_path / "sd")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_runs(milds: Mild, tmp_path: Path, dtype: torch.dtype) -> None:
    milds().save_pretrained(tmp_path)
    half = MildPipeline.from_pretrained(tmp_path, torch_dtype=dtype)
    half.set_progress_bar_config(disable=True)
    assert half.unet.conv_in.weight.dtype == dtype
    given = make_input(1)
    one, whole = (mild(given, num_inference_steps=1) for mild in (half, milds()))
    assert np.abs(one.painted.astype(float) - whole.painted).mean() < 4


def test_a_tiny_autoencoder_does(tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    mild = make_mild(tmp_path / "sd", "sd")
    widths = (8, 8, 8)
    vae = AutoencoderTiny(
        encoder_block_out_channels=widths, decoder_block_out_channels=widths,
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    )  # fmt: skip
    mild.register_modules(vae=vae.eval())
    mild.codec = Codec(mild.vae)
    mild.save_pretrained(tmp_path / "tiny")
    loaded = MildPipeline.from_pretrained(tmp_path / "tiny")
    loaded.set_progress_bar_config(disable=True)
    first, second = (one(make_input(1), num_inference_steps=1) for one in (mild, loaded))
    assert np.array_equal(first.painted, second.painted)


@pytest.mark.parametrize("crop_side", [32, SIDE])
def test_strength_shortens_the_backgrounds_way_only(milds: Mild, crop_side: int) -> None:
    mild, given = milds("sd", crop_side), make_input(2, height=96, width=96)
    parts: list[tuple[str, ...]] = []
    handle = mild.unet.register_forward_pre_hook(lambda *_: parts.append(mild.attention_parts))
    whole = final_latents(mild, given)
    plain, parts[:] = sum("background" in one for one in parts), []
    late = final_latents(mild, given, strength=0.5)
    handle.remove()
    assert plain == STEPS
    assert sum("background" in one for one in parts) == STEPS - round(STEPS / 2)
    assert not torch.allclose(late["background"], whole["background"], atol=1e-3)
    for name in ("p1", "p2"):
        assert torch.allclose(late[name], whole[name], atol=1e-4)
    with pytest.raises(BadInput, match="strength must be above 0 and at most 1, got 0"):
        mild(given, strength=0.0)


def test_little_strength_stays_near_what_is_known(milds: Mild) -> None:
    """At full length the background comes from noise; late, from the filled hole."""
    mild, given = milds(), make_input(1, height=96, width=96)
    (branch,) = branches_of(given, picture_layout((96, 96), SIDE, 32, 0.15, 8), layers=False)
    known = Codec(mild.vae).encode(branch.picture[None])
    found = []
    for strength in (0.02, 1.0):
        kept: list[torch.Tensor] = []

        def keep(_pipe: Any, _step: int, _t: Any, now: dict[str, Any], kept: Any = kept) -> Any:
            kept.append(now["latents"]["background"])
            return now

        mild(given, num_inference_steps=50, strength=strength, callback_on_step_end=keep)
        found.append(float((kept[0] - known).square().mean()))
    assert found[0] < 0.2 * found[1]


def test_sma_off_is_the_model_with_zero_biases(milds: Mild) -> None:
    mild, given = milds(), make_input(2)
    on, off = (final_latents(mild, given, sma=sma) for sma in (True, False))
    state = {name: value.clone() for name, value in mild.network.sma.state_dict().items()}
    for alpha in mild.network.sma.parameters():
        alpha.data.zero_()
    plain = final_latents(mild, given)
    mild.network.sma.load_state_dict(state)
    assert all(torch.allclose(off[name], plain[name], atol=1e-4) for name in off)
    assert all(not torch.allclose(off[name], on[name], atol=1e-2) for name in off)


def test_every_mode_of_the_guidance_paints_another_picture(milds: Mild) -> None:
    found = [final_latents(milds(), make_input(2), hmg=mode) for mode in MODES]
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            assert all(not torch.allclose(one[name], other[name], atol=1e-4) for name in one)


def test_the_background_is_the_same_without_layers(milds: Mild) -> None:
    with_layers, without = (
        milds()(make_input(3), num_inference_steps=STEPS, layers=layers) for layers in (True, False)
    )
    assert np.array_equal(with_layers.painted, without.painted)
    assert list(without.layers) == []
    assert len(with_layers.layers) == 3


def test_who_stays_at_the_hole_is_taken_apart_too(milds: Mild) -> None:
    """The frame is painted without them, and they are drawn on it again, complete."""
    everybody = make_input(3)
    given = replace(everybody, erase=("p2",), hole=everybody.visible("p2"), rim=2)
    assert given.at_the_hole() == ("p1", "p3")
    output, plain = (
        milds()(given, num_inference_steps=STEPS, complete=complete) for complete in (True, False)
    )
    assert list(output.layers) == list(plain.layers) == ["p2"]
    assert set(output.staying) == {"p1", "p3"} and not plain.staying
    assert output.metadata["branches"] == 4
    for one in (output, plain, output.refined(), plain.refined()):
        kept = ~given.unseen()
        assert np.array_equal(one.background[kept], given.picture[kept])
    stays = everybody.visible("p1")
    assert np.array_equal(plain.frame(), plain.painted)
    assert np.array_equal(output.frame()[stays], given.picture[stays])
    assert not np.array_equal(output.painted[stays], given.picture[stays])
    clear = given.hole & (np.max([one[..., 3] for one in output.staying.values()], axis=0) == 0)
    assert np.array_equal(output.background[clear], output.painted[clear])
    drawn = given.hole & ~clear
    assert drawn.any() and not np.array_equal(output.background[drawn], output.painted[drawn])
    again = output.recompose()
    shown = (given.people > 0) | ~given.unseen()
    assert np.array_equal(again[shown], given.picture[shown])


def test_far_people_stay_as_they_are(milds: Mild) -> None:
    given = make_input(4, width=200)
    first = replace(given, erase=("p1",), hole=given.visible("p1"))
    assert first.at_the_hole() == ()
    assert not milds()(first, num_inference_steps=1).staying


def test_generators_decide(milds: Mild) -> None:
    def run(seed: int) -> Any:
        state = torch.get_rng_state()
        made = milds()(
            make_input(1), num_inference_steps=STEPS, generator=torch.Generator().manual_seed(seed)
        )
        assert torch.equal(state, torch.get_rng_state())
        return made

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first.painted, again.painted)
    assert np.array_equal(first.layers["p1"], again.layers["p1"])
    assert not np.array_equal(first.painted, other.painted)


def test_callbacks_see_every_step_and_may_change_latents(milds: Mild) -> None:
    mild, given = milds(), make_input(1)
    seen: list[int] = []

    def blank(pipe: Any, step: int, timestep: Any, found: dict[str, Any]) -> dict[str, Any]:
        assert pipe is mild
        assert timestep > 0
        seen.append(step)
        return {"latents": {name: torch.zeros_like(one) for name, one in found["latents"].items()}}

    blanked = mild(given, num_inference_steps=3, callback_on_step_end=blank)
    nothing = mild.codec.decode(torch.zeros(1, 4, 14, 16))
    assert seen == [0, 1, 2]
    assert np.array_equal(
        blanked.painted,
        np.asarray((given.back(nothing[0]) * 255).round().byte().permute(1, 2, 0)),
    )


def test_changes_to_a_smooth_filling_are_made_at_the_pictures_size(tmp_path: Path) -> None:
    """Who changes nothing gives OpenCV's Telea at full size, whatever the autoencoder loses."""
    mild, given = make_mild(tmp_path / "sd"), make_input(1, height=160, width=192)
    mild.register_to_config(fill="smooth")
    layout = picture_layout((160, 192), SIDE, 32, 0.15, mild.multiple, "smooth")
    (branch,) = branches_of(given, layout, layers=False)
    known = mild.codec.encode(branch.picture[None])

    def unchanged(_pipe: Any, _step: int, _t: Any, _found: Any) -> dict[str, Any]:
        return {"latents": {"background": known + brighter}}

    filled = cv2.inpaint(given.picture, given.hole.astype(np.uint8), 3, cv2.INPAINT_TELEA)
    brighter = torch.zeros(1)
    same = mild(given, num_inference_steps=1, layers=False, callback_on_step_end=unchanged)
    assert np.array_equal(same.painted, filled)
    brighter = torch.full((1,), 0.5)
    other = mild(given, num_inference_steps=1, layers=False, callback_on_step_end=unchanged)
    assert not np.array_equal(other.painted, filled)
    assert np.array_equal(other.background[~given.hole], given.picture[~given.hole])


def test_the_progress_bar_counts_steps(milds: Mild, capsys: pytest.CaptureFixture[str]) -> None:
    milds().set_progress_bar_config(disable=False)
    milds()(make_input(0), num_inference_steps=3)
    milds().set_progress_bar_config(disable=True)
    assert "3/3" in capsys.readouterr().err


@pytest.mark.parametrize(
    "scheduler",
    ["EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "EulerAncestralDiscreteScheduler",
     "DDPMScheduler", "UniPCMultistepScheduler"],
)  # fmt: skip
def test_other_schedulers_keep_branches_apart(milds: Mild, scheduler: str) -> None:
    """Those that remember steps or draw noise in them, too."""
    import diffusers

    mild = milds()
    before = mild.scheduler
    mild.scheduler = getattr(diffusers, scheduler).from_config(before.config)
    try:
        given = make_input(2)
        together, alone = (final_latents(mild, given, chunk=chunk) for chunk in (8, 1))
    finally:
        mild.scheduler = before
    assert all(torch.allclose(together[name], alone[name], atol=1e-4) for name in together)


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_are_read(milds: Mild, family: str) -> None:
    mild, given = milds(family), make_input(1)
    empty, told, person = (
        final_latents(mild, given, **words)
        for words in ({}, {"prompt": "empty street"}, {"person_prompt": "a man"})
    )
    assert not torch.allclose(empty["background"], told["background"], atol=1e-4)
    assert torch.allclose(empty["p1"], told["p1"], atol=1e-4)
    assert not torch.allclose(empty["p1"], person["p1"], atol=1e-4)


def test_no_text_encoder_no_prompt(milds: Mild, tmp_path: Path) -> None:
    mild = make_mild(tmp_path / "sd", "sd")
    mild.register_modules(text_encoder=None, tokenizer=None)
    assert mild(make_input(1), num_inference_steps=1).layers
    with pytest.raises(BadInput, match="no text encoder"):
        mild(make_input(1), num_inference_steps=1, prompt="street")


def test_other_bases_are_refused(tmp_path: Path) -> None:
    mild = make_mild(tmp_path / "sd", "sd")
    with pytest.raises(BadInput, match="LoRA layers already"):
        Adapters(mild.unet, AdapterSettings())
    with pytest.raises(BadInput, match="width 32, got 16"):
        MildNetwork(mild.unet, HumanMorphologyGuidance(16, 32), mild.alpha_head)
    with pytest.raises(BadInput, match="9 input channels"):
        from diffusers import UNet2DConditionModel

        plain = UNet2DConditionModel(
            block_out_channels=(32,),
            down_block_types=("DownBlock2D",),
            up_block_types=("UpBlock2D",),
            cross_attention_dim=32,
        )
        MildNetwork(plain, HumanMorphologyGuidance(32, 32), AlphaHead(32, 4))
    with pytest.raises(BadInput, match="rank from 1"):
        AdapterSettings(rank=0)


def test_everything_adapts_convolutions_too(tmp_path: Path) -> None:
    base = make_mild(tmp_path / "sd", "sd")
    few = len(base.network.adapters.state_dict())
    from diffusers import StableDiffusionInpaintPipeline

    again: Any = StableDiffusionInpaintPipeline.from_pretrained(tmp_path / "sd")
    mild = MildPipeline.from_base(again, side=SIDE, crop_side=32, rank=2, targets="everything")
    mild.set_progress_bar_config(disable=True)
    assert len(mild.network.adapters.state_dict()) > few
    for name, parameter in mild.network.trainable().items():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    given = make_input(2)
    together, alone = (final_latents(mild, given, chunk=chunk) for chunk in (8, 1))
    assert all(torch.allclose(together[name], alone[name], atol=1e-4) for name in together)
