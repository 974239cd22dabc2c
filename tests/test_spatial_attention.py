"""SMA: the same as a dense bias, without ever being dense; the model itself when switched off."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.models.attention_processor import Attention, AttnProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mild_bench.errors import BadInput
from mild_bench.mild.biased_attention import biased_attention
from mild_bench.mild.spatial_attention import SpatialAttention
from mild_bench.mild.spatial_processor import SpatialAttnProcessor
from mild_bench.mild.spatial_sides import grid_of, sides_of_cells

HIGH, WIDE = 96, 160  # of the pictures: latents of 12 x 20


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float | None = None
) -> Tensor:
    """Softmax with the bias added to materialised logits, in float64."""
    q, k, v, b = (one.double() for one in (query, key, value, bias))
    logits = q @ k.mT * (query.shape[-1] ** -0.5 if scale is None else scale) + b
    return logits.softmax(-1) @ v


def bias_of(alpha: Tensor, query_sides: Tensor, key_sides: Tensor) -> Tensor:
    """Look the bias up for every pair: batch x heads x queries x keys."""
    by_query = torch.stack([alpha[:, row] for row in query_sides.argmax(-1)])
    picked = [one[:, :, row] for one, row in zip(by_query, key_sides.argmax(-1), strict=True)]
    on_side = (query_sides.sum(-1)[:, :, None] * key_sides.sum(-1)[:, None])[:, None]
    return torch.stack(picked) * on_side


def one_hots(batch: int, tokens: int, sides: int, seed: int) -> Tensor:
    picked = torch.randint(0, sides, (batch, tokens), generator=rng(seed))
    return functional.one_hot(picked, sides).float()


def close(got: Tensor, expected: Tensor, *, of: float = 1.0) -> None:
    limit = 1e-5 * max(of, expected.abs().max().item(), 1.0)
    assert (got.double() - expected.double()).abs().max().item() <= limit


# --- the function -------------------------------------------------------------------------------


@given(
    batch=st.integers(1, 3), heads=st.integers(1, 4), queries=st.integers(1, 40),
    keys=st.integers(1, 40), channels=st.sampled_from([1, 4, 7, 8, 40, 64]),
    sides=st.integers(1, 10), scale=st.sampled_from([None, 0.05, 0.2]), seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
@pytest.mark.parity
def test_it_equals_a_dense_bias_and_so_do_its_gradients(
    batch: int, heads: int, queries: int, keys: int, channels: int, sides: int,
    scale: float | None, seed: int,
) -> None:  # fmt: skip
    g = rng(seed)
    shapes = [(batch, heads, queries, channels)] + [(batch, heads, keys, channels)] * 2
    leaves = [torch.randn(*shape, generator=g) for shape in (*shapes, (heads, sides, sides))]
    leaves[3] *= 3
    towards = torch.randn(batch, heads, queries, channels, generator=g)
    ours, theirs = ([one.clone().requires_grad_() for one in leaves] for _ in range(2))
    query_sides, key_sides = one_hots(batch, queries, sides, seed), one_hots(batch, keys, sides, 1)
    query_sides[:, 0] = 0  # a token of no side

    got = biased_attention(*ours, query_sides, key_sides, scale=scale)
    bias = bias_of(theirs[3], query_sides, key_sides)
    bias.retain_grad()
    expected = dense(*theirs[:3], bias, scale)
    close(got, expected)
    (got * towards).sum().backward()
    (expected * towards).sum().backward()
    assert bias.grad is not None
    terms = bias.grad.abs().sum((0, 2, 3)).max().item()  # alpha's gradient is a sum of these
    for mine, other, of in zip(ours, theirs, (1.0, 1.0, 1.0, terms), strict=True):
        assert mine.grad is not None and other.grad is not None
        close(mine.grad, other.grad, of=of)


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(torch.float32, 40), (torch.bfloat16, 40), (torch.float16, 40), (torch.float16, 256)],
)
def test_minus_infinity_hides_a_side_exactly(dtype: torch.dtype, channels: int) -> None:
    query, key, value = (torch.randn(2, 3, 50, channels, generator=rng(seed)) for seed in range(3))
    query, key = (query * 4).to(dtype), (key * 4).to(dtype)
    sides = one_hots(2, 50, 3, 5)
    sides[1] = functional.one_hot(torch.zeros(50).long(), 3)  # two sides without any token
    alpha = torch.full((3, 3, 3), -torch.inf)
    alpha.diagonal(dim1=1, dim2=2).copy_(torch.randn(3, 3, generator=rng(9)))
    alpha.requires_grad_()
    value = value.to(dtype).requires_grad_()

    got = biased_attention(query, key, value, alpha, sides, sides)
    noise = torch.where(sides[..., :1].bool(), 0.0, 1000.0)[:, None].to(dtype)
    shouted = biased_attention(query, key, value + noise, alpha, sides, sides)
    on_first = sides[..., 0].bool()[:, None].expand(-1, 3, -1)
    assert torch.equal(shouted[on_first], got[on_first])
    assert not torch.equal(shouted[~on_first], got[~on_first])

    got.float().square().sum().backward()
    assert alpha.grad is not None and value.grad is not None
    assert got.isfinite().all() and value.grad.isfinite().all() and alpha.grad.isfinite().all()
    assert (alpha.grad[alpha.detach() == -torch.inf] == 0).all()
    if dtype is torch.float32:
        finite = alpha.detach().nan_to_num(neginf=-1e9)  # bias_of multiplies
        close(got, dense(query, key, value, bias_of(finite, sides, sides)))


@pytest.mark.parametrize(("tokens", "backward"), [(16384, False), (4096, True)])
def test_nothing_of_tokens_by_tokens_exists(tokens: int, backward: bool) -> None:
    one_map = tokens**2 * 4 / 1e6  # one head's logits: 1,074 and 67 MB
    assert float(python(f"{MEMORY}\nprint(growth({tokens}, {backward}))")) < 0.2 * one_map


MEMORY = """
import torch
from mild_bench.mild.biased_attention import biased_attention
from mild_bench.run.peak import measured
torch.set_num_threads(2)
def run(tokens, backward):
    one_hot = torch.nn.functional.one_hot(torch.arange(tokens) % 2)[None].float()
    q, k, v = (torch.randn(1, 1, tokens, 8).requires_grad_(backward) for _ in range(3))
    alpha = torch.zeros(1, 2, 2, requires_grad=backward)
    out = biased_attention(q, k, v, alpha, one_hot, one_hot)
    if backward: out.sum().backward()
