"""The experiment: the same models trained at many margins, and the Hessian of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mild_bench.errors import BadInput
from mild_bench.theory.gap import gap
from mild_bench.theory.hessian import Blocks, conditioning, hessian
from mild_bench.theory.model import BG, FG, Alpha, Separation, World, logits, make_world, start
from mild_bench.theory.training import Trained, train

STRONGEST = 20.0  # nats: the coupling is then near 1e-8 of the blocks, far above rounding
Way = Literal["content", "bias", "one-sided", "hard"]
Advance = Callable[[int], None]


@dataclass(frozen=True)
class Settings:
    """How much is measured: ``models`` independent models at ``margins`` strengths, 0 included.

    Raises:
        BadInput: a number that no interval or slope can be taken from.
    """

    seed: int = 0
    models: int = 8
    margins: int = 6

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name, value, low, high in (
            ("seed", self.seed, 0, 2**32 - 1),
            ("models", self.models, 2, 100),
            ("margins", self.margins, 4, 40),
        ):
            if not low <= value <= high:
                raise BadInput(f"theory: expected {name} of {low} to {high}, got {value}")

    def strengths(self) -> list[float]:
        """Return the strengths in nats, from 0 up."""
        return [float(value) for value in np.linspace(0, STRONGEST, self.margins)]

    def total(self) -> int:
        """Return how many models are trained."""
        return self.models * len(separations(self.strengths()))


@dataclass(frozen=True)
class Row:
    """One trained model. ``margin`` is the smaller of both branches', ``margin_bg`` is gamma.

    ``given``: what the separation was set to, nats. ``cross`` and ``cross_bg`` are Frobenius norms
    of the foreground-background block and of the background branch's part of it. ``kappa`` and
    ``kappa_apart`` with and without that block; ``coupling`` is rho (see ``Conditioning``).
    """

    model: int
    way: Way
    given: float
    margin: float
    margin_bg: float
    cag: float
    leakage: float
    slack: float
    cross: float
    cross_bg: float
    block_fg: float
    block_bg: float
    kappa: float
    kappa_apart: float
    coupling: float
    preconditioned: float
    loss: float
    gradient: float


@dataclass(frozen=True)
class Shift:
    """What a bias does to one branch at fixed weights: nats added, and what was measured."""

    model: int
    branch: Literal["foreground", "background"]
    added: float
    margin: float
    cag: float


@dataclass(frozen=True)
class Findings:
    """All that was measured.

    ``shown`` holds the first model's |H|: without separation, with the weakest bias that makes
    every query prefer its own side (if any does), with hard separation.
    """

    settings: Settings
    rows: tuple[Row, ...]
    shifts: tuple[Shift, ...]
    shown: tuple[tuple[Row, Tensor], ...]

    def of(self, way: Way) -> dict[int, list[Row]]:
        """Return the rows of one way by model; strength 0 belongs to every way but hard."""
        found: dict[int, list[Row]] = {}
        for row in self.rows:
            if row.way == way or (row.given == 0 and way != "hard"):
                found.setdefault(row.model, []).append(row)
        return found


def separations(strengths: list[float]) -> list[tuple[Way, float, Separation]]:
    """List what each model is trained with."""
    chosen: list[tuple[Way, float, Separation]] = []
    for nats in strengths:
        across: Alpha = ((0.0, -nats), (-nats, 0.0))
        chosen.append(("bias", nats, Separation(alpha=across)))
        if nats > 0:
            chosen.append(("content", nats, Separation(content=(nats, nats))))
            chosen.append(("one-sided", nats, Separation(content=(0.0, nats))))
    hard = -math.inf
    chosen.append(("hard", math.inf, Separation(alpha=((0.0, hard), (hard, 0.0)))))
    return chosen


def check_theory(settings: Settings, *, advance: Advance = lambda steps: None) -> Findings:
    """Train every model at every separation and measure its Hessian; equal seeds, equal findings.

    Uses one thread: the matrices are small, and sums keep their order.
    """
    rows: list[Row] = []
    shifts: list[Shift] = []
    shown: list[tuple[Row, Tensor]] = []
    plan = separations(settings.strengths())
    with _one_thread():
        for model in range(settings.models):
            draw = torch.Generator().manual_seed(
                int(np.random.SeedSequence([settings.seed, model]).generate_state(1)[0])
            )
            world, begin = make_world(draw), start(draw)
            for way, given, separation in plan:
                trained = train(world, begin, separation)
                blocks = hessian(world, trained.fg, trained.bg, separation)
                rows.append(_row(model, way, given, world, trained, separation, blocks))
                if model == 0 and _is_shown(rows[-1], len(shown)):
                    shown.append((rows[-1], blocks.whole().abs()))
                if given == 0:
                    shifts += _shifts(model, world, trained, settings.strengths(), draw)
                advance(1)
    return Findings(settings, tuple(rows), tuple(shifts), tuple(shown))


def _is_shown(row: Row, so_far: int) -> bool:
    first_good = so_far == 1 and row.way == "bias" and row.margin > 0
    return row.given == 0 or row.way == "hard" or first_good


def _row(
    model: int, way: Way, given: float, world: World, trained: Trained, separation: Separation,
    blocks: Blocks,
) -> Row:  # fmt: skip
    seen = logits(world, trained.fg, trained.bg, separation)
    person, background = gap(seen[FG], branch=FG), gap(seen[BG], branch=BG)
    condition = conditioning(blocks)
    return Row(
        model=model,
        way=way,
        given=given,
        margin=min(person.margin, background.margin),
        margin_bg=background.margin,
        cag=background.cag,
        leakage=background.leakage,
        slack=min(person.slack, background.slack),
        cross=float(blocks.cross.norm()),
        cross_bg=float(blocks.cross_of_bg.norm()),
        block_fg=float(blocks.fg.norm()),
        block_bg=float(blocks.bg.norm()),
        kappa=condition.whole,
        kappa_apart=condition.apart,
        coupling=condition.coupling,
        preconditioned=condition.preconditioned,
        loss=trained.loss,
        gradient=trained.gradient,
    )


def _shifts(
    model: int, world: World, trained: Trained, strengths: list[float], draw: torch.Generator
) -> Iterator[Shift]:
    """Add biases to a trained model without training it again, all four of alpha at random."""
    before = logits(world, trained.fg, trained.bg, Separation())
    for nats in strengths:
        a, b = (float(part) for part in torch.randn(2, generator=draw, dtype=torch.float64))
        biased = Separation(alpha=((a, a - nats), (b - nats, b)))
        after = logits(world, trained.fg, trained.bg, biased)
        for branch in (FG, BG):
            old, new = gap(before[branch], branch=branch), gap(after[branch], branch=branch)
            yield Shift(
                model=model,
                branch="background" if branch == BG else "foreground",
                added=biased.added(branch),
                margin=new.margin - old.margin,
                cag=new.cag - old.cag,
            )


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
