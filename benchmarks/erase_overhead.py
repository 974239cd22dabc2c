"""What the adapter costs: `mild-bench erase` against a bare loop over the same OpenCV call.

Both read the same parquet release and write the same PNG files with Telea's filler; ours also
checks hashes, masks and results, measures time and memory, and can be killed at any moment. Run it
with `python benchmarks/erase_overhead.py`; it composes its own scenes (about ten seconds).

`ratio erase_overhead` is our wall time over the bare loop's: 1 would be free.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

from mild_bench.curation.composing.compose import compose
from mild_bench.curation.composing.recipe import Recipe
from mild_bench.curation.releasing.release import freeze
from mild_bench.run.erase import erase_release


def main() -> None:
    """Time both ways in turn and print the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = Recipe(name="bench", split="test", scenes=chosen.scenes, seed=1)
        compose(recipe, folder / "scenes")
        freeze([folder / "scenes"], folder / "release", name="bench", version="1.0")
        ratios = [_round(folder) for _ in range(chosen.rounds)]
    print(f"ratio erase_overhead {np.median(ratios):.3f}")


def _round(folder: Path) -> float:
    for out in ("bare", "ours"):
        shutil.rmtree(folder / out, ignore_errors=True)
    start = perf_counter()
    tasks = _bare(folder / "release", folder / "bare")
    bare = perf_counter() - start
    start = perf_counter()
    erase_release(folder / "release", "telea", folder / "ours")
    ours = perf_counter() - start
    print(f"{tasks} tasks: bare {bare:.2f} s, ours {ours:.2f} s")
    return ours / bare


def _bare(release: Path, out: Path) -> int:
    out.mkdir()
    rows = 0
    for batch in parquet.ParquetFile(release / "data/tasks-test.parquet").iter_batches(1):
        row = batch.to_pylist()[0]
        picture = np.asarray(Image.open(io.BytesIO(row["input"]["bytes"])))
        mask = np.asarray(Image.open(io.BytesIO(row["mask"]["bytes"])))
        filled = cv2.inpaint(picture, mask, 3, cv2.INPAINT_TELEA)
        Image.fromarray(filled).save(out / f"{row['task_id']}.png", compress_level=4)
        rows += 1
    return rows


if __name__ == "__main__":
    main()
