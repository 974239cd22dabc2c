"""The processor that gives a layer's attention its bias, around the layer's own processor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.attention_processor import (
    Attention,
    AttnAddedKVProcessor2_0,
    AttnProcessor2_0,
    JointAttnProcessor2_0,
)
from diffusers.models.transformers.transformer_flux import FluxAttention, FluxAttnProcessor
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from mild_bench.errors import BadInput
from mild_bench.mild.biased_attention import biased_attention, named_arguments
from mild_bench.mild.spatial_sides import SpatialSides

TEXT_FIRST = {
    AttnProcessor2_0: False,
    AttnAddedKVProcessor2_0: True,
    JointAttnProcessor2_0: False,
    FluxAttnProcessor: True,
}
"""The processors that can be modulated, and whether their text tokens come before the picture's."""


@dataclass
class SpatialContext:
    """What all layers of a model share during a forward pass.

    Attributes:
        sides: who is where; None for no bias.
        image_tokens: tokens of the picture, where a layer cannot tell them from the text's.
    """

    sides: SpatialSides | None = None
    image_tokens: int | None = None


class SpatialAttnProcessor:
    """Runs the layer's own processor with the biases of the sides that are set."""

    def __init__(
        self,
        context: SpatialContext,
        layer: str,
        original: Any,
        *,
        table: Callable[[int], Tensor],
    ) -> None:
        """Wrap ``original``.

        Args:
            context: shared by all layers of the model.
            layer: name of the attention module, for messages.
            original: the processor that does the work, one of ``TEXT_FIRST``.
            table: from the number of people to the biases, heads x sides x sides.
        """
        self.context = context
        self.layer = layer
        self.original = original
        self.table = table

    def __call__(
        self,
        attn: nn.Module,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        temb: Tensor | None = None,
    ) -> Any:
        """Attend as the original does; its parameters are the union of what originals take."""
        given = {"image_rotary_emb": image_rotary_emb, "temb": temb}
        rest = {name: value for name, value in given.items() if value is not None}
        sides = self.context.sides
        if sides is None:
            return self.original(attn, hidden_states, encoder_hidden_states, attention_mask, **rest)
        return self._biased(
            sides, attn, hidden_states, encoder_hidden_states, attention_mask, **rest
        )

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _biased(
        self, sides: SpatialSides, attn: nn.Module, hidden_states: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        """Run outside of compiled graphs: they leave out modes entered in a method like this."""
        tokens = self._tokens(attn, hidden_states)
        one_hot = sides.one_hot(tokens, len(hidden_states), hidden_states.device)
        alpha = self.table(sides.people).to(hidden_states.device)
        with _Biased(alpha, one_hot, text_first=TEXT_FIRST[type(self.original)]) as bias:
            out = self.original(attn, hidden_states, *args, **kwargs)
        if not bias.done:
            raise BadInput(
                f"{self.layer}: expected PyTorch's own attention, got another backend; "
                'detach(), set_attention_backend("native") and attach again'
            )
        return out

    def _tokens(self, attn: nn.Module, hidden_states: Tensor) -> int:
        if is_single_stream(attn) and self.context.image_tokens is not None:
            return self.context.image_tokens
        return hidden_states.shape[2:].numel() if hidden_states.ndim == 4 else len(hidden_states[0])


class _Biased(TorchFunctionMode):
    """Gives the one attention call inside a processor its bias; modes further out see it biased."""

    def __init__(self, alpha: Tensor, one_hot: Tensor, *, text_first: bool) -> None:
        super().__init__()
        self.alpha = alpha
        self.one_hot = one_hot
        self.text_first = text_first
        self.done = False

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is not functional.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        call = named_arguments(args, kwargs or {})
        self.done = True
        return biased_attention(
            **call,
            alpha=self.alpha,
            query_sides=self._with_text(call["query"].shape[2]),
            key_sides=self._with_text(call["key"].shape[2]),
        )

    def _with_text(self, tokens: int) -> Tensor:
        text = tokens - self.one_hot.shape[1]
        return functional.pad(self.one_hot, (0, 0, text, 0) if self.text_first else (0, 0, 0, text))


def attention_layers(model: nn.Module) -> list[tuple[str, Any]]:
    """Return name and module of every self and joint attention of a diffusers model.

    Raises:
        BadInput: none is there, or one has a processor that is not in ``TEXT_FIRST``.
    """
    found = []
    for name, module in model.named_modules():
        if not isinstance(module, (Attention, FluxAttention)) or _is_cross_only(module):
            continue
        processor = type(module.get_processor())
        if processor not in TEXT_FIRST:
            raise BadInput(
                f"{name}: expected a processor of {', '.join(one.__name__ for one in TEXT_FIRST)}, "
                f"got {processor.__name__}; set one of these first"
            )
        found.append((name, module))
    if not found:
        raise BadInput("model: expected a diffusers model with self or joint attention, got none")
    return found


def _is_cross_only(module: Any) -> bool:
    with_text = getattr(module, "added_kv_proj_dim", None) is not None
    if with_text:
        return bool(getattr(module, "only_cross_attention", False))
    return bool(getattr(module, "is_cross_attention", False))


def is_single_stream(module: nn.Module) -> bool:
    """Whether the layer is given the text's and the picture's tokens as one."""
    return isinstance(module, FluxAttention) and module.added_kv_proj_dim is None
