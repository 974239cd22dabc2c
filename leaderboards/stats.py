"""Intervals and paired tests that resample scenes.

Tasks of one scene share their plate and people, so they are not independent: resampling tasks
would give intervals that are too narrow. Whole scenes are drawn instead (cluster bootstrap).

References:
    Davison and Hinkley, *Bootstrap Methods and their Application*, 1997, section 3.8.
    Hesterberg, "What Teachers Should Know About the Bootstrap", The American Statistician 69(4),
    2015, doi:10.1080/00031305.2015.1089789 (expanded percentile interval).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LEVEL = 0.95
DIGITS = 10  # significant: sums in another order differ in the last bits only


@dataclass(frozen=True)
class Interval:
    """A mean and its 95% bootstrap interval; no bounds from fewer than two scenes."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Difference:
    """A mean paired difference, its 95% interval and the two-sided p of no difference."""

    mean: float
    low: float | None
    high: float | None
    p: float | None


@dataclass(frozen=True)
class RankRange:
    """The ranks that 95% of the resamples give a row."""

    low: int
    high: int


@dataclass(frozen=True)
class SceneBootstrap:
    """Draws whole scenes with replacement; every row sees the same draws, so rows are paired.

    Attributes:
        resamples: how many times.
        seed: of the generator that draws.
    """

    resamples: int
    seed: int
    _draws: dict[int, Floats] = field(default_factory=dict, repr=False, compare=False)

    def draws(self, scenes: int) -> Floats:
        """Return how often each scene is drawn: resamples x scenes, rows sum to ``scenes``."""
        if scenes not in self._draws:
            generator = np.random.default_rng(self.seed)
            shares = np.full(scenes, 1 / scenes)
            counts = generator.multinomial(scenes, shares, size=self.resamples)
            self._draws[scenes] = counts.astype(np.float64)
        return self._draws[scenes]

    def means(self, values: Floats, scenes: Sequence[str]) -> Floats:
        """Return the resampled means, rows x resamples, of ``values``, rows x tasks.

        ``scenes`` names the scene of each task. No value may be NaN.
        """
        names, index = np.unique(np.asarray(scenes), return_inverse=True)
        belongs = np.zeros((len(scenes), len(names)))
        belongs[np.arange(len(scenes)), index] = 1
        draws = self.draws(len(names))
        sums = np.einsum("rt,ts->rs", values, belongs)
        return np.asarray((sums @ draws.T) / (belongs.sum(0) @ draws.T))

    def intervals(self, values: Floats, scenes: Sequence[str]) -> list[Interval]:
        """Return the mean of each row of ``values``, rows x tasks, with its interval."""
        number = len(set(scenes))
        means = values.mean(axis=1)
        if number < 2:
            return [Interval(tidy(mean), None, None) for mean in means]
        low, high = np.quantile(self.means(values, scenes), tails(number), axis=1)
        return [
            Interval(tidy(m), tidy(a), tidy(b)) for m, a, b in zip(means, low, high, strict=True)
        ]

    def difference(self, first: Floats, second: Floats, scenes: Sequence[str]) -> Difference:
        """Compare two rows, each of length tasks, on the same tasks: ``first - second``."""
        gaps = (first - second)[None]
        [interval] = self.intervals(gaps, scenes)
        if interval.low is None:
            return Difference(interval.mean, None, None, None)
        means = self.means(gaps, scenes)[0]
        below, above = int((means <= 0).sum()), int((means >= 0).sum())
        p = min(1.0, 2 * (1 + min(below, above)) / (self.resamples + 1))
        return Difference(interval.mean, interval.low, interval.high, tidy(p))

    def rank_ranges(
        self, values: Floats, scenes: Sequence[str], *, lower_is_better: bool
    ) -> list[RankRange | None]:
        """Return the ranks (1 = best) that 95% of resamples give each row of ``values``."""
        if len(set(scenes)) < 2:
            return [None] * len(values)
        means = self.means(values, scenes)
        ordered = means if lower_is_better else -means
        # A row's rank is one more than the number of rows that beat it: ties share a rank.
        ranks = 1 + (ordered[None, :, :] < ordered[:, None, :]).sum(axis=1)
        edge = (1 - LEVEL) / 2
        low = np.quantile(ranks, edge, axis=1, method="inverted_cdf")
        high = np.quantile(ranks, 1 - edge, axis=1, method="inverted_cdf")
        return [RankRange(int(a), int(b)) for a, b in zip(low, high, strict=True)]


@lru_cache
def tails(scenes: int) -> tuple[float, float]:
    """Return the quantiles to read off for a 95% interval from so many scenes.

    Plain percentiles are too narrow for few scenes; Hesterberg's expansion gives them the width
    of a t interval: with 10 scenes .9% and 99.1%, with many 2.5% and 97.5%.
    """
    from scipy import stats

    quantile = float(stats.t.ppf((1 - LEVEL) / 2, scenes - 1))
    tail = float(stats.norm.cdf(quantile * math.sqrt(scenes / (scenes - 1))))
    return tail, 1 - tail


def tidy(value: float) -> float:
    """Round to ten significant digits, so that tables do not depend on the order of sums."""
    return float(f"{float(value):.{DIGITS}g}")
