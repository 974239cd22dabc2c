"""Denoising all branches of a picture together: one UNet call for each size, or in chunks."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mild_bench.mild.branches import Branch
from mild_bench.mild.hmg import Mode
from mild_bench.mild.latents import Codec
from mild_bench.mild.network import Condition, MildNetwork, Text


@dataclass
class Group:
    """Branches of one size, while they are denoised.

    Attributes:
        scheduler: of its own, as schedulers remember what they saw.
        latents: batch x channels x height x width.
        generators: one for each branch, so that no branch depends on its neighbours.
        alpha: of the person branches by name, height x width in [0, 1], after the last step.
        first: the step that they begin at.
    """

    branches: tuple[Branch, ...]
    condition: Condition
    scheduler: Any
    latents: Tensor
    generators: list[torch.Generator]
    alpha: dict[str, Tensor]
    first: int = 0


def start_groups(
    network: MildNetwork,
    codec: Codec,
    scheduler: Any,
    branches: Sequence[Branch],
    *,
    steps: int,
    mode: Mode,
    texts: Sequence[Text | None],
    generator: torch.Generator,
    strength: float = 1.0,
) -> list[Group]:
    """Sort branches by size and draw their noise.

    Each branch's noise comes from a seed of its own, drawn in the order of ``branches``: the first
    branch's does not depend on how many follow.

    Args:
        branches: the background first.
        texts: a row of text for each branch, or None.
        strength: share of the steps that the background takes, in (0, 1]; below 1 it begins with
            its own picture, the filled hole in it, under the noise of the step it begins at.
    """
    late = min(round(steps * (1 - strength)), steps - 1)
    begins = {branch.name: late if branch.kind == "bg" else 0 for branch in branches}
    seeds = [
        int(torch.randint(2**62, (), generator=generator, device=generator.device))
        for _ in branches
    ]
    rows = list(zip(branches, texts, seeds, strict=True))
    groups = []
    for size, first in dict.fromkeys((one.size, begins[one.name]) for one in branches):
        members = [row for row in rows if (row[0].size, begins[row[0].name]) == (size, first)]
        own = copy.deepcopy(scheduler)
        own.set_timesteps(steps, device=network.device)
        condition = network.condition(
            [branch for branch, _, _ in members],
            codec,
            mode=mode,
            text=_stacked([text for _, text, _ in members]),
        )
        generators = [torch.Generator().manual_seed(seed) for _, _, seed in members]
        shape = condition.known[0, 1:].shape
        noise = torch.stack([torch.randn(shape, generator=one) for one in generators])
        groups.append(
            Group(
                branches=tuple(branch for branch, _, _ in members),
                condition=condition,
                scheduler=own,
                latents=_begun(own, condition.known[:, 1:], noise.to(condition.known), first),
                generators=generators,
                alpha={},
                first=first,
            )
        )
    return groups


def step_group(
    network: MildNetwork,
    group: Group,
    timestep: Tensor,
    *,
    sma: bool,
    chunk: int,
    last: bool,
    announce: Callable[[tuple[Branch, ...]], None],
) -> None:
    """Take one step of all branches of a group, ``chunk`` at once.

    Args:
        last: whether to read the persons' alpha.
        announce: told the branches of each call of the UNet beforehand.
    """
    scaled = group.scheduler.scale_model_input(group.latents, timestep)
    pieces = []
    for start in range(0, len(group.branches), chunk):
        rows = slice(start, start + chunk)
        members = group.branches[rows]
        announce(members)
        prediction = network.predict(scaled[rows], timestep, group.condition.part(rows), sma=sma)
        pieces.append(prediction.noise)
        people = [row for row, branch in enumerate(members) if branch.kind == "fg"]
        if last and people:
            logits = network.alpha_logits(prediction, people)
            for row, alpha in zip(people, logits[:, 0].float().sigmoid(), strict=True):
                group.alpha[members[row].name] = alpha
    group.latents = _step(group, torch.cat(pieces), timestep)


def _begun(scheduler: Any, known: Tensor, noise: Tensor, first: int) -> Tensor:
    """Return pure noise, or what is known under the noise of a later step."""
    if not first:
        pure: Tensor = noise * scheduler.init_noise_sigma
        return pure
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    timestep = scheduler.timesteps[first : first + 1].expand(len(known))
    begun: Tensor = scheduler.add_noise(known, noise, timestep)
    return begun


def _step(group: Group, noise: Tensor, timestep: Tensor) -> Tensor:
    stepped: Tensor = group.scheduler.step(
        noise, timestep, group.latents, **_noise_source(group), return_dict=False
    )[0]
    return stepped


def _noise_source(group: Group) -> dict[str, Any]:
    """Schedulers that draw noise in a step take generators, others know no such argument."""
    accepted = inspect.signature(group.scheduler.step).parameters
    return {"generator": group.generators} if "generator" in accepted else {}


def _stacked(texts: Sequence[Text | None]) -> Text | None:
    given = [one for one in texts if one is not None]
    if not given:
        return None
    pooled = [one.pooled for one in given if one.pooled is not None]
    return replace(
        given[0],
        tokens=torch.cat([one.tokens for one in given]),
        pooled=torch.cat(pooled) if pooled else None,
    )
