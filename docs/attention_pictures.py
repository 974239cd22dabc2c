"""Make the table and the pictures of "how it behaved here" in docs/cag.md.

    python tests/tiny_pipelines.py tiny sd
    python docs/attention_pictures.py RELEASE tiny [FOLDER]

Erases the first tasks of a release with a saved UNet pipeline whose self-attention is biased
against people by 0, 1, 2 and 4 nats (spatially-modulated attention), prints what the probe reads,
and draws the traces of one task with the least and most bias.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from mild_bench.erasers.diffusion.eraser import DiffusionEraser, diffusion
from mild_bench.erasure import SeenTask
from mild_bench.metrics.cag.picture import trace_picture
from mild_bench.metrics.cag.probe import probe_pipeline
from mild_bench.metrics.cag.trace import Trace
from mild_bench.mild.spatial_attention import BIASES, SpatialAttention
from mild_bench.release import Release
from mild_bench.run.attention import regions_of
from mild_bench.store import write_bytes
from mild_bench.task import Task

TASKS = 12
NATS = (0.0, 1.0, 2.0, 4.0)
SETTINGS = {"steps": 10, "side": 256}
SHOWN = 0  # which task is drawn


def main() -> None:
    """Print the table and write the pictures."""
    release, pipeline = Path(sys.argv[1]), sys.argv[2]
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else Path(__file__).parent / "images"
    tasks = list(islice(Release.open(release).tasks(), TASKS))
    eraser = diffusion(pipeline, **SETTINGS)
    biases = SpatialAttention.of(eraser.denoiser)
    print("| bias, nats | CAG | leakage | logit gap |\n|--:|--:|--:|--:|")
    for nats in NATS:
        bias_against_people(biases, nats)
        seen = [look(eraser, biases, task) for task in tasks]
        found = [trace.where(part="cond").summary() for _, trace in seen]
        values = [np.mean([getattr(one, name) for one in found]) for name in
                  ("cag", "leakage", "logit_gap")]  # fmt: skip
        print(f"| {nats:g} | {' | '.join(f'{value:.3f}' for value in values)} |")
        if nats in (NATS[0], NATS[-2]):
            shown, trace = seen[SHOWN]
            name = f"cag-bias-{nats:g}.png"
            write_bytes(folder / name, trace_picture(trace, shown.picture, shown.hole))


@torch.no_grad()
def bias_against_people(biases: SpatialAttention, nats: float) -> None:
    """Make every token like people's tokens less, its own person's too, by ``nats``."""
    to_people = torch.tensor([name.rpartition(" to ")[2] != "background" for name in BIASES])
    for alpha in biases.alpha.values():
        alpha[:] = torch.where(to_people, -nats, 0.0)


def look(eraser: DiffusionEraser, biases: SpatialAttention, task: Task) -> tuple[SeenTask, Trace]:
    """Erase one task and return it as the model saw it, with the trace."""
    found: list[tuple[SeenTask, Trace]] = []

    @contextmanager
    def watch(seen: SeenTask) -> Iterator[None]:
        labels = np.zeros(seen.hole.shape, dtype=np.int64)
        for number, mask in enumerate(seen.people.values(), start=1):
            labels[mask] = number
        biases.set_sides(torch.from_numpy(labels)[None])
        with probe_pipeline(eraser.pipeline, regions_of(seen)) as probe:
            yield
        found.append((seen, probe.trace()))

    eraser.on_task = watch
    list(eraser([task], seed=0))
    return found[0]


if __name__ == "__main__":
    main()
