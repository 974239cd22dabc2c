"""The running mean of weights, which samples better than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class RunningMean:
    """An exponential moving average of parameters, in float32.

    Args:
        parameters: what is averaged, by name.
        decay: in [0, 1); the first steps use less, (1 + step) / (10 + step).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.parameters = dict(parameters)
        self.decay = decay
        self.means = {name: one.detach().float().clone() for name, one in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step number ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters.items():
            self.means[name].lerp_(parameter.detach().float(), 1 - decay)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """While entered, the parameters are their means."""
        kept = {name: one.detach().clone() for name, one in self.parameters.items()}
        self._set(self.means)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def load(self, means: Mapping[str, Tensor]) -> None:
        """Go on from saved means."""
        for name, mean in self.means.items():
            mean.copy_(means[name])

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
