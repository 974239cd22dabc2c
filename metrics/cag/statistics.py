"""Leakage, CAG, logit gap, margin and leakage matrix of one attention call."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mild_bench.metrics.cag.logits import log_mass_ratio, logit_gap, margin

UNDERFLOW = 1e-30  # a float32 mass below this has lost digits
FORBIDDEN = 5e3  # nats; no model's own logits differ so much: a finite bias stands for -inf (SMA)


@dataclass(frozen=True)
class Groups:
    """Which tokens of a call are what; group 0 is background, 1..people are the people.

    Attributes:
        keys: int64, a group for each key; above ``people`` come text and padding.
        queries: int64, a group for each query.
        region: int64 indices of the queries that leakage, CAG, gap and margin are about.
        background: int64 indices of keys of group 0.
        figures: int64 indices of keys of the people together.
        people: how many people.
        count: how many groups there are.
    """

    keys: Tensor
    queries: Tensor
    region: Tensor
    background: Tensor
    figures: Tensor
    people: int
    count: int

    @classmethod
    def of(cls, keys: Tensor, queries: Tensor, region: Tensor, *, people: int) -> Groups:
        """Sort tokens by their labels; ``region`` is bool, one for each query."""
        figures = (keys >= 1) & (keys <= people)
        return cls(
            keys=keys,
            queries=queries,
            region=region.nonzero().squeeze(1),
            background=(keys == 0).nonzero().squeeze(1),
            figures=figures.nonzero().squeeze(1),
            people=people,
            count=1 + max(people, int(keys.max()), int(queries.max())),
        )

    @property
    def reason(self) -> str:
        """Why CAG, leakage and gap have no value here; empty when they have."""
        empty = {
            "no token is background": len(self.background),
            "no token is a person": len(self.figures),
            "no token is in the query region": len(self.region),
        }
        return "; ".join(what for what, tokens in empty.items() if not tokens)


@dataclass(frozen=True)
class CallStatistics:
    """Of one attention call, each batch x heads, NaN where ``Groups.reason`` says why.

    Attributes:
        leakage: mean mass on people, in [0, 1].
        cag: log-odds, in nats; 0 = blind to the mask, higher = cleaner.
        logit_gap: mean logit on background - on people, in nats.
        margin: gamma, in nats; NaN unless asked for.
        matrix: batch x heads x groups x groups: mean mass that queries of a row's group put on a
            column's; NaN in rows and columns of empty groups.
    """

    leakage: Tensor
    cag: Tensor
    logit_gap: Tensor
    margin: Tensor
    matrix: Tensor


@torch.no_grad()
def statistics(
    masses: Tensor,
    query: Tensor,
    key: Tensor,
    groups: Groups,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
    with_gap: bool = True,
    with_margin: bool = False,
) -> CallStatistics:
    """Sum up one call.

    Args:
        masses: batch x heads x queries x groups, of ``attention_with_masses``.
        query: batch x heads x queries x width.
        key: batch x heads x keys x width.
        groups: what the tokens are.
        mask: as given to the attention.
        scale: as given to the attention.
        with_gap: whether to take the logit gap (O(queries x width)).
        with_margin: whether to take the margin (a second pass over the logits of the region).
    """
    unknown = masses.new_full(masses.shape[:2], torch.nan)
    matrix = _matrix(masses, groups)
    if groups.reason:
        return CallStatistics(unknown, unknown, unknown, unknown, matrix)
    asked = query[:, :, groups.region]
    rows = mask if mask is None or mask.shape[-2] == 1 else mask[..., groups.region, :]
    sides = (groups.background, groups.figures)
    near = masses[:, :, groups.region]
    people = near[..., 1 : 1 + groups.people].sum(dim=-1)
    gap = margins = unknown
    if with_gap:
        gap = logit_gap(asked, key, *sides, mask=rows, scale=scale).mean(dim=-1)
        gap = gap.expand_as(unknown)
    if with_margin:
        margins = margin(asked, key, *sides, mask=rows, scale=scale)
    odds = near[..., 0].log() - people.log()
    lost = ((near[..., 0] < UNDERFLOW) | (people < UNDERFLOW)).flatten(0, 1).any(dim=0)
    if lost.any():
        lost_rows = rows if rows is None or rows.shape[-2] == 1 else rows[..., lost, :]
        odds[:, :, lost] = log_mass_ratio(
            asked[:, :, lost], key, *sides, mask=lost_rows, scale=scale
        ).to(odds.dtype)
        odds = torch.where(odds.abs() > FORBIDDEN, odds * torch.inf, odds)
    areas = torch.tensor(len(groups.figures) / len(groups.background), dtype=torch.float64).log()
    return CallStatistics(
        people.mean(dim=-1), odds.mean(dim=-1) + areas.item(), gap, margins, matrix
    )


def _matrix(masses: Tensor, groups: Groups) -> Tensor:
    members = torch.nn.functional.one_hot(groups.queries, groups.count).to(masses.dtype)
    rows = members.T / members.sum(dim=0).unsqueeze(1)  # 0 / 0 = NaN: no query of that group
    matrix = torch.einsum("gq,bhqk->bhgk", rows, masses)
    absent = torch.bincount(groups.keys, minlength=groups.count) == 0
    return matrix.masked_fill(absent, torch.nan)
