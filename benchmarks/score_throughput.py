"""How much faster results are scored than by the straightforward loop, with equal values.

Both sides read the same PNG files and give PSNR, SSIM and LPIPS (AlexNet) of the whole picture,
raw and composited, for every eraser and task. The loop is what one writes first: one eraser, one
task, one metric at a time with ``lpips.LPIPS`` and torchmetrics, on all cores. Ours is the Scorer
that ``mild-bench score`` uses. Prints ``ratio score_throughput <value>`` (higher is better) and
``peak_mb``; fails when two values differ by more than 1e-4 (PSNR of equal pictures apart, which
is infinite there and 100 here).

    python benchmarks/score_throughput.py [--tasks 24] [--erasers 8] [--release DIR]
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import lpips
import numpy as np
import skimage.data
import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from mild_bench.errors import MissingPart
from mild_bench.images import Mask, Rgb, composite, decode_png, encode_png, mask_to_grey, to_bchw
from mild_bench.metrics.perceptual import load_lpips
from mild_bench.metrics.scorer import Scorer
from mild_bench.metrics.view import Settings
from mild_bench.protocol import find_protocol
from mild_bench.release import Release
from mild_bench.task import Task

SIZE = 512
TOLERANCE = 1e-4
METRICS = ("psnr", "ssim", "lpips-alex")
Values = dict[tuple[str, str, str], float]  # task, eraser, metric/whole/mode


def main() -> None:
    """Run both sides on the same files and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=24)
    parser.add_argument("--erasers", type=int, default=len(ERASERS), choices=range(1, 9))
    parser.add_argument("--release", type=Path, help="take the tasks of a release")
    options = parser.parse_args()
    cores = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        names = list(ERASERS)[: options.erasers]
        source = Release.open(options.release).tasks() if options.release else drawn_tasks()
        tasks = list(itertools.islice(source, options.tasks))
        for task in tasks:
            prepare(root, task, names)
        files = [task.task_id for task in tasks]
        del tasks
        before, slow, slow_cpu = timed(lambda: straightforward(root, files, names))
        after, fast, fast_cpu = timed(lambda: ours(root, files, names, cores))
    worst = max(abs(before[key] - after[key]) for key in before if np.isfinite(before[key]))
    print(f"{len(files)} tasks, {len(names)} erasers, {len(before)} values, {cores} cores")
    print(f"loop {slow:.1f} s, ours {fast:.1f} s, largest difference {worst:.1e}")
    print(f"processor time: loop {slow_cpu:.1f} s, ours {fast_cpu:.1f} s")
    print(f"peak_mb {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")
    print(f"ratio score_throughput {slow / fast:.2f}")
    if worst > TOLERANCE or before.keys() != after.keys():
        raise SystemExit(f"values differ by {worst:.1e}, more than {TOLERANCE}")


def straightforward(root: Path, tasks: list[str], erasers: list[str]) -> Values:
    """Score one eraser, one task, one metric at a time."""
    psnr = PeakSignalNoiseRatio(data_range=1.0)
    ssim = StructuralSimilarityIndexMeasure(data_range=1.0)
    perceptual = lpips_package()
    values: Values = {}
    for eraser, name in itertools.product(erasers, tasks):
        for mode in ("raw", "composited"):
            truth = to_bchw(read(root / name / "truth.png"))
            result = to_bchw(read_mode(root / name, eraser, mode))
            with torch.no_grad():
                found = (
                    psnr(result, truth).item(),
                    ssim(result, truth).item(),
                    perceptual(result, truth, normalize=True).item(),
                )
            for metric, value in zip(METRICS, found, strict=True):
                values[name, eraser, f"{metric}/whole/{mode}"] = value
    return values


def ours(root: Path, tasks: list[str], erasers: list[str], workers: int) -> Values:
    """Score with the Scorer, as ``mild-bench score`` does."""
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    protocol = replace(find_protocol("mild"), lpips_nets=("alex",))
    scorer = Scorer(protocol, metrics=METRICS)

    def one(name: str) -> Values:
        folder = root / name
        task = Task(
            name, name, "all", (), read(folder / "input.png"), read_mask(folder / "mask.png"),
            read(folder / "truth.png"), np.zeros((1, 1), np.uint8), (),
        )  # fmt: skip
        scores = scorer.score(task, [read(folder / f"{eraser}.png") for eraser in erasers])
        return {
            (name, eraser, score.key): score.value
            for eraser, found in zip(erasers, scores, strict=True)
            for score in found
            if score.region == "whole"
        }

    with ThreadPoolExecutor(workers) as pool:
        return {key: value for part in pool.map(one, tasks) for key, value in part.items()}


def timed(work: Callable[[], Values]) -> tuple[Values, float, float]:
    """Return what ``work`` gives, the seconds it took and the processor seconds."""
    start, cpu = time.perf_counter(), time.process_time()
    values = work()
    return values, time.perf_counter() - start, time.process_time() - cpu


