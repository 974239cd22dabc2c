"""LPIPS (Zhang et al., CVPR 2018), with its spatial map, on the published weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask, Rgb, to_bchw
from mild_bench.metrics.delta_network import (
    Conv,
    Patches,
    Pool,
    difference_boxes,
    run,
)
from mild_bench.metrics.view import Measure, Settings, Value, Values, View
from mild_bench.metrics.weights import find_weights
from mild_bench.score import Region

if TYPE_CHECKING:
    from torch import Tensor

Net = Literal["alex", "vgg"]
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of inputs in [-1, 1]
VGG_POOL_BEFORE = {2, 4, 7, 10}  # indices of convolutions
VGG_TAPS = {1, 3, 6, 9, 12}
SMALLEST = 32  # pixels a side; AlexNet's last maps vanish below
PIXELS_AT_ONCE = 4 << 20  # changed pixels in one pass: 1 GiB of VGG's widest maps


@dataclass(frozen=True)
class Lpips:
    """An LPIPS network: trunk with tapped layers, one head for each tap."""

    layers: tuple[Conv | Pool, ...]
    heads: tuple[Tensor, ...]

    def compare(self, truth: Rgb, pictures: Sequence[Rgb]) -> list[Distance]:
        """Return the distance of each picture to the truth.

        All pictures are uint8, height x width x 3, equally large, at least 32 x 32.
        """
        import torch

        known = _scaled(truth)
        starts = [_patches(truth, picture) for picture in pictures]
        with torch.inference_mode():
            return [found for some in _batches(starts) for found in self._compare(known, some)]

    def _compare(self, known: Tensor, starts: Sequence[Patches]) -> list[Distance]:
        maps: list[list[npt.NDArray[np.float32]]] = [[] for _ in starts]
        stages = run(self.layers, known, starts)
        for head, (features, states) in zip(self.heads, stages, strict=True):
            unit = _normalised(features)
            for found, patches in zip(maps, states, strict=True):
                found.append(_distances(head, unit, patches))
        return [Distance(tuple(layers)) for layers in maps]


@dataclass(frozen=True)
class Distance:
    """LPIPS of one pair: a map for each tapped layer, at that layer's size."""

    layers: tuple[npt.NDArray[np.float32], ...]

    @property
    def whole(self) -> float:
        """The number that the ``lpips`` package calls LPIPS: 0 = equal, lower is better."""
        return float(sum(layer.mean(dtype=np.float64) for layer in self.layers))

    def spatial(self, height: int, width: int) -> npt.NDArray[np.float32]:
        """Return the map that ``lpips.LPIPS(spatial=True)`` returns, height x width."""
        import torch
        from torch.nn.functional import interpolate

        total = torch.zeros(1, 1, height, width)
        for layer in self.layers:
            total += interpolate(
                torch.from_numpy(layer)[None, None], size=(height, width), mode="bilinear"
            )
        return np.asarray(total[0, 0].numpy())


def load_lpips(net: Net, settings: Settings) -> tuple[Lpips, dict[str, object]]:
    """Return the network and what a record keeps of its weights.

    Raises:
        MissingPart: its weights are nowhere to be found.
    """
    import torch

    folder, download = settings.weights, settings.allow_download
    trunk = find_weights(f"{net}-trunk", folder=folder, allow_download=download)
    heads = find_weights(f"{net}-heads", folder=folder, allow_download=download)
    build = _alex if net == "alex" else _vgg
    pairs = [
        (weight.contiguous(memory_format=torch.channels_last), bias)
        for weight, bias in zip(trunk.tensors[::2], trunk.tensors[1::2], strict=True)
    ]
    known: dict[str, object] = {
        "source": f"{trunk.source}; {heads.source}",
        "sha256": trunk.sha256,
        "heads_sha256": heads.sha256,
    }
    return Lpips(build(pairs), heads.tensors), known


def alex_measure(settings: Settings) -> Measure:
    """Return LPIPS on AlexNet as the scorer uses it."""
    return _measure("alex", settings)


def vgg_measure(settings: Settings) -> Measure:
    """Return LPIPS on VGG-16 as the scorer uses it."""
    return _measure("vgg", settings)


