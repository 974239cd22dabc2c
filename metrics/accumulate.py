"""Scores as torchmetrics objects, for training loops and other harnesses."""

# mypy: disallow-subclassing-any=False
# torchmetrics' types are not followed (see pyproject.toml), so its base class is Any to mypy.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torchmetrics import Metric

from mild_bench.metrics.pixel import psnr, squared_error_map
from mild_bench.metrics.residue import residue
from mild_bench.metrics.view import FloatRgb, Value

if TYPE_CHECKING:
    from torch import Tensor


class PerPicture(Metric):
    """Mean over pictures of a score of each; pictures without a value are left out and counted.

    Attributes:
        pictures: how many have a value.
        left_out: how many have none.
    """

    full_state_update = False

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("pictures", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("left_out", torch.tensor(0), dist_reduce_fx="sum")

    def compute(self) -> Tensor:
        """Return the mean, NaN when no picture has a value."""
        mean: Tensor = self.total / self.pictures
        return mean

    def _add(self, value: Value) -> None:
        if isinstance(value, str):
            self.left_out += 1
        else:
            self.total += value
            self.pictures += 1


class HolePsnr(PerPicture):
    """PSNR over the hole, in dB, higher is better; the mean of ``psnr/hole``."""

    higher_is_better = True

    def update(self, result: Tensor, truth: Tensor, mask: Tensor) -> None:
        """Add a batch: pictures b x 3 x h x w in [0, 1], masks bool b x h x w (True = erase)."""
        for one, other, hole in zip(_hwc(result), _hwc(truth), mask.cpu().numpy(), strict=True):
            error = squared_error_map(one, other)[hole]
            self._add(psnr(float(error.mean())) if error.size else "the mask is empty")


class Residue(PerPicture):
    """Residue over the hole, in [0, 1], lower is better; the mean of ``residue/hole``."""

    higher_is_better = False

    def update(self, result: Tensor, truth: Tensor, source: Tensor, mask: Tensor) -> None:
        """Add a batch: pictures b x 3 x h x w in [0, 1], masks bool b x h x w (True = erase)."""
        pictures = zip(_hwc(result), _hwc(truth), _hwc(source), mask.cpu().numpy(), strict=True)
        for one, other, before, hole in pictures:
            self._add(residue(one, other, before, hole))


def _hwc(batch: Tensor) -> list[FloatRgb]:
    return list(np.asarray(batch.detach().double().cpu().permute(0, 2, 3, 1).numpy()))
