"""The UNet with all that MILD puts on it; the same code predicts in training and in sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mild_bench.errors import BadInput
from mild_bench.mild.adapters import Adapters, AdapterSettings, Kind
from mild_bench.mild.alpha_head import AlphaHead
from mild_bench.mild.branches import Branch
from mild_bench.mild.hmg import HumanMorphologyGuidance, Mode
from mild_bench.mild.latents import Codec
from mild_bench.mild.priors import Priors
from mild_bench.mild.spatial_attention import SpatialAttention


@dataclass(frozen=True)
class Text:
    """What the text encoders made of the prompts, batch first; the same rows for every step.

    Attributes:
        tokens: batch x tokens x ``cross_attention_dim``.
        pooled: batch x width, where the UNet wants it (SDXL).
    """

    tokens: Tensor
    pooled: Tensor | None = None

    def row(self, number: int) -> Text:
        """Return one prompt's."""
        pooled = None if self.pooled is None else self.pooled[number : number + 1]
        return Text(self.tokens[number : number + 1], pooled)


@dataclass(frozen=True)
class Condition:
    """Branches of one size as the UNet takes them; every tensor starts with the batch.

    Attributes:
        kinds: the adapter of each.
        known: 1 + latent channels: the mask, then the latents of the picture with its hole.
        labels: integers at the branch's size in pixels, for spatially-modulated attention.
        context: tokens of cross-attention.
        is_token: which of them count, bool batch x tokens.
        maps: of the guidance, batch x channels x latent height x latent width.
        pooled, time_ids: SDXL's other conditions.
    """

    kinds: tuple[Kind, ...]
    known: Tensor
    labels: Tensor
    context: Tensor
    is_token: Tensor
    maps: Tensor | None = None
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    def part(self, rows: slice) -> Condition:
        """Return some of the branches."""
        values: dict[str, Any] = {
            field.name: getattr(self, field.name)[rows]
            for field in fields(self)
            if getattr(self, field.name) is not None
        }
        return Condition(**values)


@dataclass(frozen=True)
class Prediction:
    """What the UNet says: the noise (or v, or sample), and the features it read it from."""

    noise: Tensor
    features: Tensor


