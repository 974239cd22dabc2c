"""Where on the picture a model looks at people: running means over layers, heads and steps."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

import torch
from torch import Tensor

from mild_bench.metrics.cag.regions import Grid
from mild_bench.metrics.cag.trace import LeakageMap


class MapTotals:
    """One total for each part of the batch and each grid; they stay on the model's device."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, Grid], Tensor] = {}
        self._counts: dict[tuple[str, Grid], int] = {}

    @torch.no_grad()
    def add(self, on_people: Tensor, parts: tuple[str, ...], grid: Grid) -> None:
        """Add a call: batch x heads x picture tokens x people, masses of each query on each.

        A batch's equal parts are averaged over their pictures; those without a name are left out.
        """
        by_part = on_people.unflatten(0, (len(parts), -1))
        pictures, heads = by_part.shape[1:3]
        sums = by_part.sum(dim=(1, 2, 4)) / pictures
        for part, row in zip(parts, sums, strict=True):
            if not part:
                continue
            key = part, grid
            before = self._totals.get(key)
            self._totals[key] = row if before is None else before + row
            self._counts[key] = self._counts.get(key, 0) + heads

    def maps(self) -> tuple[LeakageMap, ...]:
        """Bring the means to the CPU, in the order in which part and grid were first seen."""
        return tuple(
            LeakageMap(
                part,
                grid.height,
                grid.width,
                grid.cell_height,
                grid.cell_width,
                (total / self._counts[part, grid]).float().cpu().numpy().reshape(
                    grid.height, grid.width
                ),
            )
            for (part, grid), total in self._totals.items()
        )  # fmt: skip
