"""Attention between the sides, by definition: from the materialised logits of a tiny layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mild_bench.theory.model import BG, FG, PERSON_TOKENS


@dataclass(frozen=True)
class Gap:
    """How far a branch favours its own side O over the other side X.

    ``margin``: min over queries of (min over O of s_ij - max over X of s_ij), nats. ``cag``: mean
    of log(p_i(O) / |O|) - log(p_i(X) / |X|), nats. ``leakage``: mean of p_i(X), in [0, 1].
    ``slack``: how many nats p_i(X) / p_i(O) stays below its bound |X| / |O| exp(-margin) at the
    query that is nearest to it; not negative but for rounding. For the background branch these are
    gamma, CAG and the leakage of the person.
    """

    margin: float
    cag: float
    leakage: float
    slack: float


def gap(logits: Tensor, *, branch: int) -> Gap:
    """Measure a branch's logits, ... x queries x keys (F, then B).

    With hard separation margin and CAG are infinite and slack is NaN.
    """
    sides = {FG: logits[..., :PERSON_TOKENS], BG: logits[..., PERSON_TOKENS:]}
    own, other = sides[branch], sides[1 - branch]
    log_odds = own.logsumexp(dim=-1) - other.logsumexp(dim=-1)
    even = torch.tensor(own.shape[-1] / other.shape[-1], dtype=logits.dtype).log()
    margin = (own.amin(dim=-1) - other.amax(dim=-1)).min()
    return Gap(
        margin=float(margin),
        cag=float((log_odds - even).mean()),
        leakage=float(torch.sigmoid(-log_odds).mean()),
        slack=float((log_odds - even - margin).min()),
    )
