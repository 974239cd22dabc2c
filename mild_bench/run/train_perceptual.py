"""LPIPS as something to learn from: the pinned AlexNet, with gradients to the pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mild_bench.metrics.perceptual import SCALE, SHIFT
from mild_bench.metrics.weights import find_weights

if TYPE_CHECKING:
    import torch
    from torch import Tensor

STRIDES, PADDINGS = (4, 1, 1, 1, 1), (2, 2, 1, 1, 1)
POOL_BEFORE = (1, 2)


class PerceptualDistance:
    """LPIPS (AlexNet, v0.1) of two batches in [-1, 1], averaged: 0 = equal.

    Raises:
        MissingPart: its weights are nowhere to be found.
    """

    def __init__(self, device: torch.device) -> None:
        import torch

        trunk, heads = find_weights("alex-trunk").tensors, find_weights("alex-heads").tensors
        tensors = [tensor.to(device) for tensor in trunk]
        self._convolutions = list(zip(tensors[::2], tensors[1::2], strict=True))
        self._heads = [head.to(device) for head in heads]
        self._shift = torch.tensor(SHIFT, device=device).view(1, 3, 1, 1)
        self._scale = torch.tensor(SCALE, device=device).view(1, 3, 1, 1)

    def __call__(self, given: Tensor, wanted: Tensor) -> Tensor:
        """Return the mean distance; pictures of at least 32 x 32 pixels."""
        import torch
        from torch.nn.functional import conv2d, max_pool2d, relu

        values = torch.cat([given, wanted]).float().sub(self._shift).div(self._scale)
        total = values.new_zeros(())
        for index, (weight, bias) in enumerate(self._convolutions):
            if index in POOL_BEFORE:
                values = max_pool2d(values, 3, 2)
            values = relu(conv2d(values, weight, bias, STRIDES[index], PADDINGS[index]))
            unit = values / (values.square().sum(1, keepdim=True) + 1e-10).sqrt()
            one, other = unit.chunk(2)
            total = total + conv2d((one - other).square(), self._heads[index]).mean()
        return total
