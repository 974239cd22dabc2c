"""The autoencoder as training uses it: many pictures at once."""

from __future__ import annotations

from torch import Tensor

from mild_bench.mild.latents import Codec

AT_ONCE = 32


class BatchCodec(Codec):
    """A ``Codec`` that encodes up to 32 pictures in one pass."""

    def encode(self, pictures: Tensor, *, chunk: int = AT_ONCE) -> Tensor:
        """Return latents as the UNet takes them; pictures as in ``Codec``."""
        return super().encode(pictures, chunk=chunk)
