"""What the attention probe costs, beside the bare fused attention and beside materialised maps.

Each line compares the same attention (float32, CPU, one person on the tokens of ``AREA`` of the
grid, all of them queried) in one run, rounds interleaved: the median of the rounds' ratios of CPU
seconds:

- ``mass``: with the masses on background and person, the output included;
- ``gap``: statistics (leakage, CAG, matrix) and the logit gap as well;
- ``margin``: the margin as well, which reads the queried tokens' logits again;
- ``materialised``: softmax(q k^T) as a tensor, its masses and its product with v, over ``mass``;
- ``unet``: a whole small UNet (64 x 64 latents, 4 heads of 40) with the probe attached.

Peak memory is what each way adds, measured in a process of its own.

    python benchmarks/probe_overhead.py [--rounds 7] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics as of
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot, scaled_dot_product_attention

from mild_bench.metrics.cag.masses import attention_with_masses
from mild_bench.metrics.cag.probe import AttentionProbe
from mild_bench.metrics.cag.regions import Regions
from mild_bench.metrics.cag.statistics import Groups, statistics
from mild_bench.run.peak import measured

AREA = 0.22
SHAPES = {  # batch, heads, tokens, width
    "sd15": (2, 8, 4096, 40),
    "sdxl-fine": (2, 10, 4096, 64),
    "sdxl-coarse": (2, 20, 1024, 64),
}
Way = Callable[[], object]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peak", choices=["bare", "mass", "gap", "margin", "materialised"])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_grad_enabled(False)
    if options.peak:
        print(peak_mb(ways(*SHAPES["sd15"])[options.peak]))
        return
    for name, shape in SHAPES.items():
        found = ways(*shape)
        if shape[2] < 4096:
            del found["materialised"]
        ratios = compare(found, options.rounds)
        for way in ("mass", "gap", "margin"):
            print(f"ratio {name}-{way} {ratios[way]:.2f}")
        if "materialised" in ratios:
            print(
                f"ratio {name}-materialised-over-mass {ratios['materialised'] / ratios['mass']:.2f}"
            )
    print(f"ratio unet {compare(unet_ways(), options.rounds)['probe']:.2f}")
    for way in ("bare", "mass", "gap", "margin", "materialised"):
        command = [sys.executable, __file__, "--peak", way, "--threads", str(options.threads)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"peak_mb sd15-{way} {done.stdout.strip()}")


def compare(found: dict[str, Way], rounds: int) -> dict[str, float]:
    """CPU seconds of each way over the first one's: the median over rounds that run all of them."""
    for way in found.values():
        way()
    ratios: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        seconds = {name: timed(way) for name, way in found.items()}
        bare = next(iter(seconds.values()))
        for name, value in seconds.items():
            ratios[name].append(value / bare)
    return {name: of.median(values) for name, values in ratios.items()}


def timed(way: Way) -> float:
    """CPU seconds of one call, on all threads: other work on the machine does not count."""
    start = time.process_time()
    way()
    return time.process_time() - start


def ways(batch: int, heads: int, tokens: int, width: int) -> dict[str, Way]:
    """The same attention five ways, laid out as diffusers' processors do."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(batch, tokens, heads, width, generator=generator).transpose(1, 2)
        for _ in range(3)
    )
    labels = (torch.arange(tokens) < AREA * tokens).long()
    groups = Groups.of(labels, labels, labels > 0, people=1)

    def probed(gap: bool, margin: bool) -> object:
        found = attention_with_masses(query, key, value, labels, 2)
        return statistics(
            found.masses, query, key, groups, with_gap=gap, with_margin=margin
        ), found.output

    return {
        "bare": lambda: scaled_dot_product_attention(query, key, value),
        "mass": lambda: probed(False, False),
        "gap": lambda: probed(True, False),
        "margin": lambda: probed(True, True),
        "materialised": lambda: materialised(query, key, value, labels),
    }


def materialised(query: Tensor, key: Tensor, value: Tensor, labels: Tensor) -> object:
    """The straightforward way: the map itself."""
    chances = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
    return chances @ value, chances @ one_hot(labels, 2).float()


def unet_ways() -> dict[str, Way]:
    """A small UNet with and without the probe."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(160, 160),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=64,
        attention_head_dim=4,
    ).eval()
    sample, context = torch.randn(2, 4, 64, 64), torch.randn(2, 77, 64)
    people = np.zeros((1, 512, 512), dtype=bool)
    people[0, :, : round(AREA * 512)] = True

    def bare() -> object:
        return model(sample, 10, encoder_hidden_states=context).sample

    def probe() -> object:
        with AttentionProbe(model, Regions(people), parts=("uncond", "cond")):
            return bare()

    if not torch.equal(bare(), probe()):
        raise SystemExit("the probe changed the output")
    return {"bare": bare, "probe": probe}


def peak_mb(way: Way) -> int:
    """Megabytes (10**6 bytes) that one call adds to what the process holds."""
    with measured() as before:
        pass
    with measured() as cost:
        way()
    return round(cost.peak_mb - before.peak_mb)


if __name__ == "__main__":
    main()
