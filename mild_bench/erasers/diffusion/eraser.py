"""``diffusers:<folder or hub id>``: any inpainting pipeline of diffusers as an eraser."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mild_bench.erasers.diffusion.card import diffusion_card
from mild_bench.erasers.diffusion.classes import inpainting_class
from mild_bench.erasers.diffusion.device import choose_device, place
from mild_bench.erasers.diffusion.fit import Fit, dilate, dilate_cells, fit
from mild_bench.erasers.diffusion.folder import find_folder, load_pipeline, read_index
from mild_bench.erasers.diffusion.network import find_denoiser, latent_cell, picture_multiple
from mild_bench.erasers.diffusion.quiet import quiet
from mild_bench.erasers.diffusion.settings import (
    ERASER,
    DiffusionSettings,
    call_arguments,
    from_spec,
)
from mild_bench.erasure import EraserCard, Erasure, Setting, TaskHook
from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb, composite, mask_to_grey
from mild_bench.task import Task, task_seed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PreparedTask:
    """A task as the pipeline sees it; masks are bool height x width, in the pipeline's pixels.

    Attributes:
        picture: uint8 height x width x 3.
        mask: what the pipeline may change: the erase mask, dilated, in whole cells.
        hole: the erase mask itself.
        people: every visible person by id, erased or not.
        padding: pixels that the size policy added.
    """

    task: Task
    fit: Fit
    picture: Rgb
    mask: Mask
    hole: Mask
    people: Mapping[str, Mask]
    padding: Mask


@dataclass
class DiffusionEraser:
    """Runs a diffusers pipeline on one task at a time.

    Attributes:
        pipeline: the loaded pipeline.
        arguments: what every call of it gets.
        on_task: set it to watch: called with each task before the pipeline is, and what it
            returns is entered around the pipeline's call (and around nothing else).
    """

    card: EraserCard
    pipeline: Any
    settings: DiffusionSettings
    arguments: Mapping[str, Any]
    accepted: frozenset[str]
    on_task: TaskHook | None = None

    @property
    def denoiser(self) -> torch.nn.Module:
        """The network that takes away the noise, whose attention can be watched."""
        network: torch.nn.Module = find_denoiser(self.pipeline)
        return network

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        """Erase in the order of ``tasks``."""
        for task in tasks:
            result = self._erase(task, task_seed(seed, task.task_id))
            yield Erasure(task.task_id, result)

    def prepare(self, task: Task) -> PreparedTask:
        """Return the task as the pipeline will see it."""
        chosen = self.settings
        wide = dilate(task.mask, chosen.dilate)
        placed = fit(
            wide,
            chosen.size,
            side=chosen.side,
            multiple=picture_multiple(self.pipeline),
            margin=chosen.margin,
        )
        return PreparedTask(
            task=task,
            fit=placed,
            picture=placed.picture(task.input),
            mask=dilate_cells(
                placed.mask(wide), chosen.latent_dilate, cell=latent_cell(self.pipeline)
            ),
            hole=placed.mask(task.mask),
            people={
                name: placed.area(task.people == number)
                for number, name in enumerate(task.person_ids, start=1)
            },
            padding=placed.padding(),
        )

    def _erase(self, task: Task, seed: int) -> Rgb:
        prepared = self.prepare(task)
        watch = self.on_task(prepared) if self.on_task else nullcontext()
        with quiet(), watch:
            answer = self._run(prepared, seed)
        result = prepared.fit.back(answer, task.input)
        if not self.settings.composite:
            return result
        return composite(result, task.input, dilate(task.mask, self.settings.dilate))

    def _run(self, prepared: PreparedTask, seed: int) -> Rgb:
        import torch

        height, width = prepared.fit.frame
        sizes = {"height": height, "width": width}
        output = self.pipeline(
            image=Image.fromarray(prepared.picture),
            mask_image=Image.fromarray(mask_to_grey(prepared.mask)),
            generator=torch.Generator("cpu").manual_seed(seed),
            output_type="np",
            **self.arguments,
            **{name: value for name, value in sizes.items() if name in self.accepted},
        )
        return _as_rgb(np.asarray(output.images[0]), (height, width), self.settings)


def diffusion(folder: str = "", **chosen: Setting) -> DiffusionEraser:
    """Return the eraser of a saved pipeline: a folder, or a hub id that is in the local cache.

    ``chosen`` are fields of ``DiffusionSettings``.

    Raises:
        BadInput: no such pipeline, one that cannot erase, missing or unsafe weights, or a
            setting that is not allowed or that the pipeline has no use for.
        MissingPart: a hub id that is not in the cache, or a device that is not there.
    """
    import torch

    settings = from_spec(chosen)
    found = find_folder(folder, download=settings.download)
    index = read_index(found)
    pipeline_class = inpainting_class(str(index["_class_name"]))
    arguments = call_arguments(pipeline_class, settings)
    device = choose_device(settings)
    pipeline = load_pipeline(found, pipeline_class, dtype=getattr(torch, settings.dtype))
    find_denoiser(pipeline)
    place(pipeline, settings.offload, device)
    card = diffusion_card(folder, found, pipeline_class, settings, chosen, arguments, device)
    accepted = frozenset(inspect.signature(pipeline_class.__call__).parameters)
    return DiffusionEraser(card, pipeline, settings, arguments, accepted)


def _as_rgb(
    values: np.ndarray[Any, Any], size: tuple[int, int], settings: DiffusionSettings
) -> Rgb:
    if values.shape != (*size, 3):
        raise BadInput(
            f"{ERASER}: the pipeline returned {' x '.join(map(str, values.shape))} for a picture "
            f"of {size[0]} x {size[1]} (height x width); choose a side that it supports"
        )
    if not np.isfinite(values).all():
        raise BadInput(
            f"{ERASER}: the pipeline returned values that are no numbers with "
            f"dtype={settings.dtype}; write dtype=bfloat16 or dtype=float32"
        )
    return np.asarray(np.floor(np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8))
