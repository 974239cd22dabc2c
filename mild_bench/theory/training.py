"""Training to a minimum, so that the Hessian is that of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mild_bench.theory.model import Separation, World, layered_loss

STEPS = 600
ENOUGH = 1e-6  # largest entry of the gradient


@dataclass(frozen=True)
class Trained:
    """Foreground and background parameters, and what is left of loss and gradient there."""

    fg: Tensor
    bg: Tensor
    loss: float
    gradient: float


def train(world: World, begin: tuple[Tensor, Tensor], separation: Separation) -> Trained:
    """Minimise the layered loss from ``begin`` with L-BFGS; the same begin gives the same end."""
    fg, bg = (part.clone().requires_grad_() for part in begin)
    optimizer = torch.optim.LBFGS(
        [fg, bg], max_iter=STEPS, max_eval=2 * STEPS, history_size=40, tolerance_grad=ENOUGH,
        tolerance_change=0, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure() -> float:
        loss = layered_loss(world, fg, bg, separation)
        fg.grad, bg.grad = torch.autograd.grad(loss, (fg, bg))
        return float(loss.detach())

    step: Callable[[Callable[[], float]], object] = optimizer.step
    step(closure)
    loss = layered_loss(world, fg, bg, separation)
    left = torch.autograd.grad(loss, (fg, bg))
    return Trained(
        fg=fg.detach(),
        bg=bg.detach(),
        loss=float(loss.detach()),
        gradient=max(float(part.abs().max()) for part in left),
    )
