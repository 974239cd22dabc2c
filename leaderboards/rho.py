"""Spearman's rho, how far it moves when scenes are drawn again, and its p."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np

from mild_bench.leaderboards.stats import Floats, tails, tidy

EXACT = 7  # items whose permutations are all tried: 5,040
USABLE = 0.5  # share of the draws that must have a rho for an interval


@dataclass(frozen=True)
class Rho:
    """A rank correlation, its 95% interval and two-sided p; None where there is none."""

    rho: float | None
    low: float | None
    high: float | None
    p: float | None


def spearman(first: Floats, second: Floats) -> float:
    """Return the rank correlation of two rows of equal length, midranks for ties.

    NaN when one of them is constant.
    """
    return float(_pearson(_ranks(first), _ranks(second)))


def spearman_rows(first: Floats, second: Floats) -> Floats:
    """Return ``spearman`` of each row of two tables of equal shape, rows x items."""
    return _pearson(_ranks(first), _ranks(second))


def resampled_rho(first: Floats, second: Floats, weights: Floats) -> Floats:
    """Return rho of each resample; ``weights``, resamples x items, says how often each is drawn.

    Equal to ``spearman`` of the drawn items; NaN where a draw is constant or empty.
    """
    rows = _weighted_ranks(first, weights), _weighted_ranks(second, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = weights.sum(axis=1, keepdims=True)
        a, b = (row - (weights * row).sum(axis=1, keepdims=True) / total for row in rows)
        spread = np.sqrt((weights * a**2).sum(axis=1) * (weights * b**2).sum(axis=1))
        return np.asarray(np.where(spread > 0, (weights * a * b).sum(axis=1) / spread, np.nan))


def summed_up(rho: float, resampled: Floats, scenes: int) -> Rho:
    """Return rho with the interval and p that its resamples over so many scenes give."""
    usable = resampled[~np.isnan(resampled)]
    if scenes < 2 or len(usable) < USABLE * len(resampled):
        return Rho(tidy(rho), None, None, None)
    low, high = np.quantile(usable, tails(scenes))
    below, above = int((usable <= 0).sum()), int((usable >= 0).sum())
    p = min(1.0, 2 * (1 + min(below, above)) / (len(usable) + 1))
    return Rho(tidy(rho), tidy(low), tidy(high), tidy(p))


def permutation_p(first: Floats, second: Floats) -> float:
    """Return the two-sided p of no association between a few items.

    Exact over all permutations up to ``EXACT`` items, above that Student's approximation.
    """
    from scipy import stats

    if len(first) > EXACT:
        return tidy(stats.spearmanr(first, second).pvalue)
    orders = np.array(list(permutations(range(len(first)))))
    found = np.abs(spearman_rows(np.broadcast_to(first, orders.shape), second[orders]))
    return float((found >= abs(spearman(first, second)) - 1e-9).mean())


def _ranks(values: Floats) -> Floats:
    from scipy import stats

    return np.asarray(stats.rankdata(values, axis=-1), dtype=np.float64)


def _pearson(first: Floats, second: Floats) -> Floats:
    a = first - first.mean(axis=-1, keepdims=True)
    b = second - second.mean(axis=-1, keepdims=True)
    spread = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(spread > 0, (a * b).sum(axis=-1) / spread, np.nan))


def _weighted_ranks(values: Floats, weights: Floats) -> Floats:
    """Midranks of items that are drawn several times, up to a constant that rho does not see."""
    unique, place = np.unique(values, return_inverse=True)
    member = np.zeros((len(values), len(unique)))
    member[np.arange(len(values)), place] = 1
    counts = weights @ member
    middles = counts.cumsum(axis=1) - counts / 2
    return np.asarray(middles[:, place])
