"""Seeing the fused attention calls that a module makes, whatever its processor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one ``scaled_dot_product_attention``; ``run`` does it as it was asked."""

    query: Tensor
    key: Tensor
    value: Tensor
    run: Callable[[], Tensor]
    attn_mask: Tensor | None = None
    dropout_p: float = 0.0
    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False

    @property
    def plain(self) -> bool:
        """Whether query, key, value, mask and scale say it all."""
        return not (self.dropout_p or self.is_causal or self.enable_gqa)


class Interception(TorchFunctionMode):
    """While entered, hands every attention call of this thread to ``attend``."""

    def __init__(self, attend: Callable[[AttentionCall], Tensor]) -> None:
        super().__init__()
        self.attend = attend
        self.seen = 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Pass everything on but attention."""
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.seen += 1
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        return self.attend(AttentionCall(run=lambda: func(*args, **kwargs), **given))


def in_backward() -> bool:
    """Whether a layer runs again for its gradient (gradient checkpointing)."""
    return bool(torch._C._current_graph_task_id() != -1)