def growth(tokens, backward):
    run(64, backward)
    with measured() as before: pass
    with measured() as cost: run(tokens, backward)
    return cost.peak_mb - before.peak_mb
"""


def python(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# --- sides --------------------------------------------------------------------------------------


@given(height=st.integers(1, 40), width=st.integers(1, 40), power=st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_the_grid_is_the_one_that_strided_layers_make(height: int, width: int, power: int) -> None:
    rows, columns = height, width
    for _ in range(power):
        rows, columns = -(-rows // 2), -(-columns // 2)
    assert grid_of(rows * columns, 8 * height, 8 * width) == (rows, columns)


def test_a_number_of_tokens_that_fits_no_grid_is_refused() -> None:
    with pytest.raises(BadInput, match="a layer has 7 tokens, which no square cell size makes"):
        grid_of(7, 64, 64)


def test_a_cell_goes_to_the_people_at_the_threshold_then_to_who_has_most() -> None:
    labels = torch.zeros(1, 4, 12, dtype=torch.long)
    labels[0, :2, :4] = 1  # half of the first cell
    labels[0, :1, 4:8] = 1  # a quarter and a quarter and a bit: together above half, 2 has most
    labels[0, 1:2, 4:8] = 2
    labels[0, 2, 4] = 2
    labels[0, 0, 8:11] = 1  # 3 of 16 pixels
    assert sides_of_cells(labels, (1, 3)).tolist() == [[1, 2, 0]]
    assert sides_of_cells(labels, (1, 3), threshold=0.51).tolist() == [[0, 2, 0]]
    assert sides_of_cells(labels, (1, 3), threshold=0.1).tolist() == [[1, 2, 1]]
    assert sides_of_cells(labels * 0, (2, 2)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(4, 4).bool(), r"batch x height x width, got torch.bool of shape \(4, 4\)"),
        (torch.zeros(1, 4, 4), "bool or integer maps"),
        (torch.full((1, 4, 4), -1), "got -1"),
    ],
)
def test_maps_that_are_none_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        SpatialAttention({"a": 1}).set_sides(labels)


# --- models -------------------------------------------------------------------------------------


def sd_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=16,
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), attention_head_dim=2,
    )  # fmt: skip


def sdxl_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), cross_attention_dim=16,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4),
        transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )  # fmt: skip


def kandinsky_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn", cross_attention_dim=16,
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        attention_head_dim=4, resnet_time_scale_shift="scale_shift",
    )  # fmt: skip


def sd3() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=32, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
        attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16, qk_norm="rms_norm",
        caption_projection_dim=16, pooled_projection_dim=8, dual_attention_layers=(0,),
    )  # fmt: skip


def flux() -> FluxTransformer2DModel:
    return FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )  # fmt: skip


MODELS = {"sd": sd_unet, "sdxl": sdxl_unet, "kandinsky": kandinsky_unet, "sd3": sd3, "flux": flux}


def build(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MODELS[name]()
        if name == "sd3":  # its last layer starts at zero
            torch.nn.init.normal_(model.proj_out.weight)
    return model.eval()


def inputs(name: str, batch: int) -> dict[str, Any]:
    g = rng(3)
    latents = torch.randn(batch, 4, HIGH // 8, WIDE // 8, generator=g)
    text = torch.randn(batch, 7, 16, generator=g)
    pooled = torch.randn(batch, 16, generator=g)
    if name in ("sd", "sdxl", "kandinsky"):
        more = {"text_embeds": pooled, "time_ids": torch.ones(batch, 6)}
        more = {"added_cond_kwargs": more} if name == "sdxl" else {}
        return {"sample": latents, "timestep": 7, "encoder_hidden_states": text, **more}
    given = {"encoder_hidden_states": text, "pooled_projections": pooled[:, :8]}
    if name == "sd3":
        return {"hidden_states": latents, "timestep": torch.full((batch,), 7.0), **given}
    tokens = latents[:, :, ::2, ::2].flatten(2).mT
    ids = {"img_ids": torch.zeros(tokens.shape[1], 3), "txt_ids": torch.zeros(7, 3)}
    return {"hidden_states": tokens, "timestep": torch.full((batch,), 0.3), **given, **ids}


def labels(batch: int) -> Tensor:
    made = torch.zeros(batch, HIGH, WIDE, dtype=torch.long)
    made[0, 30:, :70] = 1
    made[0, :50, 100:] = 2
    if batch > 1:
        made[1, :, 64:] = 1
    return made


def randomise(sma: SpatialAttention) -> None:
    with torch.no_grad():
        for seed, alpha in enumerate(sma.alpha.values()):
            alpha.copy_(torch.randn(alpha.shape, generator=rng(seed)) * 2)


class Recorder(TorchFunctionMode):
    """What somebody outside, such as a probe, sees of the attention calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[dict[str, Any]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.scaled_dot_product_attention:
            names = ("query", "key", "value")
            self.calls.append({**dict(zip(names, args, strict=False)), **(kwargs or {})})
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_off_or_detached_it_is_the_model_to_the_bit_and_zero_changes_nothing(name: str) -> None:
    model, given = build(name), inputs(name, 2)
    before = dict(model.attn_processors)
    plain = model(**given).sample
    sma = SpatialAttention.of(model)
    assert torch.equal(model(**given).sample, plain)
    sma.set_sides(labels(2))
    close(model(**given).sample, plain)
    randomise(sma)
    assert (model(**given).sample - plain).abs().max() > 1e-3 * plain.abs().max()
    sma.set_sides(None)
    assert torch.equal(model(**given).sample, plain)
    sma.set_sides(labels(2))
    sma.detach()
    assert torch.equal(model(**given).sample, plain)
    assert model.attn_processors == before


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parity
@torch.no_grad()
def test_every_layer_has_the_bias_of_its_grid_and_outsiders_see_it(name: str) -> None:
    model = build(name)
    sma = SpatialAttention.of(model)
    randomise(sma)
    batch = labels(2)
    with Recorder() as plain:
        model(**inputs(name, 4))
    sma.set_sides(batch)
    with Recorder() as biased:
        model(**inputs(name, 4))
    order = layer_order(model, inputs(name, 4))
    assert len(order) == len(plain.calls) == len(biased.calls)
    seen = 0
    for layer, was, now in zip(order, plain.calls, biased.calls, strict=True):
        if layer is None:
            assert now["query"].shape[-1] == was["query"].shape[-1]
            continue
        seen += 1
        channels, text = was["query"].shape[-1], text_tokens(name, layer, was)
        tokens = was["query"].shape[2] - text[0]
        rows = next(r for r in (12, 6, 3) if tokens == r * r * 5 // 3)
        cells = sides_of_cells(batch, (rows, rows * 5 // 3)).repeat(2, 1)
        alpha = sma.table(layer, people=2)
        expected = torch.stack([alpha[:, row][:, :, row] for row in cells])
        first = name in ("flux", "kandinsky")
        pads = (text[1], 0, text[0], 0) if first else (0, text[1], 0, text[0])
        extra = now["query"][..., channels:] @ now["key"][..., channels:].mT * now["scale"]
        close(extra, functional.pad(expected, pads))
        assert now["scale"] == pytest.approx(channels**-0.5)
    assert seen == len(sma.alpha)


def text_tokens(name: str, layer: str, call: dict[str, Any]) -> tuple[int, int]:
    """How many tokens of text are among the queries and among the keys."""
    if name == "kandinsky":
        return 0, call["key"].shape[2] - call["query"].shape[2]
    joint = name in ("sd3", "flux") and not layer.endswith("attn2")
    return (7, 7) if joint else (0, 0)


def layer_order(model: Any, given: dict[str, Any]) -> list[str | None]:
    """Name the modulated layer of every attention call, None for others, in order of the calls."""
    order: list[str | None] = []
    hooks = []

    def note(name: str | None) -> Callable[..., None]:
        return lambda *_: order.append(name)

    for name, module in model.named_modules():
        if hasattr(module, "get_processor"):
            ours = isinstance(module.get_processor(), SpatialAttnProcessor)
            hooks.append(module.register_forward_pre_hook(note(name if ours else None)))
    model(**given)
    for hook in hooks:
        hook.remove()
    return order


@torch.no_grad()
def test_pictures_of_a_batch_have_their_own_sides_also_doubled_for_guidance() -> None:
    model, given = build("sd"), inputs("sd", 4)
    sma = SpatialAttention.of(model)
    randomise(sma)
    sma.set_sides(labels(2))
    together = model(**given).sample
    for index in range(4):
        alone = {**given, "sample": given["sample"][[index]]}
        alone["encoder_hidden_states"] = given["encoder_hidden_states"][[index]]
        sma.set_sides(labels(2)[[index % 2]])
        close(model(**alone).sample, together[[index]])
    sma.set_sides(labels(2)[[0, 0, 0]])
    with pytest.raises(BadInput, match="got 3 maps for a batch of 4"):
        model(**given)


@torch.no_grad()
def test_bool_masks_are_one_person_and_people_may_change_from_picture_to_picture() -> None:
    model, given = build("sd"), inputs("sd", 1)
    sma = SpatialAttention.of(model)
    randomise(sma)
    sma.set_sides(labels(1) > 0)
    one = model(**given).sample
    for alpha in sma.alpha.values():
        alpha[:, 4] = alpha[:, 3]  # others are treated as oneself
    sma.set_sides(labels(1))
    close(model(**given).sample, one)
    sma.set_sides(labels(1) * 3)  # persons 3 and 6 of 6
    close(model(**given).sample, one)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_alpha_learns_while_the_model_stays(checkpointing: bool) -> None:
    model, given = build("sd").requires_grad_(False).train(), inputs("sd", 2)
    if checkpointing:
        model.enable_gradient_checkpointing()
    sma = SpatialAttention.of(model)
    sma.set_sides(labels(2))
    randomise(sma)
    with torch.no_grad():
        goal = model(**given).sample
        for alpha in sma.alpha.values():
            alpha.zero_()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    optimiser = torch.optim.Adam(sma.parameters(), lr=0.1)
    losses = []
    for _ in range(12):
        loss = (model(**given).sample - goal).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert all((alpha != 0).all() for alpha in sma.alpha.values())
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


def test_separated_sides_train_on_without_nan_and_stay_separated() -> None:
    model, given = build("sd"), inputs("sd", 2)
    sma = SpatialAttention.of(model)
    sma.separate()
    sma.set_sides(labels(2))
    optimiser = torch.optim.AdamW(sma.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        model(**given).sample.square().mean().backward()
        optimiser.step()
    assert model(**given).sample.isfinite().all()
    for alpha in sma.alpha.values():
        assert (alpha[:, [1, 2, 4]] == -torch.inf).all() and alpha[:, [0, 3]].isfinite().all()


@torch.no_grad()
def test_alphas_go_to_safetensors_and_back(tmp_path: Path) -> None:
    model, given = build("sdxl"), inputs("sdxl", 2)
    sma = SpatialAttention.of(model)
    randomise(sma)
    next(iter(sma.alpha.values()))[:, 1] = -torch.inf
    sma.set_sides(labels(2))
    expected = model(**given).sample
    save_file(sma.state_dict(), tmp_path / "sma.safetensors")
    sma.detach()

    again = SpatialAttention.of(model)
    again.load_state_dict(load_file(tmp_path / "sma.safetensors"))
    again.set_sides(labels(2))
    assert torch.equal(model(**given).sample, expected)


@torch.no_grad()
def test_a_compiled_model_gets_the_same_bias() -> None:
    layer = Attention(query_dim=16, heads=2, dim_head=8)
    tokens = torch.randn(2, 60, 16, generator=rng())
    sma = SpatialAttention.of(model := torch.nn.Sequential(layer))
    randomise(sma)
    compiled = torch.compile(model, backend="eager")
    plain = compiled(tokens)
    sma.set_sides(labels(2))
    assert not torch.allclose(compiled(tokens), plain, atol=1e-4)
    close(compiled(tokens), model(tokens))
    sma.set_sides(None)
    close(compiled(tokens), plain)


# --- what is refused ----------------------------------------------------------------------------


def test_what_cannot_be_modulated_is_refused_before_anything_changes() -> None:
    model = build("sd")
    model.set_attn_processor(AttnProcessor())
    with pytest.raises(BadInput, match=r"attn1: expected .*AttnProcessor2_0.*, got AttnProcessor;"):
        SpatialAttention.of(model)
    with pytest.raises(BadInput, match="self or joint attention, got none"):
        SpatialAttention.of(torch.nn.Linear(2, 2))
    other = SpatialAttention.of(build("sd"))
    with pytest.raises(BadInput, match="attached already"):
        other.attach(build("sd"))
    other.detach()
    with pytest.raises(BadInput, match="expected the 4 layers that these biases are for"):
        other.attach(build("sdxl"))


@pytest.mark.parametrize("value", [-torch.inf, torch.nan])
def test_a_side_cannot_be_kept_from_itself(value: float) -> None:
    sma = SpatialAttention({"mid.attn1": 2})
    with torch.no_grad():
        sma.alpha["mid/attn1"][1, 3] = value
    with pytest.raises(BadInput, match=r"mid\.attn1: .* must be above -inf"):
        sma.set_sides(torch.ones(1, 8, 8).bool())


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@torch.no_grad()
def test_another_attention_backend_is_refused() -> None:
    model = build("flux")
    model.set_attention_backend("flex")
    sma = SpatialAttention.of(model)
    sma.set_sides(labels(2))
    try:
        with pytest.raises(BadInput, match="expected PyTorch's own attention, got another backend"):
            model(**inputs("flux", 2))
    finally:
        model.set_attention_backend("native")  # diffusers changes it for every model
