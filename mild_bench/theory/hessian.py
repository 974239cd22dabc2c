"""The true Hessian of the layered loss, and what its foreground-background block does."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import jacfwd, jacrev

from mild_bench.theory.model import BG, BLOCK, WEIGHT_DECAY, Separation, World, branch_losses


@dataclass(frozen=True)
class Blocks:
    """The Hessian by sides, each block BLOCK x BLOCK float64.

    ``fg`` and ``bg`` stand on the diagonal, ``cross`` off it (rows: foreground parameters);
    ``cross_of_bg`` is the part of ``cross`` that the background branch's loss alone gives.
    """

    fg: Tensor
    bg: Tensor
    cross: Tensor
    cross_of_bg: Tensor

    def whole(self) -> Tensor:
        """Return the full symmetric matrix."""
        top = torch.cat([self.fg, self.cross], dim=1)
        return torch.cat([top, torch.cat([self.cross.T, self.bg], dim=1)], dim=0)


@dataclass(frozen=True)
class Conditioning:
    """Condition numbers of a Hessian H; all NaN where H is not positive definite.

    ``whole``: of H. ``apart``: of H with its cross block set to 0; never above ``whole``, because
    the eigenvalues of a symmetric matrix enclose those of its diagonal blocks. ``coupling``: rho,
    the largest singular value of H_FF^(-1/2) H_FB H_BB^(-1/2), in [0, 1). ``preconditioned``:
    (1 + rho) / (1 - rho), what is left when each side is preconditioned perfectly by itself.
    """

    whole: float
    apart: float
    coupling: float
    preconditioned: float


def hessian(world: World, fg: Tensor, bg: Tensor, separation: Separation) -> Blocks:
    """Return all second derivatives of the layered loss, by forward over reverse mode."""

    def losses(both: Tensor) -> Tensor:
        return branch_losses(world, both[:BLOCK], both[BLOCK:], separation)

    theta = torch.cat([fg, bg]).detach()
    parts = jacfwd(jacrev(losses))(theta)
    whole = parts.sum(dim=0) + WEIGHT_DECAY * torch.eye(2 * BLOCK, dtype=theta.dtype)
    return Blocks(
        fg=whole[:BLOCK, :BLOCK],
        bg=whole[BLOCK:, BLOCK:],
        cross=whole[:BLOCK, BLOCK:],
        cross_of_bg=parts[BG, :BLOCK, BLOCK:],
    )


def conditioning(blocks: Blocks) -> Conditioning:
    """Measure how the cross block worsens the condition of the problem."""
    values = torch.linalg.eigvalsh(blocks.whole())
    if float(values[0]) <= 0:
        return Conditioning(math.nan, math.nan, math.nan, math.nan)
    sides = torch.cat([torch.linalg.eigvalsh(part) for part in (blocks.fg, blocks.bg)])
    left, right = torch.linalg.cholesky(blocks.fg), torch.linalg.cholesky(blocks.bg)
    half = torch.linalg.solve_triangular(left, blocks.cross, upper=False)
    scaled = torch.linalg.solve_triangular(right, half.T, upper=False)
    rho = float(torch.linalg.matrix_norm(scaled, 2))
    return Conditioning(
        whole=float(values[-1] / values[0]),
        apart=float(sides.max() / sides.min()),
        coupling=rho,
        preconditioned=(1 + rho) / (1 - rho),
    )
