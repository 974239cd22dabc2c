"""What spatially-modulated attention costs against the same attention without a bias.

One layer's attention call at 4,096 tokens, SD 1.5-shaped (8 heads of 40 channels) and SDXL-shaped
(10 of 64), with background and three people: bare fused attention, ours, and the dense way (a bias
of heads x tokens x tokens added to the logits). The ways are timed in turn, and each ratio is the
median over the rounds. Run it with `python benchmarks/sma_overhead.py`; it takes a few minutes.

`ratio sma_<shape>_<pass>` is ours over bare: 1 would be free. `ratio dense_<shape>_<pass>` is dense
over bare. `peak_mb` is what a fresh process's memory grew by, forward and backward.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mild_bench.mild.biased_attention import biased_attention
from mild_bench.run.peak import measured

SHAPES = {"sd15": (8, 40), "sdxl": (10, 64)}  # heads, channels of a head
PEOPLE = 3
TOKENS = 4096
WAYS = ("bare", "sma", "dense")


def main() -> None:
    """Time all ways in turn, then measure memory in processes of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", nargs=2, metavar=("WAY", "SHAPE"), help="print one way's memory")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.peak:
        print(_growth(*chosen.peak))
        return
    for shape in SHAPES:
        for backward in (False, True):
            _compare(shape, chosen.rounds, backward=backward)
    for shape in SHAPES:
        for way in WAYS:
            print(f"peak_mb {way}_{shape} {_peak(way, shape, chosen.threads):.0f}")


def _compare(shape: str, rounds: int, *, backward: bool) -> None:
    runs = {way: _runner(way, shape, backward=backward) for way in WAYS}
    for run in runs.values():
        run()
    taken = np.array([[_seconds(run) for run in runs.values()] for _ in range(rounds)])
    name = f"{shape}_{'forward_backward' if backward else 'forward'}"
    medians = zip(WAYS, np.median(taken, axis=0), strict=True)
    print(f"{name}:", ", ".join(f"{way} {seconds:.3f} s" for way, seconds in medians))
    for column, way in enumerate(WAYS[1:], start=1):
        print(f"ratio {way}_{name} {np.median(taken[:, column] / taken[:, 0]):.3f}")


def _seconds(run: Callable[[], None]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def _runner(way: str, shape: str, *, backward: bool) -> Callable[[], None]:
    heads, channels = SHAPES[shape]
    generator = torch.Generator().manual_seed(1)

    def leaf(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator).requires_grad_(backward)

    # the layout that diffusers' processors hand over: heads split off the channels, then moved
    q, k, v = (leaf(1, TOKENS, heads, channels) for _ in range(3))
    alpha = leaf(heads, PEOPLE + 1, PEOPLE + 1)
    sides = torch.arange(TOKENS) * (PEOPLE + 1) // TOKENS
    one_hot = functional.one_hot(sides)[None].float()

    def run() -> None:
        query, key, value = (one.transpose(1, 2) for one in (q, k, v))
        if way == "sma":
            out = biased_attention(query, key, value, alpha, one_hot, one_hot)
        else:
            bias = alpha[:, sides][:, :, sides][None] if way == "dense" else None
            out = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        if backward:
            out.sum().backward()

    return run


def _growth(way: str, shape: str) -> float:
    run = _runner(way, shape, backward=True)
    with measured() as before:
        pass
    with measured() as cost:
        run()
    return cost.peak_mb - before.peak_mb


def _peak(way: str, shape: str, threads: int) -> float:
    command = [sys.executable, __file__, "--threads", str(threads), "--peak", way, shape]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