def lpips_package() -> torch.nn.Module:
    """Return ``lpips.LPIPS`` with our pinned weights, as it would download them."""
    network, _ = load_lpips("alex", Settings(find_protocol("mild")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package: torch.nn.Module = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    theirs = [m for m in package.net.modules() if isinstance(m, torch.nn.Conv2d)]
    convs = [layer for layer in network.layers if layer.tap]
    for module, layer in zip(theirs, convs, strict=True):
        module.weight.data, module.bias.data = layer.weight, layer.bias
    return package


def drawn_tasks() -> Iterator[Task]:
    """Yield tasks on scikit-image's photographs: people-shaped patches of another photograph."""
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea()]
    photos = [cv2.resize(photo, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for photo in photos]
    for number in itertools.count():
        rng = np.random.default_rng(number)
        truth = np.ascontiguousarray(np.roll(photos[number % 3], 37 * number, axis=1))
        mask = people_mask(rng, people=1 + number % 3)
        source = composite(photos[(number + 1) % 3], truth, mask)
        shown = cv2.GaussianBlur(mask_to_grey(mask), (0, 0), 1.5)[..., None] / 255.0
        rim = truth * (1 - shown) + source * shown  # soft edges: the input differs outside, too
        name = f"task-{number:03d}"
        people = np.zeros((SIZE, SIZE), np.uint8)
        yield Task(name, name, "all", (), rim.astype(np.uint8), mask, truth, people, ())


def people_mask(rng: np.random.Generator, *, people: int) -> Mask:
    """Draw standing figures: a head on a body, 100 to 300 pixels tall."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    mask = np.zeros((SIZE, SIZE), bool)
    for _ in range(people):
        tall = rng.uniform(100, 300)
        at_x, at_y = rng.uniform(60, SIZE - 60), rng.uniform(SIZE * 0.45, SIZE * 0.65)
        mask |= ((x - at_x) / (tall * 0.18)) ** 2 + ((y - at_y) / (tall * 0.4)) ** 2 < 1
        mask |= np.hypot(x - at_x, y - at_y + tall * 0.45) < tall * 0.1
    return mask


def telea(source: Rgb, mask: Mask) -> Rgb:
    """Fill by fast marching."""
    return np.asarray(cv2.inpaint(source, mask_to_grey(mask), 5, cv2.INPAINT_TELEA))


def navier_stokes(source: Rgb, mask: Mask) -> Rgb:
    """Fill by fluid dynamics."""
    return np.asarray(cv2.inpaint(source, mask_to_grey(mask), 5, cv2.INPAINT_NS))


def blur(source: Rgb, mask: Mask) -> Rgb:
    """Blur the hole."""
    return composite(np.asarray(cv2.GaussianBlur(source, (0, 0), 12)), source, mask)


def mean_fill(source: Rgb, mask: Mask) -> Rgb:
    """Fill with the mean of the rest."""
    return composite(np.full_like(source, source[~mask].mean(axis=0)), source, mask)


def copy(source: Rgb, mask: Mask) -> Rgb:
    """Leave everything."""
    return source


def median(source: Rgb, mask: Mask) -> Rgb:
    """Fill with a wide median."""
    return composite(np.asarray(cv2.medianBlur(source, 51)), source, mask)


def repaint(source: Rgb, mask: Mask) -> Rgb:
    """Change the whole picture a little, as diffusion erasers with a VAE do."""
    filled = telea(source, mask)
    return np.asarray(cv2.bilateralFilter(filled, 5, 12, 3))


def recode(source: Rgb, mask: Mask) -> Rgb:
    """Fill and store as JPEG: another change of the whole picture."""
    _, data = cv2.imencode(".jpg", navier_stokes(source, mask), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


ERASERS: dict[str, Callable[[Rgb, Mask], Rgb]] = {
    "telea": telea,
    "blur": blur,
    "mean-fill": mean_fill,
    "navier-stokes": navier_stokes,
    "copy-input": copy,
    "median": median,
    "repaint": repaint,
    "recode": recode,
}


def prepare(root: Path, task: Task, names: list[str]) -> None:
    """Write a task and every eraser's result as PNG files; not timed."""
    assert task.truth is not None
    folder = root / task.task_id
    folder.mkdir()
    pictures = {"input": task.input, "truth": task.truth, "mask": mask_to_grey(task.mask)}
    results = {name: ERASERS[name](task.input, task.mask) for name in names}
    for name, picture in {**pictures, **results}.items():
        (folder / f"{name}.png").write_bytes(encode_png(picture))


def read(path: Path) -> Rgb:
    """Decode a picture."""
    return decode_png(path.read_bytes())


def read_mask(path: Path) -> Mask:
    """Decode a mask."""
    return read(path) > 127


def read_mode(folder: Path, eraser: str, mode: str) -> Rgb:
    """Decode a result, composited if asked."""
    result = read(folder / f"{eraser}.png")
    if mode == "raw":
        return result
    return composite(result, read(folder / "input.png"), read_mask(folder / "mask.png"))


if __name__ == "__main__":
    try:
        main()
    except MissingPart as error:
        raise SystemExit(str(error)) from error
