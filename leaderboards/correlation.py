"""Does cleaner attention go with better pictures? Rank correlations from the records alone.

Spearman's rho of an attention metric (CAG, leakage) with another score: over the tasks of each
eraser, as the mean of these, and over the erasers' means. Intervals resample whole scenes, as on
the board. Tasks of different erasers are never thrown together: that would mix how erasers differ
with how tasks do.

References:
    Spearman, "The proof and measurement of association between two things", American Journal of
    Psychology 15(1), 1904, doi:10.2307/1412159 (midranks for ties).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.leaderboards.ranking import Board, Column
from mild_bench.leaderboards.rho import (
    Rho,
    permutation_p,
    resampled_rho,
    spearman,
    spearman_rows,
    summed_up,
)
from mild_bench.leaderboards.stats import Floats

ATTENTION = "attention"  # what such a metric's card says it needs
MIN_TASKS, MIN_ERASERS = 8, 3
Kept = npt.NDArray[np.bool_]
Scope = Literal["eraser", "within", "between"]


@dataclass(frozen=True)
class Correlation:
    """How an attention metric goes with another score.

    Attributes:
        attention, score: their keys.
        scope: over one eraser's tasks; the mean of these; or over the erasers' means.
        eraser: whose tasks; empty for the other scopes.
        rho: in [-1, 1]; None with a ``reason``.
        low, high: 95% bootstrap interval over scenes; None when there are too few scenes.
        p: two-sided; over scenes, for ``between`` over permutations of the erasers.
        tasks, scenes, erasers: how many were used.
        expected: the sign that rho has when cleaner attention goes with a better score.
    """

    attention: str
    score: str
    scope: Scope
    eraser: str
    rho: float | None
    low: float | None
    high: float | None
    p: float | None
    tasks: int
    scenes: int
    erasers: int
    expected: Literal[-1, 1]
    reason: str = ""

    @property
    def verdict(self) -> str:
        """``as expected``, ``the other way round``, ``cannot tell``, or empty without a rho."""
        if self.rho is None:
            return ""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "cannot tell"
        if self.p is None or self.p >= 0.05:
            return "cannot tell"
        return "as expected" if self.rho * self.expected > 0 else "the other way round"


def attention_columns(board: Board) -> list[Column]:
    """Return the attention metrics that any eraser has, one column each."""
    return [column for column in board.headline if ATTENTION in column.card.needs]


def score_columns(board: Board, names: Sequence[str]) -> list[Column]:
    """Return the columns that some names mean: a metric's headline column, or a whole key's.

    Without names: the score that ranks, and residue.

    Raises:
        BadInput: a name that no score on the board has, or that is an attention metric itself.
    """
    import difflib

    if not names:
        default = [board.primary, *(c for c in board.headline if c.metric == "residue")]
        return _once([column for column in default if column is not None])
    known = {column.metric: column for column in board.headline}
    known |= {column.key: column for column in board.columns}
    known = {name: c for name, c in known.items() if ATTENTION not in c.card.needs}
    found = []
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            metrics = [one for one in known if "/" not in one]
            hint = f"did you mean {' or '.join(near)}?" if near else f"names: {', '.join(metrics)}"
            raise BadInput(
                f"metric: expected one on the board to compare attention with, got {name!r}; {hint}"
            )
        found.append(known[name])
    return _once(found)


def _once(columns: Sequence[Column]) -> list[Column]:
    return list({column.key: column for column in columns}.values())


def correlate(board: Board, scores: Sequence[Column]) -> tuple[Correlation, ...]:
    """Correlate each attention metric with each of the scores, in that order, scope by scope."""
    return tuple(
        one
        for attention in attention_columns(board)
        for score in scores
        for one in _Pair(board, attention, score).correlations()
    )


class _Pair:
    """An attention metric and a score: the values of all erasers that have the first."""

    def __init__(self, board: Board, attention: Column, score: Column) -> None:
        self.attention, self.score = attention, score
        standing, keys = board.standing, (attention.key, score.key)
        values = np.stack([standing.values(key, standing.task_ids) for key in keys], axis=1)
        places = [standing.labels.index(row.label) for row in board.rows]
        places = [place for place in places if (~np.isnan(values[place, 0])).any()]
        self.labels = [standing.labels[place] for place in places]
        both: Kept = np.asarray(~np.isnan(values[places]).any(axis=1))
        used: Kept = np.asarray(both.any(axis=0))
        self.values, self.both = values[places][:, :, used], both[:, used]
        names = [name for name, one in zip(standing.task_ids, used, strict=True) if one]
        scenes, self.scene_of = np.unique(standing.scenes(names) or [""], return_inverse=True)
        self.draws = standing.bootstrap.draws(len(scenes))

    def correlations(self) -> list[Correlation]:
        """Each eraser's, their mean, and that over erasers."""
        found = [self._of_eraser(place) for place in range(len(self.labels))]
        own = [one for one, _ in found]
        return [*own, self._within(own, [drawn for _, drawn in found]), self._between()]

    def _of_eraser(self, place: int) -> tuple[Correlation, Floats]:
        keep, label = self.both[place], self.labels[place]
        first, second = self.values[place][:, keep]
        if reason := self._too_few(keep) or self._constant(first, second, "tasks"):
            return self._made("eraser", keep, 1, reason, label=label), np.zeros(0)
        drawn = resampled_rho(first, second, self.draws[:, self.scene_of[keep]])
        found = summed_up(spearman(first, second), drawn, self._scenes(keep))
        return self._made("eraser", keep, 1, found, label=label), drawn

    def _within(self, own: Sequence[Correlation], drawn: Sequence[Floats]) -> Correlation:
        used = [place for place, one in enumerate(own) if one.rho is not None]
        keep: Kept = np.asarray(self.both[used].any(axis=0))
        if not used:
            return self._made("within", keep, 0, "no eraser has one over its own tasks")
        rho = float(np.mean([own[place].rho for place in used]))
        means = np.mean([drawn[place] for place in used], axis=0)
        return self._made("within", keep, len(used), summed_up(rho, means, self._scenes(keep)))

    def _between(self) -> Correlation:
        erasers = len(self.labels)
        keep: Kept = np.asarray(self.both.all(axis=0))
        if erasers < MIN_ERASERS:
            title = self.attention.card.title
            few = f"{erasers} eraser{'' if erasers == 1 else 's'} with {title}"
            return self._made("between", keep, erasers, f"{few}, at least {MIN_ERASERS} needed")
        if reason := self._too_few(keep):
            return self._made("between", keep, erasers, reason)
        values = self.values[:, :, keep]
        first, second = values.mean(axis=2).T
        if reason := self._constant(first, second, "erasers"):
            return self._made("between", keep, erasers, reason)
        sums = np.einsum("ekt,rt->kre", values, self.draws[:, self.scene_of[keep]])
        found = summed_up(spearman(first, second), spearman_rows(*sums), self._scenes(keep))
        return self._made("between", keep, erasers, replace(found, p=permutation_p(first, second)))

    def _too_few(self, keep: Kept) -> str:
        tasks = int(keep.sum())
        if tasks >= MIN_TASKS:
            return ""
        return f"{tasks} tasks with both scores, at least {MIN_TASKS} needed"

    def _constant(self, first: Floats, second: Floats, items: str) -> str:
        for values, column in ((first, self.attention), (second, self.score)):
            if np.ptp(values) == 0:
                return f"{column.card.title} is the same for all {items}"
        return ""

    def _scenes(self, keep: Kept) -> int:
        return len(np.unique(self.scene_of[keep]))

    def _made(
        self, scope: Scope, keep: Kept, erasers: int, found: Rho | str, *, label: str = ""
    ) -> Correlation:
        none = Rho(None, None, None, None)
        numbers, reason = (none, found) if isinstance(found, str) else (found, "")
        same = self.attention.card.better == self.score.card.better
        return Correlation(
            self.attention.key, self.score.key, scope, label, **vars(numbers),
            tasks=int(keep.sum()), scenes=self._scenes(keep) if keep.any() else 0,
            erasers=erasers, expected=1 if same else -1, reason=reason,
        )  # fmt: skip
