"""A trace as a table of layers x steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mild_bench.metrics.cag.layer_names import short_names
from mild_bench.metrics.cag.trace import Trace


@dataclass(frozen=True)
class LayerRows:
    """Leakage by layer and step, means over heads.

    Attributes:
        layers: full names, in model order.
        names: short ones.
        sizes: grids, height x width.
        steps: as the probe counted them.
        leakage: layers x steps, NaN where there is none.
        reasons: why there is none, each once.
    """

    layers: list[str]
    names: list[str]
    sizes: list[tuple[int, int]]
    steps: list[int]
    leakage: npt.NDArray[np.float64]
    reasons: list[str]


def layer_rows(trace: Trace) -> LayerRows:
    """Sort the rows of a trace into a table of layers x steps."""
    columns = trace.columns
    grids = {
        layer: (height, width)
        for layer, height, width in zip(
            *(columns[name].tolist() for name in ("layer", "height", "width")), strict=True
        )
    }
    layers = [str(layer) for layer in grids]
    steps = sorted({int(step) for step in columns["step"].tolist()})
    means = trace.mean_by("layer", "step")
    leakage = np.array(
        [[means.get((layer, step), math.nan) for step in steps] for layer in layers]
    ).reshape(len(layers), len(steps))
    reasons = sorted({str(reason) for reason in columns["reason"].tolist() if reason})
    return LayerRows(layers, short_names(layers), list(grids.values()), steps, leakage, reasons)
