"""Run a convolution network on pictures that equal a known one but for a few boxes, exactly.

Layer by layer, what a box can change grows by the kernel; everything else is the known picture's
own activation, which is computed once for all pictures. So each picture costs about its changed
area, and nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mild_bench.images import Mask

if TYPE_CHECKING:
    from torch import Tensor

CELL = 16  # pixels: differences nearer than this share a box
WASTE = 1.25  # two boxes become one when that costs at most this much more area


@dataclass(frozen=True)
class Box:
    """Rows ``top:bottom`` and columns ``left:right``."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        """Pixels inside."""
        return (self.bottom - self.top) * (self.right - self.left)

    def around(self, other: Box) -> Box:
        """Return the smallest box that holds both."""
        return Box(
            min(self.top, other.top), min(self.left, other.left),
            max(self.bottom, other.bottom), max(self.right, other.right),
        )  # fmt: skip

    def near(self, other: Box, gap: int) -> bool:
        """Whether fewer than ``gap`` pixels lie between the two."""
        return (
            self.top < other.bottom + gap and other.top < self.bottom + gap
            and self.left < other.right + gap and other.left < self.right + gap
        )  # fmt: skip


@dataclass(frozen=True)
class Conv:
    """Convolution, then ReLU; ``tap`` marks a layer whose output is wanted."""

    weight: Tensor
    bias: Tensor
    stride: int
    padding: int
    tap: bool

    @property
    def kernel(self) -> int:
        """Side of the kernel."""
        return int(self.weight.shape[-1])

    def __call__(self, values: Tensor) -> Tensor:
        """Apply to values that carry their padding."""
        from torch.nn import functional

        return functional.conv2d(values, self.weight, self.bias, stride=self.stride).relu_()


@dataclass(frozen=True)
class Pool:
    """Maximum over ``kernel`` x ``kernel``, without padding."""

    kernel: int
    stride: int
    padding: int = 0
    tap: bool = False

    def __call__(self, values: Tensor) -> Tensor:
        """Apply."""
        from torch.nn import functional

        return functional.max_pool2d(values, self.kernel, self.stride)


Patches = list[tuple[Box, "Tensor"]]  # where a picture differs, and its 1 x c x h x w values there


def run(
    layers: Sequence[Conv | Pool], known: Tensor, pictures: Sequence[Patches]
) -> Iterator[tuple[Tensor, Iterator[Patches]]]:
    """Yield, for every tapped layer, the known activation and each picture's patches.

    Args:
        layers: the network.
        known: 1 x 3 x height x width.
        pictures: each picture's patches of ``known``'s size, disjoint.
    """
    states = list(pictures)
    for layer in layers:
        states = [_advance(layer, known, patches) for patches in states]
        known = layer(_padded(known, _whole(known), layer.padding))
        if layer.tap:
            yield known, iter(states)


def difference_boxes(differs: Mask) -> list[Box]:
    """Return disjoint boxes that hold everything that is True."""
    import cv2

    rows, columns = (-(-side // CELL) for side in differs.shape)
    cells = np.zeros((rows * CELL, columns * CELL), np.uint8)
    cells[: differs.shape[0], : differs.shape[1]] = differs
    coarse = cells.reshape(rows, CELL, columns, CELL).max(axis=(1, 3))
    count, labels = cv2.connectedComponents(coarse, connectivity=8)
    fine = np.kron(labels, np.ones((CELL, CELL), np.int32))[: differs.shape[0], : differs.shape[1]]
    boxes = []
    for number in range(1, count):
        at_rows, at_columns = np.nonzero(differs & (fine == number))
        boxes.append(
            Box(
                int(at_rows.min()), int(at_columns.min()),
                int(at_rows.max()) + 1, int(at_columns.max()) + 1,
            )
        )  # fmt: skip
    return _merged(boxes, gap=0)


def _advance(layer: Conv | Pool, known: Tensor, patches: Patches) -> Patches:
    height, width = known.shape[-2:]
    boxes = _merged([_reach(layer, box, height, width) for box, _ in patches], gap=layer.kernel)
    return [(box, layer(_inputs(layer, known, box, patches))) for box in boxes if box.area]


def _inputs(layer: Conv | Pool, known: Tensor, box: Box, patches: Patches) -> Tensor:
    stride, pad, kernel = layer.stride, layer.padding, layer.kernel
    need = Box(
        box.top * stride - pad, box.left * stride - pad,
        (box.bottom - 1) * stride - pad + kernel, (box.right - 1) * stride - pad + kernel,
    )  # fmt: skip
    values = _padded(known, need, 0)
    for own, patch in patches:
        _paste(values, need, own, patch)
    return values


def _reach(layer: Conv | Pool, box: Box, height: int, width: int) -> Box:
    """Return which outputs see an input of the box."""

    def low(start: int) -> int:
        return max(0, -(-(start + layer.padding - layer.kernel + 1) // layer.stride))

    def high(stop: int, side: int) -> int:
        outputs = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
        return min(outputs, (stop - 1 + layer.padding) // layer.stride + 1)

    top, left = low(box.top), low(box.left)
    bottom, right = max(top, high(box.bottom, height)), max(left, high(box.right, width))
    return Box(top, left, bottom, right)


def _padded(known: Tensor, need: Box, more: int) -> Tensor:
    """Return a copy of the needed part; what lies outside the picture is 0."""
    import torch
    from torch.nn import functional

    height, width = known.shape[-2:]
    top, left = need.top - more, need.left - more
    bottom, right = need.bottom + more, need.right + more
    part = known[:, :, max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    sides = (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height))
    if any(sides):
        part = functional.pad(part, sides)
    return part.clone(memory_format=torch.channels_last)


def _paste(values: Tensor, need: Box, own: Box, patch: Tensor) -> None:
    top, bottom = max(need.top, own.top), min(need.bottom, own.bottom)
    left, right = max(need.left, own.left), min(need.right, own.right)
    if top < bottom and left < right:
        values[:, :, top - need.top : bottom - need.top, left - need.left : right - need.left] = (
            patch[:, :, top - own.top : bottom - own.top, left - own.left : right - own.left]
        )


def _whole(values: Tensor) -> Box:
    return Box(0, 0, int(values.shape[-2]), int(values.shape[-1]))


def _merged(boxes: Sequence[Box], *, gap: int) -> list[Box]:
    """Join boxes that overlap, or that are cheaper together, until none are left to join."""
    left = [box for box in boxes if box.area]
    done: list[Box] = []
    while left:
        box = left.pop()
        partner = next((other for other in left if _better_joined(box, other, gap)), None)
        if partner is None:
            done.append(box)
            continue
        left.remove(partner)
        left += [box.around(partner), *done]
        done = []
    return sorted(done, key=lambda box: (box.top, box.left))


def _better_joined(one: Box, other: Box, gap: int) -> bool:
    return one.near(other, gap) or one.around(other).area <= WASTE * (one.area + other.area)
