"""What a denoiser learns: noise, v or sample, weighted by noise level and by the hole."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mild_bench.errors import BadInput

LEAST_SNR = 1e-8  # at zero terminal signal-to-noise


class Denoising:
    """The forward process and the target of a diffusers scheduler.

    Args:
        scheduler: has ``alphas_cumprod`` and ``config.prediction_type``.
        gamma: of min-SNR weighting (Hang et al., ICCV 2023, arXiv 2303.09556); 0 for none.
        outside: weight of what is known already, next to 1 in the hole.

    Raises:
        BadInput: a scheduler that it cannot learn for.
    """

    def __init__(self, scheduler: Any, *, gamma: float = 5.0, outside: float = 0.2) -> None:
        kind = getattr(scheduler.config, "prediction_type", None)
        if kind not in ("epsilon", "v_prediction", "sample") or not hasattr(
            scheduler, "alphas_cumprod"
        ):
            raise BadInput(
                "scheduler: expected one with alphas_cumprod that predicts epsilon, v_prediction "
                f"or sample, got {type(scheduler).__name__} ({kind}); use DDIM's or DPM-Solver's"
            )
        self.kind = kind
        self.gamma = gamma
        self.outside = outside
        self.signal = scheduler.alphas_cumprod.double().cpu()

    @property
    def steps(self) -> int:
        """Noise levels that it was trained with."""
        return len(self.signal)

    def timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw noise levels, evenly spread over the batch (less noise in the loss)."""
        offset = torch.rand((), generator=generator)
        spread = (torch.arange(count) + offset) / count
        order = torch.randperm(count, generator=generator)
        return (spread[order] * self.steps).long().clamp(0, self.steps - 1)

    def noisy(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return latents at their noise levels."""
        clean, dirty = self._shares(timesteps, latents)
        return clean * latents + dirty * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the model should predict."""
        if self.kind == "sample":
            return latents
        if self.kind == "epsilon":
            return noise
        clean, dirty = self._shares(timesteps, latents)
        return clean * noise - dirty * latents

    def loss(self, predicted: Tensor, target: Tensor, timesteps: Tensor, hole: Tensor) -> Tensor:
        """Return the weighted squared error.

        Args:
            predicted, target: batch x channels x height x width.
            timesteps: batch.
            hole: batch x 1 x height x width, 1 = to be painted.
        """
        weights = hole.float() + self.outside * (1 - hole.float())
        errors = (predicted.float() - target.float()).square().mean(dim=1, keepdim=True)
        each = (errors * weights).sum(dim=(1, 2, 3)) / weights.sum(dim=(1, 2, 3))
        mean: Tensor = (each * self._weights(timesteps).to(each)).mean()
        return mean

    def _weights(self, timesteps: Tensor) -> Tensor:
        if not self.gamma:
            return torch.ones(len(timesteps))
        signal = self.signal[timesteps.cpu()]
        snr = (signal / (1 - signal).clamp(min=LEAST_SNR)).clamp(min=LEAST_SNR)
        capped = snr.clamp(max=self.gamma)
        weights: Tensor = {
            "epsilon": capped / snr,
            # One more than the paper's: pure noise (signal-to-noise 0) must be learnt from, too.
            "v_prediction": (capped + 1) / (snr + 1),
            "sample": capped,
        }[self.kind]
        return weights.float()

    def _shares(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        signal = self.signal[timesteps.cpu()].view(-1, 1, 1, 1)
        return signal.sqrt().to(like), (1 - signal).sqrt().to(like)
