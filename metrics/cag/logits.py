"""What is read off the logits themselves: gap, margin, and masses too small for a float."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from mild_bench.metrics.cag.masses import precise

BLOCK = 1 << 22  # logits held at a time: 16 MiB in float32, whatever the number of tokens


@torch.no_grad()
def logit_gap(
    query: Tensor,
    key: Tensor,
    background: Tensor,
    people: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return, for each query, mean logit on background keys - mean logit on people's keys.

    The mean of products is the product with the mean, so this costs O(queries x width); a dense
    ``mask`` is read once, a block of rows at a time. NaN where a group is empty.

    Args:
        query: batch x heads x queries x width.
        key: batch x heads x keys x width.
        background: int64 indices of keys.
        people: int64 indices of keys.
        mask: additive or bool, broadcastable to batch x heads x queries x keys.
        scale: 1 / sqrt(width) when None.

    Returns:
        Batch x heads x queries, in nats, at least float32.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    means = [precise(key[:, :, keys]).mean(dim=2) for keys in (background, people)]
    gap = (precise(query) @ (means[0] - means[1]).unsqueeze(-1)).squeeze(-1) * scale
    if mask is None:
        return gap
    mask = mask.expand(*mask.shape[:-1], key.shape[2])
    step = max(1, BLOCK // mask[..., :1, :].numel())
    biases = [_bias(rows) for rows in mask.split(step, dim=-2)]
    shifts = [b[..., background].mean(-1) - b[..., people].mean(-1) for b in biases]
    return gap + torch.cat(shifts, dim=-1)


@torch.no_grad()
def margin(
    query: Tensor,
    key: Tensor,
    background: Tensor,
    people: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return gamma: the least, over queries, of (least background logit - greatest people's logit).

    Batch x heads, in nats; NaN where queries or a group are empty. Reads every logit once, in
    blocks. Arguments as ``logit_gap``.
    """
    lowest = precise(query).new_full(query.shape[:2], torch.inf)
    if not (query.shape[2] and len(background) and len(people)):
        return lowest * torch.nan
    pairs = zip(
        _blocks(query, key, background, mask, scale),
        _blocks(query, key, people, mask, scale),
        strict=True,
    )
    for ground, figure in pairs:
        gaps = ground.amin(dim=-1) - figure.amax(dim=-1)
        lowest = torch.minimum(lowest, gaps.amin(dim=-1))
    return lowest


@torch.no_grad()
def log_mass_ratio(
    query: Tensor,
    key: Tensor,
    background: Tensor,
    people: Tensor,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return log p(background) - log p(people) for each query, from the logits in blocks.

    The softmax's denominator cancels, so nothing under- or overflows. Batch x heads x queries;
    +inf where a bias of -inf forbids every key of a person. Arguments as ``logit_gap``.
    """
    pairs = zip(
        _blocks(query, key, background, mask, scale),
        _blocks(query, key, people, mask, scale),
        strict=True,
    )
    return torch.cat([b.logsumexp(dim=-1) - f.logsumexp(dim=-1) for b, f in pairs], dim=-1)


def _blocks(
    query: Tensor, key: Tensor, keys: Tensor, mask: Tensor | None, scale: float | None
) -> Iterator[Tensor]:
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    # Steps follow all keys, so that blocks of two groups of keys are of the same queries.
    step = max(1, BLOCK // (query.shape[0] * query.shape[1] * key.shape[2]))
    chosen = precise(key[:, :, keys]).transpose(-1, -2)
    for start in range(0, query.shape[2], step):
        logits = (precise(query[:, :, start : start + step]) * scale) @ chosen
        if mask is not None:
            rows = mask if mask.shape[-2] == 1 else mask[..., start : start + step, :]
            logits += _bias(rows.expand(*rows.shape[:-1], key.shape[2])[..., keys])
        yield logits


def _bias(mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return precise(mask)
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -torch.inf)
