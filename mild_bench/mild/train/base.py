"""Stage 1: teach an inpainting UNet from nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mild_bench.mild.latents import Codec
from mild_bench.mild.train.objective import Denoising
from mild_bench.mild.train.samples import Sample


class BaseLearner(nn.Module):
    """Gives the loss of a UNet2DConditionModel for inpainting, without prompts.

    Args:
        unet: what learns.
        codec: encodes pictures; does not learn.
        denoising: the objective.
    """

    def __init__(self, unet: Any, codec: Codec, denoising: Denoising) -> None:
        super().__init__()
        self.unet = unet
        self.codec = (codec,)  # a tuple hides its weights from the parameters that train
        self.denoising = denoising

    def forward(self, samples: Sequence[Sample], generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` and its parts: one for each size of picture."""
        parts: dict[str, Tensor] = {}
        for size, members in by_size(samples).items():
            parts[f"noise_{size}"] = self._loss(members, generator)
        return {"loss": torch.stack(list(parts.values())).mean(), **parts}

    def _loss(self, samples: Sequence[Sample], generator: torch.Generator) -> Tensor:
        (codec,) = self.codec
        like = self.unet.conv_in.weight
        latents = codec.encode(stacked([one.truth for one in samples], like))
        known = codec.encode(stacked([one.branch.picture for one in samples], like))
        unknown = stacked([one.branch.unknown for one in samples], like)[:, None]
        hole = functional.max_pool2d(unknown, codec.scale)
        timesteps = self.denoising.timesteps(len(samples), generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = self.denoising.noisy(latents, noise, timesteps)
        context = latents.new_zeros(len(samples), 1, self.unet.config.cross_attention_dim)
        predicted = self.unet(
            torch.cat([noisy, hole, known], dim=1), timesteps.to(latents.device), context
        ).sample
        target = self.denoising.target(latents, noise, timesteps)
        return self.denoising.loss(predicted, target, timesteps, hole)


def by_size(samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Sort samples by the side of their pictures, larger first."""
    sides = sorted({one.branch.size[0] for one in samples}, reverse=True)
    return {side: [one for one in samples if one.branch.size[0] == side] for side in sides}


def stacked(tensors: Sequence[Tensor], like: Tensor) -> Tensor:
    """Stack tensors where and as the model is."""
    return torch.stack(list(tensors)).to(like.device, like.dtype)
