"""A small MILD around a real base pipeline, with parts that do something, and a scene for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_pipelines import make_pipeline

from mild_bench.mild.picture import MildInput
from mild_bench.mild.pipeline import MildPipeline

SIDE = 64


def make_mild(folder: Path, family: str = "sd", *, crop_side: int = 32) -> MildPipeline:
    """Return a MILD around a tiny ``sd`` or ``sdxl`` pipeline saved in ``folder``.

    Adapters and SMA are random and far from zero, guidance and alpha head as they start. Same
    arguments, same weights.
    """
    import diffusers

    if not (folder / "model_index.json").is_file():
        make_pipeline(folder, family)
    classes = {
        "sd": diffusers.StableDiffusionInpaintPipeline,
        "sdxl": diffusers.StableDiffusionXLInpaintPipeline,
    }
    base: Any = classes[family].from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        mild = MildPipeline.from_base(base, side=SIDE, crop_side=crop_side, rank=2)
        for name, parameter in mild.network.trainable().items():
            if "lora_B" in name or name.startswith("sma."):
                parameter.data.normal_(std=0.2)
    mild.set_progress_bar_config(disable=True)
    return mild


def make_input(people: int = 2, *, height: int = 80, width: int = 96, seed: int = 0) -> MildInput:
    """Return noise with ``people`` rectangles, each partly behind the next, all to be erased."""
    random = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.uint8)
    for number in range(1, people + 1):
        left = 8 + (number - 1) * (width - 30) // max(people, 1)
        labels[12 + number : height - 12, left : left + 22] = number
    ids = tuple(f"p{number}" for number in range(1, people + 1))
    hole = labels > 0
    hole[:, 2:] |= hole[:, :-2]
    if not people:
        hole[20:40, 20:40] = True
    points = np.concatenate([random.uniform(10, 70, (17, 2)), np.full((17, 1), 2)], axis=1)
    parts = np.where(labels > 0, random.integers(1, 9, labels.shape), 0).astype(np.uint8)
    return MildInput(
        picture=random.integers(0, 256, (height, width, 3), dtype=np.uint8),
        hole=hole,
        people=labels,
        person_ids=ids,
        erase=ids,
        keypoints={name: tuple((x, y, int(v)) for x, y, v in points) for name in ids},
        parts={
            name: np.where(labels == k, parts, 0).astype(np.uint8) for k, name in enumerate(ids, 1)
        },
    )
