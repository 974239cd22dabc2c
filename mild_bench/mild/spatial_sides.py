"""Which side every token of a layer is on: the background, or one of the people."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mild_bench.errors import BadInput

THRESHOLD = 0.5


def sides_of_cells(
    labels: Tensor, grid: tuple[int, int], *, threshold: float = THRESHOLD
) -> Tensor:
    """Area-downsample label maps to a layer's grid.

    A cell belongs to people when they together cover at least ``threshold`` of its pixels, and
    then to the one who covers most of it (of equals, the lowest number). A person smaller than
    that in every cell has no token at this layer.

    Args:
        labels: integers, batch x height x width; 0 = background, k = person k.
        grid: rows and columns of the layer.
        threshold: share of the cell's area, above 0 and at most 1.

    Returns:
        integers, batch x (rows * columns), row by row; values as in ``labels``.
    """
    people = max(1, int(labels.max()))
    one_hot = functional.one_hot(labels.long(), people + 1).movedim(-1, 1).float()
    cover = functional.interpolate(one_hot, size=grid, mode="area")[:, 1:]
    most = cover.argmax(dim=1) + 1
    is_person = cover.sum(dim=1) >= threshold - 1e-6  # the sum of exact shares may round below
    return torch.where(is_person, most, torch.zeros_like(most)).flatten(1)


def grid_of(tokens: int, height: int, width: int) -> tuple[int, int]:
    """Return rows and columns of a layer with this many tokens over a picture of this size.

    A token covers s x s pixels, s whole; strided layers round up, so there are
    ceil(height / s) x ceil(width / s) of them. Powers of two are tried first.

    Raises:
        BadInput: no s fits.
    """
    largest = max(height, width)
    powers = [2**power for power in range(largest.bit_length() + 1)]
    for size in (*powers, *range(1, largest + 1)):
        rows, columns = -(-height // size), -(-width // size)
        if rows * columns == tokens:
            return rows, columns
    raise BadInput(
        f"labels: a layer has {tokens} tokens, which no square cell size makes of a {height} x "
        f"{width} picture; give label maps of the size of the picture that the model works on"
    )


class SpatialSides:
    """The label maps of the pictures in work, as every layer needs them.

    Shared by all layers of a model. ``labels`` is batch x height x width, on any device.
    """

    def __init__(self, labels: Tensor, *, threshold: float = THRESHOLD) -> None:
        """Check the maps.

        Raises:
            BadInput: not batch x height x width of bool or whole numbers from 0, or a threshold
                outside of (0, 1].
        """
        if labels.ndim != 3 or labels.is_floating_point() or labels.numel() == 0:
            raise BadInput(
                "labels: expected bool or integer maps, batch x height x width, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}; masks[None] adds a batch"
            )
        if int(labels.min()) < 0:
            raise BadInput(
                f"labels: expected 0 (background) or the person's number, got {int(labels.min())}"
            )
        if not 0 < threshold <= 1:
            raise BadInput(f"threshold: expected above 0 and at most 1, got {threshold}")
        self.labels = labels.long()
        self.people = int(self.labels.max())
        self.threshold = threshold
        self._one_hot: dict[tuple[int, torch.device], Tensor] = {}

    def one_hot(self, tokens: int, batch: int, device: torch.device) -> Tensor:
        """Return the side of every token, float 0 or 1, batch x tokens x (people + 1).

        A layer that sees several times as many pictures as there are label maps sees them in
        whole rounds, as in classifier-free guidance (without, then with the prompt).

        Raises:
            BadInput: the layer's batch is no multiple of the number of maps, or its number of
                tokens does not fit the picture.
        """
        maps, height, width = self.labels.shape
        if batch % maps:
            raise BadInput(
                f"labels: expected one map or one per picture, got {maps} maps for a batch of "
                f"{batch}; give as many maps as pictures"
            )
        key = (tokens, device)
        if key not in self._one_hot:
            grid = grid_of(tokens, height, width)
            cells = sides_of_cells(self.labels, grid, threshold=self.threshold)
            one_hot = functional.one_hot(cells, self.people + 1)
            self._one_hot[key] = one_hot.to(device, torch.float32)
        return self._one_hot[key].repeat(batch // maps, 1, 1)
