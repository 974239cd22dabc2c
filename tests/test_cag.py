"""The attention gap: exact, never in the way, and honest where it has no value."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_pipelines import FAMILIES, make_pipeline
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from mild_bench.errors import BadInput
from mild_bench.metrics.cag import masses as masses_module
from mild_bench.metrics.cag.accumulate import AttentionGap, Leakage
from mild_bench.metrics.cag.layout import TEXT_ORDER
from mild_bench.metrics.cag.masses import attention_with_masses, keeps_bits, masses
from mild_bench.metrics.cag.probe import GUIDED, AttentionProbe, probe_pipeline
from mild_bench.metrics.cag.regions import Grid, Regions, find_grid
from mild_bench.metrics.cag.statistics import CallStatistics, Groups, statistics
from mild_bench.metrics.cag.trace import Trace

STEP = 2
SIZE = (64, 96)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    yield
    torch.set_num_threads(before)


def plain_statistics(
    query: Tensor, key: Tensor, groups: Groups, mask: Tensor | None, scale: float
) -> dict[str, Tensor]:
    """The definitions, word by word, on a materialised map in float64."""
    logits = query.double() @ key.double().transpose(-1, -2) * scale
    if mask is not None and mask.dtype == torch.bool:
        logits = logits.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        logits = logits + mask.double()
    chances = logits.softmax(dim=-1)
    inside, ground, people = groups.region, groups.background, groups.figures
    near = logits[:, :, inside]
    on_ground, on_people = (chances[:, :, inside][..., side].sum(-1) for side in (ground, people))
    odds = (on_ground / len(ground)).log() - (on_people / len(people)).log()
    matrix = torch.stack(
        [
            torch.stack(
                [
                    chances[:, :, groups.queries == row][..., groups.keys == column]
                    .sum(-1)
                    .mean(-1)
                    for column in range(groups.count)
                ],
                dim=-1,
            )
            for row in range(groups.count)
        ],
        dim=-2,
    )
    return {
        "leakage": on_people.mean(-1),
        "cag": odds.mean(-1),
        "logit_gap": (near[..., ground].mean(-1) - near[..., people].mean(-1)).mean(-1),
        "margin": (near[..., ground].amin(-1) - near[..., people].amax(-1)).amin(-1),
        "matrix": matrix,
    }


def probed(
    query: Tensor, key: Tensor, value: Tensor, groups: Groups, mask: Tensor | None, scale: float
) -> CallStatistics:
    found = attention_with_masses(
        query, key, value, groups.keys, groups.count, mask=mask, scale=scale
    )
    return statistics(found.masses, query, key, groups, mask=mask, scale=scale, with_margin=True)


def groups_of(labels: Tensor, people: int) -> Groups:
    return Groups.of(labels, labels, (labels >= 1) & (labels <= people), people=people)


def draw(shape: tuple[int, ...], seed: int, size: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * size


def filled_labels(tokens: int, groups: int, seed: int) -> Tensor:
    """Every group has a token; all but one may have only one."""
    some = torch.randint(0, groups, (tokens,), generator=torch.Generator().manual_seed(seed))
    some[:groups] = torch.arange(groups)
    return some


@settings(max_examples=60, deadline=None)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    tokens=st.integers(4, 300),
    width=st.sampled_from([4, 8, 24, 32, 40, 64]),
    people=st.integers(1, 3),
    bias=st.sampled_from(["none", "dense", "rows", "bool"]),
    seed=st.integers(0, 2**20),
)
def test_equals_the_definitions_on_a_materialised_map_in_float64(
    batch: int, heads: int, tokens: int, width: int, people: int, bias: str, seed: int
) -> None:
    query, key, value = (draw((batch, heads, tokens, width), seed + n) for n in range(3))
    groups = groups_of(filled_labels(tokens, people + 1, seed), people)
    mask = {
        "none": None,
        "dense": draw((batch, heads, tokens, tokens), seed + 3),
        "rows": draw((1, 1, tokens), seed + 3)[0],
        "bool": draw((tokens, tokens), seed + 3) > 1.0,
    }[bias]
    if bias == "bool" and mask is not None:
        mask[:, : people + 1] = True  # every group can be seen, or CAG is infinite
        mask[:, groups.background] = True
        mask[:, groups.figures] = True
    scale = width**-0.5
    want = plain_statistics(query, key, groups, mask, scale)
    got = probed(query, key, value, groups, mask, scale)
    assert torch.allclose(got.leakage.double(), want["leakage"], rtol=1e-5, atol=0)
    assert torch.allclose(got.matrix.double(), want["matrix"], rtol=1e-5, atol=0)
    # Differences of logits: the error is relative to the logits, which are of size 1 to 10.
    for name in ("cag", "logit_gap", "margin"):
        assert torch.allclose(getattr(got, name).double(), want[name], rtol=1e-5, atol=1e-5), name


@pytest.mark.parametrize(
    ("tokens", "width", "heads"), [(1024, 64, 2), (1000, 40, 8), (77, 32, 3), (9, 8, 2), (1, 80, 1)]
)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str
)
def test_output_is_the_bare_output_bit_for_bit(
    tokens: int, width: int, heads: int, masked: bool, dtype: torch.dtype
) -> None:
    query, key, value = (
        draw((2, tokens, heads, width), n).to(dtype).transpose(1, 2) for n in range(3)
    )
    mask = draw((2, 1, tokens, tokens), 4).to(dtype) if masked else None
    labels = torch.arange(tokens) % 3
    bare = scaled_dot_product_attention(query, key, value, attn_mask=mask)
    for _ in range(STEP):
        ours = attention_with_masses(query, key, value, labels, 3, mask=mask)
        assert torch.equal(ours.output, bare)
        assert ours.output.stride() == bare.stride()
        assert ours.masses.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_two_calls_where_widening_would_change_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    query, key, value = (draw((1, 2, 256, 64), n) for n in range(3))
    labels = torch.arange(256) % 3
    assert keeps_bits(query, key, value, None, 3)
    fair = attention_with_masses(query, key, value, labels, 3)
    widened = masses_module._widened
    monkeypatch.setattr(masses_module, "_TRIED", {})
    monkeypatch.setattr(masses_module, "_widened", lambda *args: widened(*args) * (1 + 1e-6))
    assert not keeps_bits(query, key, value, None, 3)
    ours = attention_with_masses(query, key, value, labels, 3)
    assert torch.equal(ours.output, scaled_dot_product_attention(query, key, value))
    assert torch.allclose(ours.masses, fair.masses, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    query, key, value = (draw((2, 2, 500, 40), n).to(dtype) for n in range(3))
    groups = groups_of(filled_labels(500, 3, 0), 2)
    want = plain_statistics(query, key, groups, None, 40**-0.5)
    got = probed(query, key, value, groups, None, 40**-0.5)
    for name, value_ in want.items():
        assert torch.allclose(getattr(got, name).double(), value_, rtol=1e-5, atol=1e-5), name


def test_masses_too_small_for_a_float_come_from_the_logits() -> None:
    query = draw((1, 2, 64, 32), 0)
    key = draw((1, 2, 64, 32), 1)
    groups = groups_of(filled_labels(64, 2, 2), 1)
    bias = torch.zeros(64, 64)
    bias[:, groups.figures] = -300.0
    want = plain_statistics(query, key, groups, bias, 32**-0.5)
    got = probed(query, key, key, groups, bias, 32**-0.5)
    assert float(got.leakage.max()) == 0.0
    assert torch.allclose(got.cag.double(), want["cag"], rtol=1e-6)
    assert (got.cag > 290).all()


def test_a_bias_moves_gap_and_margin_by_what_it_adds_and_hard_separation_is_infinite() -> None:
    query, key = draw((1, 2, 50, 16), 0), draw((1, 2, 50, 16), 1)
    groups = groups_of(filled_labels(50, 2, 2), 1)
    bias = torch.zeros(50)
    bias[groups.figures] = -2.5
    before, after = (probed(query, key, key, groups, b, 0.25) for b in (None, bias[None]))
    for name in ("cag", "logit_gap", "margin"):
        moved = getattr(after, name) - getattr(before, name)
        assert torch.allclose(moved, torch.full_like(moved, 2.5), atol=1e-5), name
    bias[groups.figures] = -torch.inf
    hard = probed(query, key, key, groups, bias[None], 0.25)
    assert (hard.leakage == 0).all()
    assert torch.isposinf(hard.cag).all()
    assert not hard.matrix.isnan().any()


def test_bias_in_extra_channels_counts_as_logits() -> None:
    query, key, value = (draw((1, 2, 60, 16), n) for n in range(3))
    groups = groups_of(filled_labels(60, 2, 3), 1)
    side = torch.nn.functional.one_hot(groups.keys, 2).float().expand(1, 2, -1, -1)
    alpha = torch.tensor([[0.0, -1.0], [0.5, -3.0]])
    scale = 0.25
    wide = [torch.cat([query, side / scale], -1), torch.cat([key, side @ alpha.T], -1)]
    folded = probed(*wide, nn.functional.pad(value, (0, 2)), groups, None, scale)
    dense = probed(query, key, value, groups, alpha[groups.keys][:, groups.keys], scale)
    for name in ("leakage", "cag", "logit_gap", "margin", "matrix"):
        assert torch.allclose(getattr(folded, name), getattr(dense, name), atol=1e-5), name


def test_blind_attention_has_no_gap_and_favouring_a_side_moves_it() -> None:
    query = torch.zeros(1, 1, 40, 8)
    key = draw((1, 1, 40, 8), 0)
    groups = groups_of((torch.arange(40) < 10).long(), 1)
    blind = probed(query, key, key, groups, None, 1.0)
    assert blind.cag.item() == pytest.approx(0, abs=1e-6)
    assert blind.leakage.item() == pytest.approx(0.25)
    assert blind.logit_gap.item() == 0
    query[:] = key[:, :, groups.background].mean(2, keepdim=True)
    assert probed(query, key, key, groups, None, 1.0).cag.item() > 0


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**20), tokens=st.integers(3, 80))
def test_theorem_1_bounds_the_mass_on_people_by_the_margin(seed: int, tokens: int) -> None:
    query, key = draw((1, 1, tokens, 8), seed), draw((1, 1, tokens, 8), seed + 1)
    groups = groups_of(filled_labels(tokens, 2, seed), 1)
    found = masses(query, key, groups.keys, 2, scale=1.0)[:, :, groups.region]
    gamma = probed(query, key, key, groups, None, 1.0).margin
    bound = len(groups.figures) / len(groups.background) * torch.exp(-gamma)
    assert (found[..., 1] / found[..., 0] <= bound * (1 + 1e-4)).all()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [(torch.zeros(16), "no token is a person"), (torch.ones(16), "no token is background")],
)
def test_empty_groups_give_nan_with_a_reason(labels: Tensor, reason: str) -> None:
    query = draw((1, 2, 16, 8), 0)
    groups = Groups.of(labels.long(), labels.long(), torch.ones(16, dtype=torch.bool), people=1)
    got = probed(query, query, query, groups, None, 1.0)
    assert reason in groups.reason
    for name in ("leakage", "cag", "logit_gap", "margin"):
        assert getattr(got, name).isnan().all()
    lone = int(labels[0])
    assert torch.allclose(got.matrix[..., lone, lone], torch.ones(1, 2))
    assert got.matrix[..., 1 - lone, :].isnan().all()
    assert got.matrix[..., :, 1 - lone].isnan().all()


def test_memory_grows_with_tokens_not_with_their_square() -> None:
    program = """
