"""The spatial prior of human morphology guidance: pose, parsing and place drawn as maps."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from mild_bench.mild.priors import JOINTS, PARTS, Priors

LIMBS = (
    (0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (0, 6), (5, 6), (5, 7), (7, 9), (6, 8), (8, 10),
    (5, 11), (6, 12), (11, 12), (11, 13), (13, 15), (12, 14), (14, 16),
)  # fmt: skip
"""Pairs of COCO joints with something of a person between them."""

SPREAD = 0.03  # standard deviation of a drawn joint or limb, as a share of the branch's side
POSE = JOINTS + 2  # joints, limbs, and a map of ones where the pose is known
PARSING = PARTS  # all labels but 0, and a map of ones
PLACE = 3  # what is to be painted or shows, others who show, and a map of ones


class GuidanceMaps(nn.Module):
    """Turns what is known of the people into features beside those of a UNet's first convolution.

    Tokens tell a UNet what there is; these tell it where. They start as zeros (an adapter as in
    arXiv 2302.08453), so that a UNet with untrained maps is the one it was.
    """

    def __init__(self, channels: int, width: int = 64) -> None:
        """Make convolutions.

        Args:
            channels: of the UNet's first convolution.
            width: of the middle layers.
        """
        super().__init__()
        self.conv_in = nn.Conv2d(POSE + PARSING + PLACE, width, 3, padding=1)
        self.conv_mid = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(
        self, priors: Sequence[Priors], size: tuple[int, int], *, pose: bool, parsing: bool
    ) -> Tensor:
        """Return features, batch x channels x height x width.

        Args:
            priors: one for each branch.
            size: height and width, those of the latents.
            pose, parsing: whether to tell them; the place is always told.
        """
        like = self.conv_in.weight
        drawn = torch.stack([_drawn(one, size, pose=pose, parsing=parsing) for one in priors])
        hidden = functional.silu(self.conv_in(drawn.to(like.device, like.dtype)))
        hidden = hidden + functional.silu(self.conv_mid(hidden))
        features: Tensor = self.conv_out(hidden)
        return features


def draw_pose(keypoints: Tensor, size: tuple[int, int]) -> Tensor:
    """Draw the joints of all people, and limbs between those that are known.

    Args:
        keypoints: people x 17 x 3, as in ``Priors``.
        size: height and width.

    Returns:
        18 x height x width in [0, 1]: a map for each joint and one for the limbs.
    """
    height, width = size
    rows = (torch.arange(height) + 0.5) / height
    columns = (torch.arange(width) + 0.5) / width
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)  # of x and y
    points, known = keypoints[..., :2].float().cpu(), keypoints[..., 2].cpu() > 0
    start, stop = torch.tensor(LIMBS).unbind(dim=1)
    along = points[:, stop] - points[:, start]
    joints = _near(grid, points, torch.zeros_like(points)) * known[..., None, None]
    both = known[:, start] & known[:, stop]
    limbs = _near(grid, points[:, start], along) * both[..., None, None]
    return torch.cat([joints.amax(dim=0), limbs.amax(dim=(0, 1))[None]])


def _near(grid: Tensor, start: Tensor, along: Tensor) -> Tensor:
    """Return how near each cell is to lines, people x lines x height x width in [0, 1]."""
    away = grid - start[:, :, None, None]
    along = along[:, :, None, None]
    share = (away * along).sum(-1) / along.square().sum(-1).clamp(min=1e-9)
    away = away - share.clamp(0, 1)[..., None] * along
    return (-away.square().sum(-1) / (2 * SPREAD**2)).exp()


def _drawn(prior: Priors, size: tuple[int, int], *, pose: bool, parsing: bool) -> Tensor:
    height, width = size
    maps = torch.zeros(POSE + PARSING + PLACE, height, width)
    if pose and len(prior.keypoints):
        maps[: JOINTS + 1] = draw_pose(prior.keypoints, size)
        maps[JOINTS + 1] = 1
    if parsing and prior.parts is not None:
        one_hot = functional.one_hot(prior.parts.cpu().long(), PARTS).movedim(-1, 0)
        maps[POSE : POSE + PARTS - 1] = _small(one_hot[1:], size)
        maps[POSE + PARTS - 1] = 1
    maps[-PLACE] = _small(prior.place[None], size)[0]
    if prior.others is not None:
        maps[-2] = _small(prior.others[None], size)[0]
    maps[-1] = 1
    return maps


def _small(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return functional.interpolate(maps[None].float().cpu(), size=size, mode="area")[0]
