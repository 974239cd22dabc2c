"""What people cost MILD: a picture with four of them against one background branch alone.

One small MILD with random weights (a UNet of 12 M parameters, 64 x 64 latents of a 256 x 256
frame), in CPU time of the whole pipeline, autoencoder included. Four people in crops of half the
frame's side are `branches_k4`; `naive_k4` gives each person a pass over the whole frame. The ways
take turns, and each ratio is the median over the rounds. Run it with
`python benchmarks/branches.py`; it takes a few minutes.

`ratio <way>` is over no people (the goal is at most 2.5, naive is about 5). `peak_mb` is what a
fresh process's memory grew by with eight people as large as the frame, 128 x 128 here, by chunk
size.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from time import process_time
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

from mild_bench.mild.alpha_head import AlphaHead
from mild_bench.mild.hmg import HumanMorphologyGuidance
from mild_bench.mild.picture import MildInput
from mild_bench.mild.pipeline import MildPipeline
from mild_bench.run.peak import measured

SIDE = 256
STEPS = 2
WAYS: dict[str, dict[str, int]] = {
    "k0": {"people": 0},
    "branches_k4": {"people": 4, "crop_side": SIDE // 2},
    "naive_k4": {"people": 4, "crop_side": SIDE, "chunk": 1},
}
CHUNKS = (1, 2, 4, 9)
MOST, MOST_SIDE = 8, 128  # people and the frame's side, for memory


def main() -> None:
    """Time all ways in turn, then measure memory in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=int, metavar="CHUNK", help="print one chunk size's memory")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.peak:
        print(_growth(chosen.peak))
        return
    mild = small_mild()
    runs = {way: _runner(mild, **settings) for way, settings in WAYS.items()}
    for run in runs.values():
        run()
    taken = np.array([[_seconds(run) for run in runs.values()] for _ in range(chosen.rounds)])
    medians = zip(WAYS, np.median(taken, axis=0), strict=True)
    print(", ".join(f"{way} {seconds:.2f} s of CPU" for way, seconds in medians))
    for column, way in enumerate(list(WAYS)[1:], start=1):
        print(f"ratio {way} {np.median(taken[:, column] / taken[:, 0]):.2f}")
    for chunk in CHUNKS:
        print(f"peak_mb chunk_{chunk} {_peak(chunk, chosen.threads):.0f}")


def small_mild() -> MildPipeline:
    """Return a MILD of the size of the tiny preset, with random weights."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=64,
        in_channels=9,
        out_channels=4,
        block_out_channels=(64, 128, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=4,
        cross_attention_dim=128,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
    )
    mild = MildPipeline(
        unet.eval(), vae.eval(), DDIMScheduler(), HumanMorphologyGuidance.of(unet),
        AlphaHead.of(unet, 4), side=SIDE, crop_side=SIDE // 2, steps=STEPS,
    )  # fmt: skip
    mild.set_progress_bar_config(disable=True)
    return mild


def crowd(people: int) -> MildInput:
    """Return noise with people side by side, all to be erased; nobody is a hole alone."""
    picture = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for number in range(people):
        left = 8 + number * 30
        labels[60:200, left : left + 24] = number + 1
    hole = labels > 0 if people else np.pad(np.ones((140, 100), bool), ((60, 56), (80, 76)))
    ids = tuple(f"p{number + 1}" for number in range(people))
    points = tuple((float(40 + joint), 100.0, 2) for joint in range(17))
    return MildInput(
        picture, hole, labels, ids, ids,
        keypoints=dict.fromkeys(ids, points), parts=dict.fromkeys(ids, labels.clip(0, 9)),
    )  # fmt: skip


def _runner(mild: MildPipeline, *, people: int, **settings: Any) -> Callable[[], None]:
    given = crowd(people)

    def run() -> None:
        mild(given, **settings)

    return run


def _seconds(run: Callable[[], None]) -> float:
    start = process_time()
    run()
    return process_time() - start


def _growth(chunk: int) -> float:
    mild, given = small_mild(), crowd(MOST)
    with measured() as before:
        pass
    with measured() as cost:
        mild(given, side=MOST_SIDE, crop_side=MOST_SIDE, chunk=chunk)
    return cost.peak_mb - before.peak_mb


def _peak(chunk: int, threads: int) -> float:
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", str(chunk)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
