"""Attention whose logits carry a bias by the side of query and key, in fused kernels.

The bias alpha[s, t] is folded into extra channels: with e_s the one-hot code of the query's side,
q' = [q, c e_s] and k' = [k, alpha[:, t] / (c scale)] have q'.k' scale = q.k scale + alpha[s, t].
Values are widened by zeros to the same width, because the CPU's flash kernel (and CUDA's) only
takes heads of one width: with narrower values PyTorch falls back to a materialised softmax.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

HARD = 1e4
"""Stands for minus infinity: far enough that exp underflows to 0 in every dtype, finite because
0 * inf is NaN. With heads of up to 256 channels its code fits into float16."""

CODE = 8.0
"""c of the formula: a power of two is exact in every dtype and keeps ``HARD`` within float16."""

WIDTH = 8
"""Heads are widened to a multiple of this, which fused kernels want."""


def biased_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    alpha: Tensor,
    query_sides: Tensor,
    key_sides: Tensor,
    *,
    scale: float | None = None,
    **options: Any,
) -> Tensor:
    """Return softmax(query key^T scale + alpha[side of query, side of key]) value.

    Every tensor may need gradients but the sides. Nothing of size queries x keys is allocated as
    long as PyTorch picks a fused kernel.

    Args:
        query: batch x heads x queries x channels.
        key: batch x heads x keys x channels.
        value: batch x heads x keys x value channels, no more than ``key`` has.
        alpha: heads x sides x sides (query's side, key's side), in nats, float32. What is below
            ``-HARD`` (also minus infinity) counts as ``-HARD``: weight 0, gradient 0.
        query_sides: one-hot, batch x queries x sides; a row of zeros is on no side: no bias.
        key_sides: one-hot, batch x keys x sides.
        scale: of the logits; 1 / sqrt(channels) unless given.
        options: ``attn_mask``, ``dropout_p``, ``is_causal`` as PyTorch takes them.

    Returns:
        batch x heads x queries x value channels.
    """
    channels, sides = query.shape[-1], alpha.shape[-1]
    scale = channels**-0.5 if scale is None else scale
    more = -(-(channels + sides) // WIDTH) * WIDTH - channels
    codes = functional.pad(query_sides * CODE, (0, more - sides))[:, None]
    finite = alpha.clamp(min=-HARD) / (CODE * scale)
    biases = key_sides[:, None] @ functional.pad(finite.mT, (0, more - sides))
    out = functional.scaled_dot_product_attention(
        _widened(query, codes),
        _widened(key, biases),
        functional.pad(value, (0, channels + more - value.shape[-1])),
        scale=scale,
        **options,
    )
    return out[..., : value.shape[-1]]


def _widened(narrow: Tensor, extra: Tensor) -> Tensor:
    shape = (*narrow.shape[:-1], extra.shape[-1])
    return torch.cat([narrow, extra.to(narrow.dtype).expand(shape)], dim=-1)


def named_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Give the arguments of a call of PyTorch's attention their names."""
    names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
    return {**dict(zip(names, args, strict=False)), **kwargs}
