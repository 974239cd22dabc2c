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
from mild_bench.metrics.cag.trace import COLUMNS, TEXT, VALUES, WHOLE, Column, LeakageMap, Trace

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
class Tokens:
    """What the tokens of a call are; ``picture`` are the queries that stand on the grid."""

    grid: Grid
    groups: Groups
    picture: slice


@dataclass(frozen=True)
class Looked:
    """A call's own output, its masses (batch x heads x queries x groups) and statistics."""

    output: Tensor
    masses: Tensor
    statistics: CallStatistics


@dataclass(frozen=True)
class Reading:
    """The statistics of one call; tensors stay on their device until a trace is made."""

    place: Place
    groups: Groups
    statistics: CallStatistics


def sort_tokens(regions: Regions, grid: Grid, layout: Layout, device: torch.device) -> Tokens:
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
    groups = Groups.of(
        keys.to(device), queries.to(device), region.to(device), people=len(regions.people)
    )
    start = layout.text if layout.text_queries and layout.order == "first" else 0
    return Tokens(grid, groups, slice(start, start + layout.picture))


def read(call: AttentionCall, groups: Groups, *, with_gap: bool, with_margin: bool) -> Looked:
    """Do the call as asked and see what it looks at."""
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
    found = found.detach()
    numbers = statistics(
        found, query, key, groups,
        mask=call.attn_mask, scale=call.scale, with_gap=with_gap, with_margin=with_margin,
    )  # fmt: skip
    return Looked(output, found, numbers)


def trace_of(
    readings: list[Reading],
    regions: Regions,
    skipped: dict[str, str],
    maps: tuple[LeakageMap, ...] = (),
) -> Trace:
    """Bring readings to the CPU and lay them out as a table; batches are averaged part by part."""
    size = len(regions.groups)
    rows: list[dict[str, str | int | float]] = []
    matrices: list[Table] = []
    for reading in readings:
        place, groups = reading.place, reading.groups
        values = {name: _by_part(getattr(reading.statistics, name), place) for name in VALUES}
        tables = _by_part(reading.statistics.matrix, place)
        for part, name in enumerate(place.parts):
            if not name:
                continue
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
                matrices.append(_full(tables[part, head], size))
    columns = {name: _column(name, [row[name] for row in rows]) for name in COLUMNS}
    stack = np.array(matrices, dtype=np.float64).reshape(-1, size, size)
    return Trace(
        columns,
        stack,
        regions.groups,
        dict(skipped),
        maps=maps,
        erased=regions.erased,
        threshold=regions.threshold,
    )


def _column(name: str, values: list[str | int | float]) -> Column:
    if name in TEXT:
        return np.array(values, dtype=np.str_)
    if name in WHOLE:
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=np.float64)


def _by_part(values: Tensor, place: Place) -> Table:
    parts = values.double().unflatten(0, (len(place.parts), -1))
    return np.asarray(parts.mean(dim=1).cpu().numpy())


def _full(matrix: Table, size: int) -> Table:
    whole = np.full((size, size), np.nan)
    whole[: len(matrix), : len(matrix)] = matrix
    return whole
