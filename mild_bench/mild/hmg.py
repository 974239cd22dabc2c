"""Human morphology guidance (HMG): pose, parsing and place of people as tokens and as maps."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn
from torch.nn import functional

from mild_bench.errors import BadInput
from mild_bench.mild.hmg_maps import GuidanceMaps
from mild_bench.mild.priors import JOINTS, PARTS, Priors

Mode = Literal["none", "pose", "parsing", "both"]
MODES: tuple[Mode, ...] = get_args(Mode)
MODALITIES = ("null", "pose", "parsing", "place")
WAVES = 6  # octaves of a coordinate's sines and cosines
MAP_SIDE = 64  # of the maps that the convolutions see
GRID = 4  # and of the grid of tokens they make


class HumanMorphologyGuidance(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Turns what is known of the people into tokens beside the text, and into feature maps.

    Plugs into any UNet2DConditionModel: its tokens have that model's ``cross_attention_dim``, its
    maps the channels of that model's first convolution, to whose output they are added.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, cross_attention_dim: int, map_channels: int, width: int = 128) -> None:
        """Make encoders.

        Args:
            cross_attention_dim: width of the UNet's context.
            map_channels: of the UNet's first convolution.
            width: of the encoders.
        """
        super().__init__()
        self.joints = nn.Embedding(JOINTS, width)
        self.joint_in = nn.Linear(4 * WAVES + 3, width)
        self.joint_out = nn.Linear(width, width)
        self.whole_pose = nn.Linear(width, width)
        self.parsing = _map_encoder(PARTS, width)
        self.place = _map_encoder(1, width)
        self.cells = nn.Embedding(GRID * GRID, width)
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, cross_attention_dim)
        self.modality = nn.Embedding(len(MODALITIES), cross_attention_dim)
        self.maps = GuidanceMaps(map_channels)

    @classmethod
    def of(cls, unet: Any, *, width: int = 128) -> HumanMorphologyGuidance:
        """Make encoders for a UNet2DConditionModel.

        Raises:
            BadInput: layers of it have contexts of different widths.
        """
        dim = unet.config.cross_attention_dim
        if not isinstance(dim, int):
            raise BadInput(f"unet: expected one cross_attention_dim, got {dim}")
        made: HumanMorphologyGuidance = cls(dim, unet.conv_in.out_channels, width)
        return made

    def forward(self, priors: Sequence[Priors], mode: Mode = "both") -> tuple[Tensor, Tensor]:
        """Return tokens.

        A branch without what the mode asks for gets a learned null token in its place, as does
        every branch in mode ``none``.

        Args:
            priors: one for each branch.
            mode: ``pose`` and ``parsing`` come with the place of the people, ``both`` with both.

        Returns:
            tokens, batch x tokens x ``cross_attention_dim``, zeros at the end of shorter ones;
            and which of them are tokens, bool batch x tokens.

        Raises:
            BadInput: an unknown mode.
        """
        if mode not in MODES:
            raise BadInput(f"hmg: expected one of {', '.join(MODES)}, got {mode!r}")
        rows: list[list[Tensor]] = [[] for _ in priors]
        if mode in ("pose", "both"):
            self._add_poses(rows, priors)
        if mode in ("parsing", "both"):
            one_hot = [None if one.parts is None else _one_hot(one.parts) for one in priors]
            self._add_maps(rows, "parsing", one_hot, self.parsing)
        if mode != "none":
            self._add_maps(rows, "place", [one.place[None] for one in priors], self.place)
        return _padded([torch.cat(row) if row else self._null("null") for row in rows])

    def draw(self, priors: Sequence[Priors], size: tuple[int, int], mode: Mode) -> Tensor | None:
        """Return feature maps, batch x channels x height x width; None in mode ``none``.

        Args:
            priors: one for each branch.
            size: height and width of the latents.
            mode: as in ``forward``.
        """
        if mode == "none":
            return None
        drawn: Tensor = self.maps(
            priors, size, pose=mode in ("pose", "both"), parsing=mode in ("parsing", "both")
        )
        return drawn

    def _add_poses(self, rows: list[list[Tensor]], priors: Sequence[Priors]) -> None:
        counts = [len(one.keypoints) for one in priors]
        if any(counts):
            points = torch.cat([one.keypoints for one in priors]).to(self.device, self.dtype)
            hidden = functional.silu(self.joint_in(_features(points)) + self.joints.weight)
            hidden = functional.silu(self.joint_out(hidden))
            hidden = hidden + self.whole_pose(hidden.mean(dim=1, keepdim=True))
            poses = self._tokens(hidden, "pose").split(counts)
        for number, row in enumerate(rows):
            row.append(poses[number].flatten(0, 1) if counts[number] else self._null("pose"))

    def _add_maps(
        self,
        rows: list[list[Tensor]],
        modality: str,
        maps: Sequence[Tensor | None],
        encoder: nn.Module,
    ) -> None:
        given = [number for number, one in enumerate(maps) if one is not None]
        found: dict[int, Tensor] = {}
        if given:
            seen = torch.cat([_small(one) for one in maps if one is not None])
            grid = encoder(seen.to(self.device, self.dtype)).flatten(2).transpose(1, 2)
            tokens = self._tokens(grid + self.cells.weight, modality)
            found = dict(zip(given, tokens, strict=True))
        for number, row in enumerate(rows):
            row.append(found[number] if number in found else self._null(modality))

    def _tokens(self, hidden: Tensor, modality: str) -> Tensor:
        tokens: Tensor = self.project(self.norm(hidden))
        return tokens + self.modality.weight[MODALITIES.index(modality)]

    def _null(self, modality: str) -> Tensor:
        """The null token tells which modality is not there."""
        weights: Tensor = self.modality.weight
        null = weights[:1]
        return null if modality == "null" else null + weights[[MODALITIES.index(modality)]]


def _map_encoder(channels: int, width: int) -> nn.Sequential:
    widths = (channels, width // 4, width // 2, width, width)
    layers: list[nn.Module] = []
    for have, want in pairwise(widths):
        layers += [nn.Conv2d(have, want, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def _features(points: Tensor) -> Tensor:
    """Return sines and cosines of the coordinates and the visibility, people x joints x values."""
    seen = functional.one_hot(points[..., 2].long().clamp(0, 2), 3).to(points.dtype)
    octaves = torch.pi * 2.0 ** torch.arange(WAVES, device=points.device)
    angles = (points[..., :2, None] * octaves.to(points.dtype)).flatten(-2)
    known = (points[..., 2:] > 0).to(points.dtype)
    return torch.cat([angles.sin() * known, angles.cos() * known, seen], dim=-1)


def _one_hot(parts: Tensor) -> Tensor:
    return functional.one_hot(parts.long(), PARTS).movedim(-1, 0).float()


def _small(one: Tensor) -> Tensor:
    return functional.interpolate(one[None].float(), size=(MAP_SIDE, MAP_SIDE), mode="area")


def _padded(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    tokens = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    counts = torch.tensor([len(row) for row in rows], device=tokens.device)
    return tokens, torch.arange(tokens.shape[1], device=tokens.device) < counts[:, None]
