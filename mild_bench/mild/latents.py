"""Pictures to latents and back, for any autoencoder of diffusers."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mild_bench.errors import BadInput


class Codec:
    """An autoencoder: AutoencoderKL, AutoencoderTiny, or another with ``encode`` and ``decode``."""

    def __init__(self, vae: Any) -> None:
        """Wrap it.

        Raises:
            BadInput: it is none of a known layout.
        """
        widths = getattr(vae.config, "block_out_channels", None)
        if not widths:
            raise BadInput(
                f"vae: expected an autoencoder with block_out_channels, got {type(vae).__name__}"
            )
        self.vae = vae
        self.scale = 2 ** (len(widths) - 1)
        """Pixels on the side of a latent."""
        self._factor = float(getattr(vae.config, "scaling_factor", None) or 1)
        self._shift = float(getattr(vae.config, "shift_factor", None) or 0)

    @torch.no_grad()
    def encode(self, pictures: Tensor, *, chunk: int = 1) -> Tensor:
        """Return latents as the UNet takes them, the most likely ones.

        Args:
            pictures: batch x 3 x height x width in [0, 1].
            chunk: how many at once.
        """
        pieces = [self._encode(one) for one in pictures.split(chunk)]
        return (torch.cat(pieces) - self._shift) * self._factor

    @torch.no_grad()
    def decode(self, latents: Tensor, *, chunk: int = 1) -> Tensor:
        """Return pictures in [0, 1], batch x 3 x height x width."""
        plain = latents / self._factor + self._shift
        pieces = [
            self.vae.decode(one.to(self.vae.dtype), return_dict=False)[0]
            for one in plain.split(chunk)
        ]
        return (torch.cat(pieces).float() / 2 + 0.5).clamp(0, 1)

    def _encode(self, pictures: Tensor) -> Tensor:
        found = self.vae.encode((pictures * 2 - 1).to(self.vae.dtype))
        if hasattr(found, "latent_dist"):
            latents: Tensor = found.latent_dist.mode()
        else:
            latents = found.latents
        return latents.to(pictures.dtype)
