"""An eraser of our own whose attention can be read: a tiny UNet that paints noise into the hole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from mild_bench.erasure import EraserCard, Erasure, TaskHook
from mild_bench.images import Mask, Rgb, composite
from mild_bench.task import Task, task_seed

CELL = 8  # pixels of a token of the finest grid
STEPS = 2


@dataclass(frozen=True)
class Shown:
    task: Task
    picture: Rgb
    hole: Mask
    people: Mapping[str, Mask]
    padding: Mask


@dataclass
class NoiseEraser:
    """``parts`` are what its pipeline calls the halves of its batch; ``hide``: shows no task."""

    card: EraserCard
    pipeline: Any
    hide: bool
    on_task: TaskHook | None = field(default=None)

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        for task in tasks:
            yield Erasure(task.task_id, self.erase(task, task_seed(seed, task.task_id)))

    def erase(self, task: Task, seed: int) -> Rgb:
        people = {name: task.people == n for n, name in enumerate(task.person_ids, start=1)}
        shown = Shown(task, task.input, task.mask, people, np.zeros_like(task.mask))
        height, width = (side // CELL for side in task.mask.shape)
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(1, 4, height, width, generator=generator).repeat(2, 1, 1, 1)
        context = torch.randn(2, 3, 16, generator=generator)
        with self.on_task(shown) if self.on_task and not self.hide else nullcontext():
            for step in range(STEPS):
                with torch.no_grad():
                    noise = self.pipeline.unet(noise, step, encoder_hidden_states=context).sample
        values = (noise[1, :3].tanh() * 127 + 128).permute(1, 2, 0).numpy().astype(np.uint8)
        return composite(values.repeat(CELL, axis=0).repeat(CELL, axis=1), task.input, task.mask)


def noise(parts: str = "uncond cond", hide: bool = False, batch: int = 1) -> NoiseEraser:
    card = EraserCard("noise", "1", "none", supports_attention_probe=True, batch=batch)
    pipeline = SimpleNamespace(unet=_unet(), attention_parts=tuple(parts.split()))
    return NoiseEraser(card, pipeline, hide)


@dataclass(frozen=True)
class Boaster:
    """Its card promises attention, and there is nothing to read."""

    card: EraserCard = field(
        default_factory=lambda: EraserCard("boaster", "1", "none", supports_attention_probe=True)
    )

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        for task in tasks:
            yield Erasure(task.task_id, task.input)


@cache
def _unet() -> Any:
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=16, attention_head_dim=2,
        ).eval()  # fmt: skip