class MildNetwork:
    """A UNet2DConditionModel with adapters, SMA, HMG and the alpha head.

    The UNet itself is frozen; ``trainable()`` names the rest.
    """

    def __init__(
        self,
        unet: Any,
        hmg: HumanMorphologyGuidance,
        alpha_head: AlphaHead,
        settings: AdapterSettings | None = None,
    ) -> None:
        """Put adapters and SMA on the UNet.

        Raises:
            BadInput: the UNet is not one for inpainting, has LoRA layers already, or its width
                of context is not the guidance's.
        """
        latents = unet.config.out_channels
        if unet.config.in_channels != 2 * latents + 1:
            raise BadInput(
                f"unet: expected one for inpainting with {2 * latents + 1} input channels (noise, "
                f"mask, picture), got {unet.config.in_channels}; choose an inpainting checkpoint"
            )
        if unet.config.cross_attention_dim != hmg.config.cross_attention_dim:
            raise BadInput(
                f"hmg: expected tokens of the UNet's width {unet.config.cross_attention_dim}, got "
                f"{hmg.config.cross_attention_dim}; make one with HumanMorphologyGuidance.of(unet)"
            )
        self.unet = unet
        self.hmg = hmg
        self.alpha_head = alpha_head
        self.adapters = Adapters(unet, settings or AdapterSettings())
        self.sma = SpatialAttention.of(unet)
        self._features: Tensor | None = None
        self._maps: Tensor | None = None
        unet.conv_in.register_forward_hook(self._add_maps)
        unet.conv_out.register_forward_pre_hook(self._keep_features)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        device: torch.device = self.unet.conv_in.weight.device
        return device

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return everything that trains, by name (``bg...``, ``fg...``, ``hmg...`` and so on)."""
        parts: dict[str, Any] = {"sma": self.sma, "hmg": self.hmg, "alpha_head": self.alpha_head}
        named = {
            f"{part}.{name}": parameter
            for part, module in parts.items()
            for name, parameter in module.named_parameters()
        }
        return {**self.adapters.named_parameters(), **named}

    def condition(
        self,
        branches: Sequence[Branch],
        codec: Codec,
        *,
        mode: Mode = "both",
        text: Text | None = None,
    ) -> Condition:
        """Return branches of one size as the UNet takes them.

        Args:
            branches: at least one; all of one size.
            codec: encodes their pictures.
            mode: of the guidance.
            text: one row, or one for each branch.
        """
        first = self.unet.conv_in.weight  # with adapters, unet.dtype may be theirs
        device, dtype = first.device, first.dtype
        pictures = torch.stack([one.picture for one in branches]).to(device, dtype)
        unknown = torch.stack([one.unknown for one in branches]).to(device, dtype)[:, None]
        known = codec.encode(pictures)
        mask = functional.max_pool2d(unknown, codec.scale)
        priors = [_moved(one.priors, device) for one in branches]
        context, is_token = self.hmg(priors, mode)
        maps = self.hmg.draw(priors, (known.shape[2], known.shape[3]), mode)
        return Condition(
            kinds=tuple(one.kind for one in branches),
            known=torch.cat([mask, known], dim=1),
            labels=torch.stack([one.labels for one in branches]).to(device),
            maps=None if maps is None else maps.to(dtype),
            **self._context(context.to(dtype), is_token, text, branches[0].size),
        )

    def predict(
        self, latents: Tensor, timestep: Tensor | int, condition: Condition, *, sma: bool = True
    ) -> Prediction:
        """Run the UNet once, each sample with its own adapter.

        Args:
            latents: batch x channels x height x width, scaled as the scheduler asks.
            timestep: one, or one for each sample.
            condition: of the same branches.
            sma: whether the biases of spatially-modulated attention are on.
        """
        mask = None if bool(condition.is_token.all()) else condition.is_token
        added = None
        if condition.time_ids is not None:
            added = {"text_embeds": condition.pooled, "time_ids": condition.time_ids}
        self.sma.set_sides(condition.labels if sma else None)
        self._maps = condition.maps
        with self.adapters.on(condition.kinds):
            noise = self.unet(
                torch.cat([latents, condition.known], dim=1),
                timestep,
                encoder_hidden_states=condition.context,
                encoder_attention_mask=mask,
                added_cond_kwargs=added,
                return_dict=False,
            )[0]
        assert self._features is not None
        features, self._features, self._maps = self._features, None, None
        return Prediction(noise, features)

    def alpha_logits(self, prediction: Prediction, rows: Sequence[int]) -> Tensor:
        """Return logits of the complete persons, rows x 1 x height x width in pixels."""
        logits: Tensor = self.alpha_head(prediction.features[list(rows)])
        return logits

    def _context(
        self, tokens: Tensor, is_token: Tensor, text: Text | None, size: tuple[int, int]
    ) -> dict[str, Any]:
        batch = len(tokens)
        if text is not None:
            words = text.tokens.to(tokens).expand(batch, -1, -1)
            tokens = torch.cat([words, tokens], dim=1)
            is_token = functional.pad(is_token, (words.shape[1], 0), value=True)
        found = {"context": tokens, "is_token": is_token}
        config = self.unet.config
        if config.addition_embed_type == "text_time":
            width = (
                config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            )
            pooled = None if text is None else text.pooled
            found["pooled"] = (
                tokens.new_zeros(batch, width)
                if pooled is None
                else pooled.to(tokens).expand(batch, -1)
            )
            found["time_ids"] = tokens.new_tensor([[*size, 0, 0, *size]]).expand(batch, -1)
        return found

    def _add_maps(self, _module: nn.Module, _args: tuple[Tensor, ...], out: Tensor) -> Tensor:
        return out if self._maps is None else out + self._maps.to(out)

    def _keep_features(self, _module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self._features = args[0]


def _moved(priors: Priors, device: torch.device) -> Priors:
    parts = None if priors.parts is None else priors.parts.to(device)
    others = None if priors.others is None else priors.others.to(device)
    return Priors(priors.place.to(device), priors.keypoints.to(device), parts, others)
