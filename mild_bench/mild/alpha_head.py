"""The part of the person adapter that says where the complete person is."""

from __future__ import annotations

from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional


class AlphaHead(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """From the features that enter a UNet's last convolution to alpha at the picture's size."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, in_channels: int, scale: int, width: int = 64) -> None:
        """Make a head.

        Args:
            in_channels: of the UNet's ``conv_out``.
            scale: pixels on the side of a latent.
            width: channels of the middle layers.
        """
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        self.conv_mid = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, scale * scale, 3, padding=1)
        self.scale = scale

    @classmethod
    def of(cls, unet: Any, scale: int) -> AlphaHead:
        """Make a head for a UNet2DConditionModel."""
        head: AlphaHead = cls(unet.conv_out.in_channels, scale)
        return head

    def forward(self, features: Tensor) -> Tensor:
        """Return logits.

        Args:
            features: batch x channels x latent height x latent width.

        Returns:
            batch x 1 x height x width in pixels; above 0 the person is there.
        """
        hidden = functional.silu(self.conv_in(features))
        hidden = hidden + functional.silu(self.conv_mid(hidden))
        return functional.pixel_shuffle(self.conv_out(hidden), self.scale)
