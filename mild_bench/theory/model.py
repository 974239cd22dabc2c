"""A two-branch attention layer, small enough that every second derivative can be computed.

A picture has person tokens F and background tokens B. Foreground parameters turn F into keys and
values, background parameters turn B into keys and values. Two branches look at them from the
erased places (the tokens of F), each with its own frozen queries and output: the background branch
paints what stood behind the person, the person branch paints the person. The layered loss is the
sum of the two branches' losses. Each branch should read its own side; what it reads of the other
couples the two sets of parameters.

Letters in shapes: s branch, p picture, h head, q query, k key (F, then B), w width, d of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

FG, BG = 0, 1  # a side, and the branch of that side
WIDTH = 6
HEADS = 2
HEAD_WIDTH = WIDTH // HEADS
PERSON_TOKENS = 4
BACKGROUND_TOKENS = 8
PICTURES = 10
BLOCK = 2 * WIDTH * WIDTH  # parameters of a side: a key and a value matrix
WEIGHT_DECAY = 0.02
NOISE = 0.3  # of the targets, so that no residual vanishes

_SIDE_OF_KEY = torch.tensor([FG] * PERSON_TOKENS + [BG] * BACKGROUND_TOKENS)
_FOR_OWN = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)

Alpha = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Separation:
    """What tells the two sides apart, in nats of logit.

    ``content[s]``: how far the frozen features of branch ``s`` favour its own side, times a gain
    of each query between 1 and 1.5. ``alpha[s][t]``: the bias that spatially-modulated attention
    adds in branch ``s`` to keys of side ``t``; ``-inf`` across the sides separates hard.
    """

    content: tuple[float, float] = (0.0, 0.0)
    alpha: Alpha = ((0.0, 0.0), (0.0, 0.0))

    def added(self, branch: int) -> float:
        """Return by how much the bias of ``branch`` favours its own side, in nats."""
        return self.alpha[branch][branch] - self.alpha[branch][1 - branch]


@dataclass(frozen=True)
class World:
    """What is frozen, float64: the pictures, the base model, the targets.

    ``tokens``: p k w; ``queries``: s p h q d; ``output``: s w w; ``gain``: s p h q; ``targets``:
    s p q w.
    """

    tokens: Tensor
    queries: Tensor
    output: Tensor
    gain: Tensor
    targets: Tensor


def make_world(draw: torch.Generator) -> World:
    """Draw the frozen parts.

    The targets come from a teacher of the same shape that reads both sides freely: a student gains
    by looking across, as a real eraser does.
    """
    tokens = _normal(draw, PICTURES, PERSON_TOKENS + BACKGROUND_TOKENS, WIDTH)
    to_query = _normal(draw, 2, 1, WIDTH, WIDTH) / WIDTH**0.5
    queries = _heads(tokens[:, :PERSON_TOKENS] @ to_query.mT)
    output = _normal(draw, 2, WIDTH, WIDTH) / WIDTH**0.5
    size = (2, PICTURES, HEADS, PERSON_TOKENS)
    gain = 1 + 0.5 * torch.rand(size, generator=draw, dtype=torch.float64)
    untold = torch.zeros(2, PICTURES, PERSON_TOKENS, WIDTH, dtype=torch.float64)
    teacher = start(draw)
    clean = outputs(World(tokens, queries, output, gain, untold), *teacher, Separation())
    return World(tokens, queries, output, gain, clean + NOISE * _normal(draw, *clean.shape))


def start(draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw untrained foreground and background parameters, each of length BLOCK."""
    both = _normal(draw, 2, BLOCK) / WIDTH**0.5
    return both[FG], both[BG]


def logits(world: World, fg: Tensor, bg: Tensor, separation: Separation) -> Tensor:
    """Return s_ij of both branches, everything that is added included: s p h q k."""
    keys = _heads(_by_side(world.tokens, fg[: BLOCK // 2], bg[: BLOCK // 2]))
    plain: Tensor = world.queries @ keys.mT / HEAD_WIDTH**0.5
    content = torch.tensor(separation.content, dtype=torch.float64).view(2, 1, 1, 1, 1)
    alpha = torch.tensor(separation.alpha, dtype=torch.float64).view(2, 1, 1, 1, 2)
    own = content * world.gain[..., None] / 2 * _FOR_OWN.view(2, 1, 1, 1, 2)
    return plain + (own + alpha)[..., _SIDE_OF_KEY]


def outputs(world: World, fg: Tensor, bg: Tensor, separation: Separation) -> Tensor:
    """Return what the branches paint at the erased places: s p q w."""
    weight = logits(world, fg, bg, separation).softmax(dim=-1)
    values = _heads(_by_side(world.tokens, fg[BLOCK // 2 :], bg[BLOCK // 2 :]))
    mixed: Tensor = (weight @ values).transpose(-3, -2).flatten(-2)
    return mixed @ world.output[:, None].mT


def branch_losses(world: World, fg: Tensor, bg: Tensor, separation: Separation) -> Tensor:
    """Return half the mean squared error of each branch: s."""
    error = outputs(world, fg, bg, separation) - world.targets
    return error.square().sum(dim=-1).mean(dim=(-2, -1)) / 2


def layered_loss(world: World, fg: Tensor, bg: Tensor, separation: Separation) -> Tensor:
    """Return the sum of the branches' losses and of the weight decay they are trained with."""
    decay = WEIGHT_DECAY / 2 * (fg.square().sum() + bg.square().sum())
    return branch_losses(world, fg, bg, separation).sum() + decay


def _by_side(tokens: Tensor, fg: Tensor, bg: Tensor) -> Tensor:
    person = tokens[:, :PERSON_TOKENS] @ fg.view(WIDTH, WIDTH).T
    background = tokens[:, PERSON_TOKENS:] @ bg.view(WIDTH, WIDTH).T
    return torch.cat([person, background], dim=1)


def _heads(tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:-1], HEADS, HEAD_WIDTH).transpose(-3, -2)


def _normal(draw: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=draw, dtype=torch.float64)
