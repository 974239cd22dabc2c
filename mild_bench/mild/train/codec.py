"""The autoencoder as training uses it: many pictures at once, or each picture once."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from mild_bench.mild.latents import Codec

AT_ONCE = 32


class BatchCodec(Codec):
    """A ``Codec`` that encodes up to 32 pictures in one pass."""

    def encode(self, pictures: Tensor, *, chunk: int = AT_ONCE) -> Tensor:
        """Return latents as the UNet takes them; pictures as in ``Codec``."""
        return super().encode(pictures, chunk=chunk)


class RememberingCodec(Codec):
    """A ``Codec`` that encodes one picture at a time, and no picture twice.

    For examples that come again and again while the autoencoder stays as it is. One at a time, so
    that latents do not depend on what else was asked for.
    """

    def __init__(self, vae: Any) -> None:
        """Wrap an autoencoder."""
        super().__init__(vae)
        self._found: dict[bytes, Tensor] = {}

    def encode(self, pictures: Tensor, *, chunk: int = 1) -> Tensor:
        """Return latents as the UNet takes them; pictures as in ``Codec``."""
        return torch.cat([self._remembered(one, chunk) for one in pictures.split(1)])

    def _remembered(self, picture: Tensor, chunk: int) -> Tensor:
        content = picture.detach().cpu().contiguous().numpy().tobytes()
        key = hashlib.blake2b(content, digest_size=16).digest()
        if key not in self._found:
            self._found[key] = Codec.encode(self, picture, chunk=chunk)
        return self._found[key]
