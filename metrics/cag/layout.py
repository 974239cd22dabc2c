"""Which of an attention call's tokens are the picture's and which the text's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Text = Literal["first", "last"]

# Where processors put text beside the picture, read in diffusers 0.42 and held by a test.
TEXT_ORDER: dict[str, Text] = {
    "JointAttnProcessor2_0": "last",
    "FusedJointAttnProcessor2_0": "last",
    "FluxAttnProcessor": "first",
    "AttnAddedKVProcessor2_0": "first",
}


@dataclass(frozen=True)
class Layout:
    """Of one self-attention call.

    Attributes:
        picture: how many tokens the picture has.
        text: how many text tokens are among the keys.
        text_queries: whether they are among the queries too.
        order: where they stand.
    """

    picture: int
    text: int = 0
    text_queries: bool = False
    order: Text = "last"


@dataclass(frozen=True)
class ModelInput:
    """What the model as a whole was given.

    Attributes:
        latents: height and width on the finest grid of tokens, None for packed latents.
        picture: how many picture tokens a transformer has; None for UNets.
        text: how many text tokens.
    """

    latents: tuple[int, int] | None
    picture: int | None
    text: int


def find_layout(
    queries: int, keys: int, text: int | None, processor: str, model: ModelInput, order: Text | None
) -> Layout | str:
    """Return the layout of a call, or why it is none that the probe takes.

    Args:
        queries: how many.
        keys: how many.
        text: tokens of the layer's ``encoder_hidden_states``; None when it got none.
        processor: the class of the layer's processor.
        model: what the model was given.
        order: the user's word on where text stands, None to look the processor up.
    """
    order = order or TEXT_ORDER.get(processor)
    joined = text is not None and queries == keys > text
    added = text is not None and keys == queries + text
    single = (
        text is None
        and queries == keys
        and model.picture is not None
        and model.text > 0
        and keys == model.picture + model.text
    )
    if not (joined or added or single):
        if text is None and queries == keys:
            return Layout(queries)
        return "cross-attention"
    if order is None:
        return (
            f"{processor}: text and picture share this attention, but it is not known which comes "
            'first; pass text_order="first" or "last"'
        )
    among = text if text is not None else model.text
    return Layout(keys - among, among, text_queries=not added, order=order)
