"""From masks in pixels to groups of tokens on a layer's own grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.images import Mask


@dataclass(frozen=True)
class Grid:
    """Tokens in rows and columns, each ``cell_height`` x ``cell_width`` pixels of the picture."""

    height: int
    width: int
    cell_height: float
    cell_width: float


@dataclass(frozen=True)
class TokenGroups:
    """Tokens of a grid, row by row.

    Attributes:
        labels: int64; 0 = background, 1..people, ``people + 2`` = padding.
        region: bool; the tokens whose attention is asked about.
    """

    labels: npt.NDArray[np.int64]
    region: Mask


@dataclass(frozen=True)
class Regions:
    """Who is where in the picture that the model sees.

    Attributes:
        people: bool people x height x width.
        query: bool height x width, whose attention is asked about; everyone's place when None.
        padding: bool height x width, canvas that is no picture: neither background nor person.
        threshold: the least part of a token's cell that a mask must cover, in (0, 1]. Of several
            people who do, the one who covers most has the token.
        names: the people's, in order; ``person 1`` and so on when empty.
        erased: names of those who are to be erased; empty when not told.

    Raises:
        BadInput: masks that do not fit each other, a threshold out of range, or odd names.
    """

    people: Mask
    query: Mask | None = None
    padding: Mask | None = None
    threshold: float = 0.5
    names: tuple[str, ...] = ()
    erased: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.people.ndim != 3 or self.people.dtype != np.bool_ or not self.people.size:
            raise BadInput(
                "people: expected bool people x height x width, at least one person, got "
                f"{self.people.dtype} {self.people.shape}"
            )
        for name, mask in (("query", self.query), ("padding", self.padding)):
            if mask is not None and (mask.shape != self.size or mask.dtype != np.bool_):
                raise BadInput(
                    f"{name}: expected bool {self.size[0]} x {self.size[1]} as the people's, got "
                    f"{mask.dtype} {mask.shape}"
                )
        if not 0 < self.threshold <= 1:
            raise BadInput(f"threshold: expected above 0 and at most 1, got {self.threshold}")
        if self.names and len(set(self.names)) != len(self.people):
            raise BadInput(
                f"names: expected {len(self.people)} different ones, one a person, got {self.names}"
            )
        if unknown := set(self.erased) - set(self.groups[1:-2]):
            raise BadInput(f"erased: expected any of {self.groups[1:-2]}, got {sorted(unknown)}")

    @classmethod
    def from_map(
        cls,
        people_map: npt.NDArray[np.integer],
        people: Sequence[int],
        *,
        query: Mask | None = None,
    ) -> Regions:
        """Take people by their numbers in a label map (height x width).

        Raises:
            BadInput: no number is given, or one is not on the map.
        """
        absent = sorted(set(people) - set(np.unique(people_map).tolist()))
        if absent or not people:
            raise BadInput(f"people: expected numbers that are on the map, got {absent or 'none'}")
        return cls(np.stack([people_map == number for number in people]), query=query)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.people.shape[1], self.people.shape[2]

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, in the order of labels."""
        people = self.names or (f"person {n + 1}" for n in range(len(self.people)))
        return ("background", *people, "text", "padding")

    def on(self, grid: Grid) -> TokenGroups:
        """Average the masks over each token's cell and sort the tokens."""
        rows = _overlap(grid.height, grid.cell_height, self.size[0])
        columns = _overlap(grid.width, grid.cell_width, self.size[1]).T
        covers = (rows @ self.people.astype(np.float64) @ columns).reshape(len(self.people), -1)
        enough = self.threshold - 1e-9  # sums of parts of pixels are not exact
        labels = np.where(covers.max(axis=0) >= enough, covers.argmax(axis=0) + 1, 0)
        region = labels > 0
        if self.query is not None:
            region = (rows @ self.query.astype(np.float64) @ columns).ravel() >= enough
        if self.padding is not None:
            padding = (rows @ self.padding.astype(np.float64) @ columns).ravel() >= enough
            labels = np.where(padding, len(self.people) + 2, labels)
            region = region & ~padding
        return TokenGroups(labels.astype(np.int64), region)


def find_grid(
    tokens: int, picture: tuple[int, int], latents: tuple[int, int] | None = None
) -> Grid | None:
    """Return the grid of a layer with so many tokens, None when none fits.

    With the size of the model's latents, the grids are that and what halving it (rounding up, as
    strided convolutions do) gives. Without, it is the factors nearest to the picture's shape.
    """
    height, width = picture
    if latents is not None:
        rows, columns = latents
        cell_height, cell_width = height / rows, width / columns
        while rows * columns > tokens and rows * columns > 1:
            rows, columns = -(-rows // 2), -(-columns // 2)
            cell_height, cell_width = 2 * cell_height, 2 * cell_width
        if rows * columns == tokens:
            return Grid(rows, columns, cell_height, cell_width)
        return None
    factors = [n for n in range(1, tokens + 1) if tokens % n == 0]
    rows = min(factors, key=lambda n: abs(math.log(n * n / tokens * width / height)))
    columns = tokens // rows
    cell = math.sqrt(height * width / tokens)
    # Rounding a side of the picture to whole tokens moves it by less than one.
    if abs(height / cell - rows) >= 1 or abs(width / cell - columns) >= 1:
        return None
    return Grid(rows, columns, height / rows, width / columns)


def _overlap(cells: int, cell: float, pixels: int) -> npt.NDArray[np.float64]:
    """Cells x pixels: which part of a cell (what lies within the picture) is which pixel."""
    starts = np.arange(cells)[:, None] * cell
    left = np.arange(pixels)[None]
    parts = np.minimum(starts + cell, left + 1) - np.maximum(starts, left)
    parts = np.clip(parts, 0, None)
    total = parts.sum(axis=1, keepdims=True)
    part: npt.NDArray[np.float64] = parts / np.where(total > 0, total, 1)
    return part
