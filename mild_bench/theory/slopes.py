"""Slopes on a logarithmic axis, with intervals over independent models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 4000
LEVEL = 0.95

Points = Sequence[tuple[float, float]]  # (margin, value) of one model's curve


@dataclass(frozen=True)
class Interval:
    """A mean over models and the interval that resampling the models gives it."""

    mean: float
    low: float
    high: float
    models: int


def slope(curves: Sequence[Points], *, seed: int, floor: float = 0.0) -> Interval | None:
    """Fit log(value) against margin for each curve; average over curves.

    Only points with a margin above 0, where every query prefers its own side, and a value above
    ``floor`` take part. A curve with fewer than two such points is left out; None when fewer than
    two curves are left.
    """
    slopes = []
    for curve in curves:
        used = [(x, y) for x, y in curve if 0 < x < np.inf and y > floor]
        if len(used) >= 2:
            x, y = np.array(used).T
            slopes.append(float(np.polyfit(x, np.log(y), 1)[0]))
    return interval(slopes, seed=seed) if len(slopes) >= 2 else None


def interval(values: Sequence[float], *, seed: int) -> Interval:
    """Return the mean with its percentile bootstrap interval."""
    data = np.asarray(values, dtype=np.float64)
    low, high = _bounds(data[:, None], seed=seed)
    return Interval(float(data.mean()), float(low[0]), float(high[0]), len(data))


def band(
    curves: Sequence[Points], at: npt.NDArray[np.float64], *, seed: int
) -> tuple[npt.NDArray[np.float64], ...]:
    """Return mean, low and high of log(value) at the margins ``at``.

    Each curve is interpolated between its own points; NaN where a curve does not reach.
    """
    rows = []
    for curve in curves:
        x, y = np.array(sorted((x, y) for x, y in curve if np.isfinite(x) and y > 0)).T
        rows.append(np.interp(at, x, np.log(y), left=np.nan, right=np.nan))
    logs = np.array(rows)
    low, high = _bounds(logs, seed=seed)
    return logs.mean(axis=0), low, high


def _bounds(
    data: npt.NDArray[np.float64], *, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    draw = np.random.default_rng(seed)
    drawn = draw.integers(0, len(data), size=(RESAMPLES, len(data)))
    means = data[drawn].mean(axis=1)
    edge = (1 - LEVEL) / 2
    return np.quantile(means, edge, axis=0), np.quantile(means, 1 - edge, axis=0)
