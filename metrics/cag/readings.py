"""From attention calls to the rows of a trace."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mild_bench.metrics.cag.intercept import AttentionCall
from mild_bench.metrics.cag.layout import Layout
from mild_bench.metrics.cag.masses import attention_with_masses, masses
from mild_bench.metrics.cag.regions import Grid, Regions
from mild_bench.metrics.cag.statistics import CallStatistics, Groups, statistics
from mild_bench.metrics.cag.trace import VALUES, Column, Trace

Table = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Place:
    """Where and when a call happened."""

    layer: str
    step: int
    timestep: float
    parts: tuple[str, ...]
    grid: Grid


@dataclass(frozen=True)
class Reading:
    """The statistics of one call; tensors stay on their device until a trace is made."""

    place: Place
    groups: Groups
    statistics: CallStatistics


def group_tokens(regions: Regions, grid: Grid, layout: Layout, device: torch.device) -> Groups:
    """Sort a call's keys and queries into background, people, text and padding."""
    tokens = regions.on(grid)
    labels = torch.from_numpy(tokens.labels)
    region = torch.from_numpy(tokens.region)
    words = torch.full((layout.text,), len(regions.people) + 1)

    def joined(picture: Tensor, text: Tensor) -> Tensor:
        return torch.cat([text, picture] if layout.order == "first" else [picture, text])

    keys = joined(labels, words)
    queries = keys if layout.text_queries else labels
    if layout.text_queries:
        region = joined(region, torch.zeros(layout.text, dtype=torch.bool))
    return Groups.of(
        keys.to(device), queries.to(device), region.to(device), people=len(regions.people)
    )


def read(
    call: AttentionCall, groups: Groups, *, with_gap: bool, with_margin: bool
) -> tuple[Tensor, CallStatistics]:
    """Do the call as asked and return its output beside the statistics."""
    query, key = call.query, call.key
    if call.plain:
        probed = attention_with_masses(
            query, key, call.value, groups.keys, groups.count,
            mask=call.attn_mask, scale=call.scale,
        )  # fmt: skip
        output, found = probed.output, probed.masses
    else:
        output = call.run()
        if call.enable_gqa:
            key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
        found = masses(query, key, groups.keys, groups.count, mask=call.attn_mask, scale=call.scale)
    return output, statistics(
        found.detach(), query, key, groups,
        mask=call.attn_mask, scale=call.scale, with_gap=with_gap, with_margin=with_margin,
    )  # fmt: skip


def trace_of(readings: list[Reading], regions: Regions, skipped: dict[str, str]) -> Trace:
    """Bring readings to the CPU and lay them out as a table; batches are averaged part by part."""
    rows: list[dict[str, str | int | float]] = []
    matrices: list[Table] = []
    for reading in readings:
        place, groups = reading.place, reading.groups
        values = {name: _by_part(getattr(reading.statistics, name), place) for name in VALUES}
        tables = _by_part(reading.statistics.matrix, place)
        for part, name in enumerate(place.parts):
            for head in range(tables.shape[1]):
                reason = groups.reason
                rows.append(
                    {
                        "layer": place.layer,
                        "step": place.step,
                        "timestep": place.timestep,
                        "part": name,
                        "head": head,
                        "height": place.grid.height,
                        "width": place.grid.width,
                        "background": len(groups.background),
                        "people": len(groups.figures),
                        "region": len(groups.region),
                        **{value: float(table[part, head]) for value, table in values.items()},
                        "reason": reason,
                    }
                )
                matrices.append(_full(tables[part, head], len(regions.names)))
    columns = {name: _column(name, [row[name] for row in rows]) for name in COLUMNS}
    size = len(regions.names)
    stack = np.array(matrices, dtype=np.float64).reshape(-1, size, size)
    return Trace(columns, stack, regions.names, dict(skipped))


_TEXT = ("layer", "part", "reason")
_WHOLE = ("step", "head", "height", "width", "background", "people", "region")
COLUMNS = (
    "layer", "step", "timestep", "part", "head", "height", "width", "background", "people",
    "region", *VALUES, "reason",
)  # fmt: skip


def _column(name: str, values: list[str | int | float]) -> Column:
    if name in _TEXT:
        return np.array(values, dtype=np.str_)
    if name in _WHOLE:
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=np.float64)


def _by_part(values: Tensor, place: Place) -> Table:
    parts = values.double().unflatten(0, (len(place.parts), -1))
    return np.asarray(parts.mean(dim=1).cpu().numpy())


def _full(matrix: Table, size: int) -> Table:
    whole = np.full((size, size), np.nan)
    whole[: len(matrix), : len(matrix)] = matrix
    return whole