import resource, sys, torch
torch.set_num_threads(1)
from mild_bench.metrics.cag.masses import attention_with_masses
from mild_bench.metrics.cag.statistics import Groups, statistics
tokens = int(sys.argv[1])
query = torch.randn(1, 1, tokens, 16)
labels = (torch.arange(tokens) % 16 == 0).long()
groups = Groups.of(labels, labels, labels > 0, people=1)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few = query[:, :, :512]
found = attention_with_masses(few, few, few, labels[:512], 2)
before = peak()
found = attention_with_masses(query, query, query, labels, 2)
statistics(found.masses, query, query, groups, with_margin=True)
print((peak() - before) // 1024)
"""
    grown = {
        tokens: int(
            subprocess.run(
                [sys.executable, "-c", program, str(tokens)],
                capture_output=True, text=True, check=True,
            ).stdout
        )
        for tokens in (4096, 16384)
    }  # fmt: skip
    assert grown[16384] < 4 * grown[4096] + 64, grown  # MiB; one map of 16,384 tokens is 1,024
    assert grown[16384] < 256, grown


@pytest.mark.parametrize(
    ("tokens", "latents", "grid"),
    [
        (96, (8, 12), (8, 12, 8, 8)),
        (24, (8, 12), (4, 6, 16, 16)),
        (5 * 7, (9, 13), (5, 7, 16, 16)),
        (97, (8, 12), None),
    ],
)
def test_grids_follow_the_latents(
    tokens: int, latents: tuple[int, int], grid: tuple[int, int, float, float] | None
) -> None:
    picture = (latents[0] * 8, latents[1] * 8)
    assert find_grid(tokens, picture, latents) == (None if grid is None else Grid(*grid))


def test_grids_without_latents_follow_the_shape_of_the_picture() -> None:
    assert find_grid(64 * 48, (1024, 768)) == Grid(64, 48, 16, 16)
    assert find_grid(16 * 64, (256, 1024)) == Grid(16, 64, 16, 16)
    assert find_grid(8 * 12 + 77, (64, 96)) is None


def test_masks_are_averaged_over_cells_and_the_larger_share_wins() -> None:
    people = np.zeros((2, 16, 24), dtype=bool)
    people[0, :8, :6] = True  # all of a cell's height, 6 of its 8 columns
    people[1, :8, 2:8] = people[1, 8:, 8:12] = True
    people[1, :8, 2:4] = False
    padding = np.zeros((16, 24), dtype=bool)
    padding[:, 16:] = True
    found = Regions(people, padding=padding).on(Grid(2, 3, 8, 8))
    assert found.labels.tolist() == [1, 0, 4, 0, 2, 4]
    assert found.region.tolist() == [True, False, False, False, True, False]
    strict = Regions(people, padding=padding, threshold=0.9).on(Grid(2, 3, 8, 8))
    assert strict.labels.tolist() == [0, 0, 4, 0, 0, 4]
    # A last cell that hangs over the edge is averaged over what lies in the picture.
    edge = np.zeros((1, 12, 12), dtype=bool)
    edge[0, 8:, 8:] = True
    assert Regions(edge).on(Grid(2, 2, 8, 8)).labels.tolist() == [0, 0, 0, 1]


def test_regions_refuse_what_does_not_fit() -> None:
    people = np.ones((1, 8, 8), dtype=bool)
    with pytest.raises(BadInput, match="people: expected bool people x height x width"):
        Regions(people[0])
    with pytest.raises(BadInput, match="query: expected bool 8 x 8"):
        Regions(people, query=np.ones((4, 8), dtype=bool))
    with pytest.raises(BadInput, match="threshold: expected above 0"):
        Regions(people, threshold=0)
    with pytest.raises(BadInput, match=r"on the map, got \[7\]"):
        Regions.from_map(np.ones((8, 8), dtype=np.int64), [7])


def two_people(height: int, width: int) -> Regions:
    people = np.zeros((2, height, width), dtype=bool)
    people[0, : height // 2, : width // 3] = True
    people[1, height // 4 : height * 3 // 4, width // 2 : width * 5 // 6] = True
    return Regions(people)


@pytest.fixture(scope="module", params=FAMILIES)
def pipeline(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from diffusers import DiffusionPipeline

    folder = make_pipeline(tmp_path_factory.mktemp("tiny") / request.param, request.param)
    made = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    made.set_progress_bar_config(disable=True)
    return made


def erase(pipeline: Any, regions: Regions) -> np.ndarray:
    from PIL import Image

    height, width = regions.size
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    hole = (regions.people.any(axis=0) * 255).astype(np.uint8)
    return np.asarray(
        pipeline(
            prompt="a wall", image=Image.fromarray(pixels), mask_image=Image.fromarray(hole),
            height=height, width=width, num_inference_steps=STEP, output_type="np",
            generator=torch.Generator().manual_seed(0), strength=1.0,
        ).images
    )  # fmt: skip


def test_a_pipeline_paints_the_same_picture_with_the_probe_on(pipeline: Any) -> None:
    regions = two_people(*SIZE)
    before = erase(pipeline, regions)
    with probe_pipeline(pipeline, regions, margin=True) as probe:
        during = erase(pipeline, regions)
    after = erase(pipeline, regions)
    assert np.array_equal(before, during)
    assert np.array_equal(before, after)

    trace = probe.trace()
    guided = not type(pipeline).__name__.startswith("Flux")
    assert set(trace.columns["part"].tolist()) == (set(GUIDED) if guided else {"all"})
    assert set(trace.columns["step"].tolist()) == set(range(STEP))
    shapes = trace.columns["width"] / trace.columns["height"]
    assert np.allclose(shapes, SIZE[1] / SIZE[0])
    assert not trace.columns["reason"].any()
    joint = hasattr(pipeline, "transformer")
    # Kandinsky's added keys and values are text that is looked at and does not look itself.
    added = hasattr(pipeline, "decoder_pipe")
    assert set(trace.skipped.values()) == (set() if joint or added else {"cross-attention"})
    sums = np.nansum(trace.matrices, axis=-1)
    assert np.allclose(sums[:, :3], 1, atol=1e-5)
    text = trace.groups.index("text")
    assert np.isnan(trace.matrices[:, text, text]).all() != joint

    summary = trace.summary()
    assert 0 < summary.leakage < 1
    assert math.isfinite(summary.cag)
    assert summary.margin < summary.logit_gap
    assert summary.peak_layer in trace.columns["layer"]
    json.dumps(trace.as_json(), allow_nan=False)
    assert len(trace.where(step=1)) == len(trace) // STEP


@torch.no_grad()
def test_numbers_are_those_of_the_model_s_own_queries_and_keys() -> None:
    model, sample = tiny_unet()
    regions = two_people(32, 48)
    seen: list[Tensor] = []
    layer = "mid_block.attentions.0.transformer_blocks.0.attn1"
    attention = model.get_submodule(layer)
    hook = attention.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with AttentionProbe(model, regions, layers=[layer], margin=True) as probe:
        run(model, sample)
    hook.remove()
    query, key = (
        projection(seen[0]).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        for projection in (attention.to_q, attention.to_k)
    )
    found = regions.on(Grid(8, 12, 4, 4))
    labels, region = torch.from_numpy(found.labels), torch.from_numpy(found.region)
    groups = Groups.of(labels, labels, region, people=2)
    want = plain_statistics(query, key, groups, None, query.shape[-1] ** -0.5)
    trace = probe.trace()
    for name in ("leakage", "cag", "logit_gap", "margin"):
        assert np.allclose(trace.columns[name], want[name].mean(0).numpy(), atol=1e-6), name
    assert np.allclose(trace.matrices[:, :3, :3], want["matrix"].mean(0).numpy(), atol=1e-6)


def tiny_unet(**settings: Any) -> tuple[Any, Tensor]:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        **{
            "sample_size": 16, "block_out_channels": (32, 64), "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "norm_num_groups": 8, "cross_attention_dim": 16, "attention_head_dim": 2, **settings,
        }
    ).eval()  # fmt: skip
    return model, draw((2, 4, 16, 24), 0)


@torch.no_grad()
def run(model: Any, sample: Tensor, tokens: int = 7) -> Tensor:
    context = draw((sample.shape[0], tokens, 16), 1)
    return model(sample, 10, encoder_hidden_states=context).sample


def test_gradients_are_those_without_the_probe_and_checkpoints_are_counted_once() -> None:
    model, sample = tiny_unet()
    model.train()
    model.enable_gradient_checkpointing()
    context = draw((2, 7, 16), 1)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(sample, 10, encoder_hidden_states=context).sample.square().mean().backward()
        return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]

    bare = gradients()
    with AttentionProbe(model, two_people(32, 48)) as probe:
        watched = gradients()
    assert all(torch.equal(one, other) for one, other in zip(bare, watched, strict=True))
    trace = probe.trace()
    calls = list(zip(trace.columns["layer"].tolist(), trace.columns["head"].tolist(), strict=True))
    assert calls
    assert len(calls) == len(set(calls))


def test_text_of_added_keys_stands_where_the_table_says() -> None:
    model, sample = tiny_unet(
        down_block_types=("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
        attention_head_dim=8,
    )
    bare = run(model, sample)
    with AttentionProbe(model, two_people(32, 48)) as probe:
        assert torch.equal(run(model, sample), bare)
    trace = probe.trace()
    assert len(trace)
    assert not trace.skipped
    text = trace.groups.index("text")
    assert np.isnan(trace.matrices[:, text]).all()  # no text among the queries
    assert (trace.matrices[:, 0, text] > 0).all()
    assert np.allclose(np.nansum(trace.matrices[:, :3], axis=-1), 1, atol=1e-5)


def joint_transformer(name: str) -> tuple[Any, dict[str, Tensor]]:
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    torch.manual_seed(0)
    if name == "sd3":
        made: Any = SD3Transformer2DModel(
            sample_size=16, patch_size=2, in_channels=4, out_channels=4, num_layers=2,
            attention_head_dim=8, num_attention_heads=2, joint_attention_dim=16,
            caption_projection_dim=16, pooled_projection_dim=16, pos_embed_max_size=16,
        )  # fmt: skip
        picture: dict[str, Tensor] = {"hidden_states": draw((1, 4, 8, 8), 0)}
    else:
        made = FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=16, pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
        )  # fmt: skip
        rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
        ids = torch.stack([torch.zeros(16), rows.flatten(), columns.flatten()], dim=1)
        picture = {
            "hidden_states": draw((1, 16, 16), 0), "img_ids": ids, "txt_ids": torch.zeros(16, 3),
        }  # fmt: skip
    return made.eval(), {
        **picture,
        "encoder_hidden_states": draw((1, 16, 16), 1),
        "pooled_projections": draw((1, 16), 2),
        "timestep": torch.tensor([0.5]),
    }


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_text_of_joint_attention_stands_where_the_table_says(name: str) -> None:
    """As many words as picture tokens: only the order tells them apart. Words change, who moves?"""
    model, inputs = joint_transformer(name)
    first = next(m for n, m in model.named_modules() if hasattr(m, "processor"))
    keys: list[Tensor] = []
    real = scaled_dot_product_attention

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is real:
                given = {**dict(zip(("query", "key"), args, strict=False)), **(kwargs or {})}
                keys.append(given["key"].clone())
            return func(*args, **(kwargs or {}))

    with Spy(), torch.no_grad():
        model(**inputs)
        calls = len(keys)
        model(**{**inputs, "encoder_hidden_states": draw((1, 16, 16), 9)})
    moved = (keys[0] != keys[calls]).flatten(0, 1).any(0).any(-1)
    assert moved.tolist() == (
        [True] * 16 + [False] * 16
        if TEXT_ORDER[type(first.processor).__name__] == "first"
        else [False] * 16 + [True] * 16
    )


def test_one_stream_blocks_know_text_from_picture() -> None:
    model, inputs = joint_transformer("flux")
    with AttentionProbe(model, two_people(64, 64)) as probe, torch.no_grad():
        model(**inputs)
    trace = probe.trace()
    assert set(trace.columns["layer"].tolist()) == {
        "transformer_blocks.0.attn", "single_transformer_blocks.0.attn",
    }  # fmt: skip
    assert set(trace.columns["height"].tolist()) == {4}


def test_unknown_joint_processors_are_asked_about_never_guessed() -> None:
    from diffusers.models.attention_processor import JointAttnProcessor2_0

    model, inputs = joint_transformer("sd3")

    class Stranger(JointAttnProcessor2_0):
        pass

    model.set_attn_processor(Stranger())
    regions = two_people(64, 64)
    with AttentionProbe(model, regions) as probe, torch.no_grad():
        model(**inputs)
    assert 'pass text_order="first" or "last"' in next(iter(probe.trace().skipped.values()))
    assert "Stranger" in probe.trace().summary().reason
    with AttentionProbe(model, regions, text_order="last") as probe, torch.no_grad():
        model(**inputs)
    assert len(probe.trace())


def test_processors_without_fused_attention_are_named() -> None:
    from diffusers.models.attention_processor import AttnProcessor

    model, sample = tiny_unet()
    model.set_attn_processor(AttnProcessor())
    with AttentionProbe(model, two_people(32, 48)) as probe:
        run(model, sample)
    assert "AttnProcessor does not call" in next(iter(probe.trace().skipped.values()))
    assert math.isnan(probe.trace().summary().cag)


def test_layers_steps_and_parts_can_be_chosen() -> None:
    model, sample = tiny_unet()
    settings_ = {"layers": ["mid_block.*"], "steps": {1}, "parts": GUIDED}
    with AttentionProbe(model, two_people(32, 48), **settings_) as probe:
        for _ in range(3):
            run(model, sample)
    trace = probe.trace()
    assert set(trace.columns["step"].tolist()) == {1}
    assert {name.split(".")[0] for name in trace.columns["layer"].tolist()} == {"mid_block"}
    with AttentionProbe(model, two_people(32, 48), steps={99}) as probe:
        run(model, sample)
    assert "no attention ran in the chosen layers and steps" in probe.trace().summary().reason
    whole = sample.clone()
    with AttentionProbe(model, two_people(32, 48), layers=["mid_block.*"]) as probe:
        run(model, whole[1:].repeat(2, 1, 1, 1))
    assert set(probe.trace().columns["part"].tolist()) == {"all"}


def test_each_part_of_a_batch_has_its_own_numbers() -> None:
    model, sample = tiny_unet()
    regions = two_people(32, 48)
    with AttentionProbe(model, regions, parts=GUIDED) as probe:
        run(model, sample)
    for n, part in enumerate(GUIDED):
        with AttentionProbe(model, regions) as alone, torch.no_grad():
            model(sample[n : n + 1], 10, encoder_hidden_states=draw((2, 7, 16), 1)[n : n + 1])
        want, got = alone.trace().columns, probe.trace().where(part=part).columns
        for name in ("leakage", "cag", "logit_gap"):
            assert np.allclose(want[name], got[name], atol=1e-5), name


def test_small_people_vanish_on_coarse_grids_with_a_reason() -> None:
    model, sample = tiny_unet()
    people = np.zeros((1, 32, 48), dtype=bool)
    people[0, :2, :2] = True  # one token of the finest grid only
    with AttentionProbe(model, Regions(people)) as probe:
        run(model, sample)
    trace = probe.trace()
    fine = trace.columns["height"] == 16
    assert (trace.columns["people"][fine] == 1).all()
    assert np.isfinite(trace.columns["cag"][fine]).all()
    assert np.isnan(trace.columns["cag"][~fine]).all()
    assert "no token is a person" in trace.columns["reason"][~fine][0]
    summary = trace.summary()
    assert math.isfinite(summary.cag)
    assert summary.left_out == (~fine).sum() > 0


def test_what_cannot_be_probed_is_refused_in_one_line() -> None:
    model, sample = tiny_unet()
    regions = two_people(32, 48)
    with pytest.raises(BadInput, match="with attention modules, got Linear with none"):
        AttentionProbe(nn.Linear(2, 2), regions)
    with pytest.raises(BadInput, match="attention modules like"):
        AttentionProbe(model, regions, layers=["nowhere"])
    turned = AttentionProbe(model, two_people(48, 32))
    with pytest.raises(BadInput, match="masks are 48 x 32, but the model works on 16"), turned:
        run(model, sample)
    assert torch.equal(run(model, sample), run(model, sample))
    with pytest.raises(BadInput, match="model: it is compiled"):
        AttentionProbe(torch.compile(model), regions)
    with pytest.raises(BadInput, match="pipeline: expected one with a unet or transformer"):
        probe_pipeline(object(), regions)


def test_a_failing_model_leaves_nothing_attached() -> None:
    model, sample = tiny_unet()
    regions = two_people(32, 48)
    with pytest.raises(RuntimeError), AttentionProbe(model, regions):
        model(sample, 10, encoder_hidden_states=torch.zeros(2, 7, 5))
    assert torch.overrides._get_current_function_mode() is None
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())


def one_trace(seed: int) -> Trace:
    model, sample = tiny_unet()
    with AttentionProbe(model, two_people(32, 48), layers=["mid_block.*"]) as probe:
        run(model, sample + draw(tuple(sample.shape), seed))
    return probe.trace()


@pytest.mark.parametrize(("metric", "name"), [(AttentionGap, "cag"), (Leakage, "leakage")])
def test_metrics_accumulate_and_synchronise_by_sums(metric: Any, name: str) -> None:
    traces = [one_trace(seed) for seed in range(3)]
    whole, halves = metric(), [metric(), metric()]
    for n, trace in enumerate(traces):
        whole.update(trace)
        halves[n % 2].update(trace)
    want = np.mean([getattr(trace.summary(), name) for trace in traces])
    assert whole.compute().item() == pytest.approx(want)
    for state in ("total", "pictures", "left_out"):
        assert (
            whole._reductions[state] is torch.sum
            or whole._reductions[state].__name__ == "dim_zero_sum"
        )
        gathered = sum(getattr(half, state) for half in halves)
        assert torch.allclose(gathered, getattr(whole, state))
    empty = traces[0].where(layer="nowhere")
    whole.update(empty)
    assert whole.compute().item() == pytest.approx(want)
    assert whole.left_out == 1


def test_importing_the_command_line_loads_no_torch() -> None:
    code = "import sys, mild_bench.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_file_is_written_by_a_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    one_trace(0)
    assert not list(tmp_path.iterdir())
