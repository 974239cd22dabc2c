"""Stage 2: teach adapters, guidance, spatial attention and alpha over a frozen UNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mild_bench.mild.hmg import MODES, Mode
from mild_bench.mild.latents import Codec
from mild_bench.mild.network import MildNetwork, Text
from mild_bench.mild.train.base import by_size, stacked
from mild_bench.mild.train.objective import Denoising
from mild_bench.mild.train.samples import Sample

DRAWN: tuple[Mode, ...] = ("both", "both", "both", "pose", "parsing", "none")
"""Guidance is left out in part, so that every mode of it is one the model knows."""


class LayeredLearner(nn.Module):
    """Gives the losses of everything that trains in a ``MildNetwork``.

    Args:
        network: its UNet stays as it is.
        codec: encodes pictures; does not learn.
        denoising: the objective.
        text: prompts of the background (row 0) and of people (row 1), for UNets that want some.
        alpha_weight: of the alpha loss, next to the noise losses.
        sma_off: share of steps without spatial attention's biases, in [0, 1).
    """

    def __init__(
        self,
        network: MildNetwork,
        codec: Codec,
        denoising: Denoising,
        *,
        text: Text | None = None,
        alpha_weight: float = 0.5,
        sma_off: float = 0.1,
    ) -> None:
        super().__init__()
        self.unet = network.unet
        self.hmg = network.hmg
        self.sma = network.sma
        self.alpha_head = network.alpha_head
        self.hidden = (network, codec)  # a tuple: their weights are those above, or do not train
        self.denoising = denoising
        self.text = text
        self.alpha_weight = alpha_weight
        self.sma_off = sma_off

    def forward(self, samples: Sequence[Sample], generator: torch.Generator) -> dict[str, Tensor]:
        """Return ``loss``, the sum of the branches' noise losses and of alpha's, and its parts."""
        mode = DRAWN[int(torch.randint(len(DRAWN), (), generator=generator))]
        sma = float(torch.rand((), generator=generator)) >= self.sma_off
        parts: dict[str, list[Tensor]] = {}
        for kind in ("bg", "fg"):
            chosen = [one for one in samples if one.branch.kind == kind]
            for members in by_size(chosen).values():
                for name, value in self._losses(members, generator, mode, sma).items():
                    parts.setdefault(name, []).append(value)
        means = {name: torch.stack(values).mean() for name, values in parts.items()}
        weights = {"alpha": self.alpha_weight}
        loss = torch.stack([value * weights.get(name, 1.0) for name, value in means.items()])
        return {"loss": loss.sum(), **means}

    def _losses(
        self, samples: Sequence[Sample], generator: torch.Generator, mode: Mode, sma: bool
    ) -> dict[str, Tensor]:
        network, codec = self.hidden
        kind = samples[0].branch.kind
        like = network.unet.conv_in.weight
        latents = codec.encode(stacked([one.truth for one in samples], like))
        condition = network.condition(
            [one.branch for one in samples], codec, mode=mode, text=self._text(kind)
        )
        timesteps = self.denoising.timesteps(len(samples), generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        noisy = self.denoising.noisy(latents, noise, timesteps)
        prediction = network.predict(noisy, timesteps.to(latents.device), condition, sma=sma)
        target = self.denoising.target(latents, noise, timesteps)
        hole = condition.known[:, :1]
        losses = {f"noise_{kind}": self.denoising.loss(prediction.noise, target, timesteps, hole)}
        alphas = [one.alpha for one in samples if one.alpha is not None]
        if alphas:
            logits = network.alpha_logits(prediction, range(len(samples)))
            losses["alpha"] = alpha_loss(logits[:, 0], stacked(alphas, logits))
        return losses

    def _text(self, kind: str) -> Text | None:
        return None if self.text is None else self.text.row(int(kind == "fg"))


def alpha_loss(logits: Tensor, alpha: Tensor) -> Tensor:
    """Return cross-entropy plus 1 - Dice, averaged over the batch.

    Args:
        logits: batch x height x width.
        alpha: of the same shape, in [0, 1].
    """
    logits, alpha = logits.float(), alpha.float()
    entropy = functional.binary_cross_entropy_with_logits(logits, alpha)
    found = logits.sigmoid()
    shared = (found * alpha).sum(dim=(1, 2))
    dice = (2 * shared + 1) / (found.sum(dim=(1, 2)) + alpha.sum(dim=(1, 2)) + 1)
    return entropy + (1 - dice).mean()


assert set(DRAWN) == set(MODES)
