"""Prompts as context, where a pipeline has text encoders (one as SD 1.5, two as SDXL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mild_bench.errors import BadInput
from mild_bench.mild.network import Text

Encoder = tuple[Any, Any]  # tokenizer, text encoder


@torch.no_grad()
def encode_prompts(encoders: Sequence[Encoder], prompts: Sequence[str]) -> Text | None:
    """Return a row of context for each prompt, None without text encoders.

    One encoder gives its last hidden states, two give those before the last side by side and the
    pooled output of the second, as in their pipelines.

    Raises:
        BadInput: a prompt and nothing to read it with.
    """
    if not encoders:
        if any(prompts):
            raise BadInput(
                f"prompt: this model has no text encoder, got {max(prompts, key=len)!r}; leave it "
                "out"
            )
        return None
    outputs = [_encode(tokenizer, encoder, prompts) for tokenizer, encoder in encoders]
    if len(outputs) == 1:
        return Text(outputs[0][0])
    tokens = torch.cat([one.hidden_states[-2] for one in outputs], dim=-1)
    pooled: Tensor = outputs[-1][0]
    return Text(tokens, pooled)


def _encode(tokenizer: Any, encoder: Any, prompts: Sequence[str]) -> Any:
    ids = tokenizer(
        list(prompts),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    return encoder(ids.to(encoder.device), output_hidden_states=True)
