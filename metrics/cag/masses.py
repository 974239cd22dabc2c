"""Exact attention masses on groups of tokens, without a map of tokens x tokens.

Masses are linear in the values: attention over indicator columns returns, for each query, the
softmax mass on each group. With the columns beside the values, one fused call gives both.
"""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad, scaled_dot_product_attention

ALIGNMENT = 64  # bytes; fused kernels may add in another order from other addresses
COLUMNS = 4  # indicator columns come in fours, so that rows stay vectors of 16 bytes


@dataclass(frozen=True)
class Probed:
    """Attention's own output (batch x heads x queries x width) and the masses beside it.

    Attributes:
        output: equal to the bare call's, bit for bit.
        masses: batch x heads x queries x groups, in [0, 1], rows add up to 1; at least float32.
    """

    output: Tensor
    masses: Tensor


def attention_with_masses(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    labels: Tensor,
    groups: int,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Probed:
    """Return what ``scaled_dot_product_attention`` returns, and the masses on groups of keys.

    One widened call where that leaves the output's bits alone (``keeps_bits``), two calls
    elsewhere: half precision (masses are then taken in float32), values that are not as wide as
    the keys, tensors at odd addresses, and wherever a gradient is recorded.

    Args:
        query: batch x heads x queries x width.
        key: batch x heads x keys x width; extra channels that carry a bias (SMA) count as width,
            ``scale`` must then be given.
        value: batch x heads x keys x width.
        labels: int64, one of 0..groups-1 for each key.
        groups: how many.
        mask: additive, or bool (True = may look), broadcastable to batch x heads x queries x keys.
        scale: what the products are multiplied by; 1 / sqrt(width) when None.
    """
    if _may_widen(query, key, value) and keeps_bits(query, key, value, mask, groups):
        width = query.shape[-1]
        factor = 1 / math.sqrt(width) if scale is None else scale
        wide = _widened(query, key, value, labels, groups, mask, factor)
        return Probed(_laid_out_as(query, wide[..., :width]), wide[..., width : width + groups])
    output = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    return Probed(output, masses(query, key, labels, groups, mask=mask, scale=scale))


@torch.no_grad()
def masses(
    query: Tensor,
    key: Tensor,
    labels: Tensor,
    groups: int,
    *,
    mask: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Return the masses alone: batch x heads x queries x groups, in [0, 1], at least float32.

    As dear as one bare attention of that precision. Arguments as ``attention_with_masses``.
    """
    query, key, mask = precise(query), precise(key), _precise_mask(mask)
    width = query.shape[-1]
    columns = one_hot(labels, groups).to(query.dtype)
    parts = [
        # As wide as the keys: a narrower value falls off the fused kernels.
        scaled_dot_product_attention(
            query,
            key,
            pad(part, (0, width - part.shape[-1])).expand(*key.shape[:2], -1, -1),
            attn_mask=mask,
            scale=scale,
        )[..., : part.shape[-1]]
        for part in columns.split(width, dim=-1)
    ]
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def keeps_bits(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, groups: int) -> bool:
    """Whether widening leaves the output's bits alone: tried once for each geometry.

    Matrix kernels may choose another order of addition for another width, and nothing documents
    when; ours never did on a CPU of 2026. So the first call of a geometry
    (shapes, strides, dtype, device, threads, kernel switches) runs both ways on random numbers;
    the order of addition depends on nothing else.
    """
    geometry = (
        *((tensor.shape, tensor.stride()) for tensor in (query, key, value)),
        None if mask is None else (mask.shape, mask.stride(), mask.dtype),
        groups,
        query.dtype,
        query.device,
        torch.get_num_threads(),
        torch.backends.cuda.flash_sdp_enabled(),
        torch.backends.cuda.mem_efficient_sdp_enabled(),
        torch.backends.cuda.math_sdp_enabled(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.are_deterministic_algorithms_enabled(),
    )
    if geometry not in _TRIED:
        _TRIED[geometry] = _try_bits(query, key, value, mask, groups)
    return _TRIED[geometry]


_TRIED: dict[object, bool] = {}


@torch.no_grad()
def _try_bits(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, groups: int) -> bool:
    generator = torch.Generator(query.device).manual_seed(0)
    q, k, v = (
        torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device=t.device).normal_(
            generator=generator
        )
        for t in (query, key, value)
    )
    labels = torch.arange(k.shape[2], device=k.device) % groups
    scale = 1 / math.sqrt(q.shape[-1])
    bare = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    wide = _laid_out_as(q, _widened(q, k, v, labels, groups, mask, scale)[..., : q.shape[-1]])
    return torch.equal(bare, wide) and bare.stride() == wide.stride()


def _may_widen(query: Tensor, key: Tensor, value: Tensor) -> bool:
    tensors = (query, key, value)
    return (
        query.dtype in (torch.float32, torch.float64)
        and query.dim() == 4
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and query.shape[-1] == value.shape[-1]
        and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors))
        and all(tensor.data_ptr() % ALIGNMENT == 0 for tensor in tensors)
    )


def _widened(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    labels: Tensor,
    groups: int,
    mask: Tensor | None,
    scale: float,
) -> Tensor:
    extra = -(-groups // COLUMNS) * COLUMNS
    return scaled_dot_product_attention(
        _with_columns(query, extra),
        _with_columns(key, extra),
        _with_columns(value, extra, one_hot(labels, extra).to(value.dtype)),
        attn_mask=mask,
        scale=scale,
    )


def _with_columns(tensor: Tensor, extra: int, columns: Tensor | float = 0.0) -> Tensor:
    width = tensor.shape[-1]
    wide = tensor.new_empty(*tensor.shape[:-1], width + extra)
    wide[..., :width] = tensor
    wide[..., width:] = columns
    return wide


def _laid_out_as(query: Tensor, output: Tensor) -> Tensor:
    """In the query's order of axes, as the bare call's output is: what reads it sees no change."""
    return torch.empty_like(query).copy_(output)


def precise(tensor: Tensor) -> Tensor:
    """Return it in at least float32, without its gradient."""
    tensor = tensor.detach()
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def _precise_mask(mask: Tensor | None) -> Tensor | None:
    return mask if mask is None or mask.dtype == torch.bool else precise(mask)
