"""The probe on a model with spatially-modulated attention: it sees the biased logits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipelines import make_pipeline
from torch import Tensor

from mild_bench.metrics.cag.probe import AttentionProbe
from mild_bench.metrics.cag.regions import Grid, Regions
from mild_bench.metrics.cag.trace import Trace
from mild_bench.mild.spatial_attention import SpatialAttention

SIZE = (64, 96)
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn1"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    yield
    torch.set_num_threads(before)


def two_people() -> Regions:
    people = np.zeros((2, *SIZE), dtype=bool)
    people[0, :32, :32] = people[1, 16:48, 48:80] = True
    return Regions(people, names=("ann", "ben"))


def labels(regions: Regions) -> Tensor:
    return torch.from_numpy(regions.people[0] * 1 + regions.people[1] * 2)[None]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def unet() -> Any:
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16, attention_head_dim=2,
        ).eval()  # fmt: skip


@torch.no_grad()
def run(model: Any) -> Tensor:
    """Two pictures on 16 x 24 tokens."""
    found: Tensor = model(
        draw(2, 4, 16, 24), 10, encoder_hidden_states=draw(2, 5, 16, seed=1)
    ).sample
    return found


def attached(model: Any, regions: Regions) -> SpatialAttention:
    biases = SpatialAttention.of(model)
    with torch.no_grad():
        for seed, alpha in enumerate(biases.alpha.values()):
            alpha.copy_(2 * draw(*alpha.shape, seed=seed))
    biases.set_sides(labels(regions))
    return biases


def probed(model: Any, regions: Regions, **settings: Any) -> Trace:
    with AttentionProbe(model, regions, **settings) as probe:
        run(model)
    return probe.trace()


@torch.no_grad()
def test_numbers_are_those_of_a_softmax_with_the_dense_bias(unet: Any) -> None:
    regions = two_people()
    biases = attached(unet, regions)
    attention = unet.get_submodule(LAYER)
    seen: list[Tensor] = []
    hook = attention.register_forward_pre_hook(lambda module, args: seen.append(args[0].double()))
    trace = probed(unet, regions, layers=[LAYER], margin=True)
    hook.remove()
    query, key = (
        (seen[0] @ projection.weight.double().T).unflatten(-1, (attention.heads, -1))
        for projection in (attention.to_q, attention.to_k)
    )
    logits = torch.einsum("bihd,bjhd->bhij", query, key) * query.shape[-1] ** -0.5
    token = torch.from_numpy(regions.on(Grid(8, 12, 8, 8)).labels)
    logits += biases.table(LAYER, 2).double()[:, token][:, :, token]
    chances = logits.softmax(dim=-1)
    people = token > 0
    on_people, on_ground = (chances[:, :, people][..., side].sum(-1) for side in (people, ~people))
    odds = (on_ground / (~people).sum()).log() - (on_people / people.sum()).log()
    near = logits[:, :, people]
    want = {
        "leakage": on_people.mean(-1),
        "cag": odds.mean(-1),
        "logit_gap": (near[..., ~people].mean(-1) - near[..., people].mean(-1)).mean(-1),
        "margin": (near[..., ~people].amin(-1) - near[..., people].amax(-1)).amin(-1),
    }
    for name, value in want.items():
        assert np.allclose(trace.columns[name], value.mean(0), rtol=1e-5, atol=1e-5), name
    matrix = [
        [chances[:, :, token == row][..., token == column].sum(-1).mean(-1) for column in range(3)]
        for row in range(3)
    ]
    dense = torch.stack([torch.stack(row, -1) for row in matrix], -2).mean(0)
    assert np.allclose(trace.matrices[:, :3, :3], dense, atol=1e-5)
    [where] = trace.maps
    on_people = chances[..., people].sum(-1).mean((0, 1))
    assert np.allclose(where.values.ravel(), on_people, atol=1e-5)


def test_the_output_is_the_same_and_the_bias_is_seen(unet: Any) -> None:
    regions = two_people()
    plain = probed(unet, regions)
    biases = attached(unet, regions)
    before = run(unet)
    with AttentionProbe(unet, regions) as probe:
        during = run(unet)
    assert torch.equal(before, during)
    assert torch.equal(before, run(unet))
    biased = probe.trace()
    assert set(biased.columns["layer"].tolist()) == set(plain.columns["layer"].tolist())
    assert set(biased.skipped.values()) == {"cross-attention"}
    assert abs(biased.columns["cag"] - plain.columns["cag"]).min() > 1e-3
    biases.set_sides(None)
    np.testing.assert_array_equal(probed(unet, regions).columns["cag"], plain.columns["cag"])


def test_hard_separation_leaks_nothing_between_sides_and_cag_says_why_it_has_no_number(
    unet: Any,
) -> None:
    regions = two_people()
    biases = attached(unet, regions)
    biases.separate()
    before = run(unet)
    with AttentionProbe(unet, regions) as probe:
        assert torch.equal(run(unet), before)
    trace = probe.trace()
    sides = trace.matrices[:, :3, :3]
    assert (sides[:, ~np.eye(3, dtype=bool)] == 0).all()
    assert np.allclose(sides[:, np.eye(3, dtype=bool)], 1)
    # People's own tokens see people only, and the background's none of them.
    assert np.isneginf(trace.columns["cag"]).all()
    assert trace.summary().reason.startswith("in some rows no attention at all goes to background")
    outside = Regions(regions.people, query=~regions.people.any(axis=0))
    from_background = probed(unet, outside)
    assert (from_background.columns["leakage"] == 0).all()
    assert np.isposinf(from_background.columns["cag"]).all()
    assert from_background.summary().reason.startswith(
        "in some rows no attention at all goes to people"
    )


@pytest.mark.parametrize("family", ["sd3", "flux-fill", "kandinsky"])
def test_joint_attention_keeps_its_order_of_text_under_the_bias(
    family: str, tmp_path: Path
) -> None:
    """With all biases 0 the numbers are those without: text is looked for at the same place."""
    from diffusers import DiffusionPipeline
    from PIL import Image

    from mild_bench.metrics.cag.probe import probe_pipeline

    pipeline = DiffusionPipeline.from_pretrained(make_pipeline(tmp_path / family, family))
    pipeline.set_progress_bar_config(disable=True)
    regions = two_people()
    hole = Image.fromarray((regions.people.any(axis=0) * 255).astype(np.uint8))
    model = getattr(pipeline, "unet", None) or pipeline.transformer

    def trace() -> Trace:
        with probe_pipeline(pipeline, regions) as probe:
            pipeline(
                prompt="a wall", image=Image.new("RGB", SIZE[::-1]), mask_image=hole, strength=1.0,
                height=SIZE[0], width=SIZE[1], num_inference_steps=1,
                generator=torch.Generator().manual_seed(0),
            )  # fmt: skip
        return probe.trace()

    plain = trace()
    biases = SpatialAttention.of(model)
    biases.set_sides(labels(regions))
    biased = trace()
    assert len(biased) == len(plain) > 0
    assert biased.skipped == plain.skipped
    assert np.allclose(biased.matrices, plain.matrices, atol=1e-5, equal_nan=True)
