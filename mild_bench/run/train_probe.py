"""How attention's gap and leakage stand during training, on scenes and noise that stay the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mild_bench.images import Mask
from mild_bench.mild.train.samples import Sample, Sizes, erase_samples
from mild_bench.scene import Scene

if TYPE_CHECKING:
    from mild_bench.mild.latents import Codec
    from mild_bench.mild.network import MildNetwork, Text
    from mild_bench.mild.train.objective import Denoising

LEVELS = (0.2, 0.5, 0.8)  # shares of the noise levels that are read


@dataclass(frozen=True)
class AttentionReadings:
    """Reads CAG and leakage of the background branch.

    Attributes:
        samples: background samples that erase somebody.
        text: of the background, for UNets that want some.
    """

    network: MildNetwork
    codec: Codec
    denoising: Denoising
    samples: Sequence[Sample]
    text: Text | None

    def __call__(self) -> dict[str, float]:
        """Return the means over samples, noise levels, layers and heads."""
        import torch

        found: dict[str, list[float]] = {"cag": [], "leakage": []}
        with torch.no_grad():
            for number, sample in enumerate(self.samples):
                summary = self._read(sample, number)
                found["cag"].append(summary.cag)
                found["leakage"].append(summary.leakage)
        known = {name: [one for one in v if np.isfinite(one)] for name, v in found.items()}
        return {name: float(np.mean(values)) for name, values in known.items() if values}

    def _read(self, sample: Sample, number: int) -> Any:
        import torch

        from mild_bench.metrics.cag.probe import AttentionProbe
        from mild_bench.metrics.cag.regions import Regions

        people, hole = _masks(sample)
        like = self.network.unet.conv_in.weight
        condition = self.network.condition([sample.branch], self.codec, text=self.text)
        latents = self.codec.encode(sample.truth[None].to(like.device, like.dtype))
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
        regions = Regions(people, query=hole)
        with AttentionProbe(self.network.unet, regions, logit_gap=False) as probe:
            for level in LEVELS:
                step = torch.tensor([round(level * (self.denoising.steps - 1))])
                noisy = self.denoising.noisy(latents, noise.to(latents), step)
                self.network.predict(noisy, step.to(latents.device), condition)
        return probe.trace().summary()


def samples_to_read(scenes: Sequence[Scene], sizes: Sizes) -> list[Sample]:
    """Return a background sample of each scene in which somebody can be erased."""
    found = []
    for number, scene in enumerate(scenes):
        sample = erase_samples(np.random.default_rng(number), scene, sizes, people=0)[0]
        if _masks(sample)[0].size:
            found.append(sample.unpacked())
    return found


def _masks(sample: Sample) -> tuple[Mask, Mask]:
    """Return who is erased where (people x height x width), and the hole."""
    labels = sample.branch.labels.numpy()
    hole = np.asarray(sample.branch.unknown.numpy() > 0)
    erased = [number for number in np.unique(labels[hole]) if number]
    people = [mask for mask in ((labels == number) & hole for number in erased) if mask.any()]
    return np.stack(people) if people else np.zeros((0, *hole.shape), np.bool_), hole
