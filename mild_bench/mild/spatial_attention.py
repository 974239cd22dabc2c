"""Spatially-modulated attention (SMA): a learnable bias between background and people.

Plugs into the self and joint attention of diffusers UNets and transformers: the model's own
processors go on doing what they did, and only the call of PyTorch's attention inside them gets the
bias (see ``biased_attention``). Without label maps the model is exactly the one it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mild_bench.errors import BadInput
from mild_bench.mild.spatial_processor import (
    SpatialAttnProcessor,
    SpatialContext,
    attention_layers,
    is_single_stream,
)
from mild_bench.mild.spatial_sides import THRESHOLD, SpatialSides

BIASES = (
    "background to background",
    "background to person",
    "person to background",
    "person to same person",
    "person to other person",
)
"""What the columns of an alpha are: query's side, key's side. Any number of people shares them."""


class SpatialAttention(nn.Module):
    """The biases of one model: per layer ``heads x 5`` (see ``BIASES``), in nats, 0 at the start.

    Train ``parameters()``, keep ``state_dict()``. Minus infinity separates two sides for good: it
    takes no gradient and its keys get weight 0 exactly. Tokens of text are on no side: no bias.
    """

    def __init__(self, heads: Mapping[str, int]) -> None:
        """Make zero biases.

        Args:
            heads: heads of each layer, by the attention module's dotted name in the model.
        """
        super().__init__()
        alphas = {_key(name): nn.Parameter(torch.zeros(count, 5)) for name, count in heads.items()}
        self.alpha = nn.ParameterDict(alphas)
        self._context = SpatialContext()
        self._undo: list[Callable[[], None]] = []

    @classmethod
    def of(cls, model: nn.Module) -> SpatialAttention:
        """Make zero biases for every self and joint attention of a model and attach them.

        Raises:
            BadInput: as in ``attach``.
        """
        made = cls({name: layer.heads for name, layer in attention_layers(model)})
        made.attach(model)
        return made

    def attach(self, model: nn.Module) -> None:
        """Wrap the processors of the model's self and joint attention.

        Attach before anything that wraps processors from outside, such as a probe.

        Raises:
            BadInput: already attached, other layers or heads than the biases are for, or a
                processor that cannot be modulated.
        """
        if self._undo:
            raise BadInput("model: these biases are attached already; detach() them first")
        layers = attention_layers(model)
        self._check_layers({_key(name): layer.heads for name, layer in layers})
        for name, layer in layers:
            original = layer.get_processor()
            table = partial(self.table, name)
            layer.set_processor(SpatialAttnProcessor(self._context, name, original, table=table))
            self._undo.append(_restorer(layer, original))
        if any(is_single_stream(layer) for _, layer in layers):
            hook = model.register_forward_pre_hook(self._note_image_tokens, with_kwargs=True)
            self._undo.append(hook.remove)

    def detach(self) -> None:
        """Give the model its own processors back."""
        while self._undo:
            self._undo.pop()()

    def set_sides(self, labels: Tensor | None, *, threshold: float = THRESHOLD) -> None:
        """Say who is where in the pictures to come; None switches the biases off.

        Keep it set until ``backward`` is done where a model recomputes (gradient checkpointing).

        Args:
            labels: batch x height x width at the size of the picture, 0 = background, k = person
                k; bool masks make everybody one person. One map serves any number of pictures.
            threshold: share of a cell's area that people must cover to make it theirs.

        Raises:
            BadInput: maps that are none, or biases that would leave a query without any key.
        """
        for key, alpha in self.alpha.items():
            if not bool((alpha.detach()[:, [0, 3]] > -torch.inf).all()):  # NaN fails too
                raise BadInput(
                    f"alpha of {_name(key)}: {BIASES[0]} and {BIASES[3]} must be above -inf, "
                    "or a query may have no key to look at; separate different sides only"
                )
        self._context.sides = None if labels is None else SpatialSides(labels, threshold=threshold)

    @torch.no_grad()
    def separate(self) -> None:
        """Keep background and every person apart for good: alpha = -inf between different sides."""
        for alpha in self.alpha.values():
            alpha[:, [1, 2, 4]] = -torch.inf

    @torch.no_grad()
    def favour_background(self, nats: float) -> None:
        """Set biases that make every query prefer the background, by ``nats`` for each key.

        People look more at background and less at other people, background less at people.
        """
        for alpha in self.alpha.values():
            alpha[:, 2] = nats
            alpha[:, [1, 4]] = -nats

    def table(self, layer: str, people: int) -> Tensor:
        """Return a layer's biases as heads x (people + 1) x (people + 1), query's side first."""
        kind = torch.full((people + 1, people + 1), 4)
        kind.fill_diagonal_(3)
        kind[0], kind[:, 0], kind[0, 0] = 1, 2, 0
        alpha: Tensor = self.alpha[_key(layer)]
        return alpha.float()[:, kind.to(alpha.device)]

    def _check_layers(self, heads: Mapping[str, int]) -> None:
        ours = {key: len(alpha) for key, alpha in self.alpha.items()}
        if ours != heads:
            unlike = min(key for key, _ in ours.items() ^ heads.items())
            raise BadInput(
                f"model: expected the {len(ours)} layers that these biases are for, got "
                f"{len(heads)}, unlike at {_name(unlike)}; make others with SpatialAttention.of"
            )

    def _note_image_tokens(
        self, _model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        picture: Tensor = kwargs["hidden_states"] if "hidden_states" in kwargs else args[0]
        self._context.image_tokens = picture.shape[1]


def _restorer(layer: Any, original: Any) -> Callable[[], None]:
    def restore() -> None:
        if isinstance(layer.get_processor(), SpatialAttnProcessor):
            layer.set_processor(original)

    return restore


def _key(name: str) -> str:
    """Parameter names hold no dots."""
    return name.replace(".", "/")


def _name(key: str) -> str:
    return key.replace("/", ".")
