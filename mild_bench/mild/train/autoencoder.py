"""Teach an autoencoder to give pictures back, sharp to the eye and with tame latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""From two batches in [-1, 1] to a mean distance."""


class AutoencoderLearner(nn.Module):
    """Gives the losses of an ``AutoencoderKL`` on pictures.

    Args:
        vae: what learns.
        perceptual: distance between batches in [-1, 1]; None leaves it out.
        perceptual_weight: next to the absolute error.
        kl_weight: how strongly latents are drawn to a unit normal.
    """

    def __init__(
        self,
        vae: Any,
        perceptual: Perceptual | None,
        *,
        perceptual_weight: float = 1.0,
        kl_weight: float = 1e-6,
    ) -> None:
        super().__init__()
        self.vae = vae
        self.perceptual = perceptual
        self.perceptual_weight = perceptual_weight
        self.kl_weight = kl_weight

    def forward(self, pictures: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss`` and its parts for pictures, batch x 3 x height x width in [0, 1]."""
        wanted = pictures * 2 - 1
        posterior = self.vae.encode(wanted).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator, dtype=torch.float32)
        latents = posterior.mean + posterior.std * noise.to(posterior.mean)
        given = self.vae.decode(latents).sample.float()
        absolute = (given - wanted).abs().mean()
        kl = posterior.kl().float().mean()
        parts = {"absolute": absolute, "kl": kl}
        loss = absolute + self.kl_weight * kl
        if self.perceptual is not None:
            parts["perceptual"] = self.perceptual(given, wanted)
            loss = loss + self.perceptual_weight * parts["perceptual"]
        return {"loss": loss, **parts}


@torch.no_grad()
def latent_scale(vae: Any, pictures: Tensor) -> float:
    """Return the factor that gives latents a standard deviation of 1.

    Args:
        vae: an ``AutoencoderKL``.
        pictures: batch x 3 x height x width in [0, 1].
    """
    return float(1 / vae.encode(pictures * 2 - 1).latent_dist.mean.float().std())