def _measure(net: Net, settings: Settings) -> Measure:
    lpips, weights = load_lpips(net, settings)

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        if min(view.task.mask.shape) < SMALLEST:
            reason = f"LPIPS needs pictures of at least {SMALLEST} x {SMALLEST} pixels"
            return [dict.fromkeys(view.regions, reason) for _ in pictures]
        shares = {name: Share(region) for name, region in view.regions.items()}
        return [_regions(shares, found) for found in lpips.compare(view.truth, pictures)]

    return Measure(measure, weights)


def _regions(shares: dict[Region, Share], distance: Distance) -> Values:
    return {
        name: distance.whole if name == "whole" else share.mean(distance)
        for name, share in shares.items()
    }


@dataclass(frozen=True)
class Share:
    """How much each value of a layer's map counts in the mean of the spatial map over a region.

    Enlarging a map is linear, so that its mean over a region is a weighted sum of the small map:
    the weights are found once per task and the large maps are never made.
    """

    region: Mask
    weights: dict[tuple[int, int], npt.NDArray[np.float64]] = field(default_factory=dict)

    def mean(self, distance: Distance) -> Value:
        """Return the mean of ``distance.spatial`` over the region."""
        if not self.region.any():
            return "the region is empty"
        return float(sum((layer * self._of(layer.shape)).sum() for layer in distance.layers))

    def _of(self, size: tuple[int, ...]) -> npt.NDArray[np.float64]:
        height, width = size
        if (height, width) not in self.weights:
            rows, columns = (
                _enlarging(small, large)
                for small, large in zip(size, self.region.shape, strict=True)
            )
            counted = rows.T @ self.region @ columns
            self.weights[height, width] = counted / np.count_nonzero(self.region)
        return self.weights[height, width]


def _enlarging(small: int, large: int) -> npt.NDArray[np.float64]:
    """Return the large x small matrix of bilinear enlarging, pixel centres aligned."""
    import torch
    from torch.nn.functional import interpolate

    one = torch.eye(small, dtype=torch.float64)[None]
    return np.asarray(interpolate(one, size=large, mode="linear")[0].numpy().T)


def _alex(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Conv | Pool, ...]:
    one, two, *rest = pairs
    return (
        Conv(*one, stride=4, padding=2, tap=True),
        Pool(3, 2),
        Conv(*two, stride=1, padding=2, tap=True),
        Pool(3, 2),
        *(Conv(*pair, stride=1, padding=1, tap=True) for pair in rest),
    )


def _vgg(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Conv | Pool, ...]:
    layers: list[Conv | Pool] = []
    for index, pair in enumerate(pairs):
        if index in VGG_POOL_BEFORE:
            layers.append(Pool(2, 2))
        layers.append(Conv(*pair, stride=1, padding=1, tap=index in VGG_TAPS))
    return tuple(layers)


def _scaled(picture: Rgb) -> Tensor:
    import torch

    shift, scale = (torch.tensor(values).view(1, 3, 1, 1) for values in (SHIFT, SCALE))
    scaled = to_bchw(picture).mul_(2).sub_(1).sub_(shift).div_(scale)
    return scaled.contiguous(memory_format=torch.channels_last)


def _batches(starts: Sequence[Patches]) -> Iterator[Sequence[Patches]]:
    """Split pictures so that their changed pixels stay within the budget of one pass."""
    batch: list[Patches] = []
    pixels = 0
    for patches in starts:
        area = sum(box.area for box, _ in patches)
        if batch and pixels + area > PIXELS_AT_ONCE:
            yield batch
            batch, pixels = [], 0
        batch.append(patches)
        pixels += area
    if batch:
        yield batch


def _patches(truth: Rgb, picture: Rgb) -> Patches:
    boxes = difference_boxes((truth != picture).any(axis=2))
    return [(box, _scaled(picture[box.top : box.bottom, box.left : box.right])) for box in boxes]


def _normalised(features: Tensor) -> Tensor:
    length = features.square().sum(dim=1, keepdim=True).sqrt_()
    return features / length.add_(1e-10)


def _distances(head: Tensor, unit: Tensor, patches: Patches) -> npt.NDArray[np.float32]:
    from torch.nn.functional import conv2d

    values = unit.new_zeros(unit.shape[-2:])
    for box, patch in patches:
        part = (slice(box.top, box.bottom), slice(box.left, box.right))
        squares = _normalised(patch).sub_(unit[(..., *part)]).square_()
        values[part] = conv2d(squares, head)[0, 0]
    return np.asarray(values.numpy())
