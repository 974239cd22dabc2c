"""What each stage of `mild`'s background is good for, against the fillings of classical methods.

Every row fills the same holes of scenes of the test part, with the package's weights on the CPU:

- telea, patchmatch: the board's rows of these names;
- filling: the smooth filling that the network starts from, and nothing else;
- filling + patches: patches chosen to look like it, no network;
- painted: what the network makes of it (`mild[complete=off,refine=off]`);
- painted + patches: patches chosen to look like that (`mild[complete=off]`);
- completed: the frame painted without people who stay at the hole, with those people drawn back
  complete (`mild[refine=off]`);
- mild: the same with patches;
- ..., kept: pixels of those who stay copied from the input, where a mask covers them, too.
  `mild` is told who shows where and keeps them; these rows say what that alone is worth.

Run it with `python benchmarks/mild_background.py`; it composes its own scenes. Means in the hole,
lower is better. `ratio <row>_over_telea_lpips` and `..._residue` are means over telea's.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.curation.composing.compose import compose
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.curation.releasing.release import freeze
from mild_bench.images import Rgb, from_bchw, to_bchw
from mild_bench.metrics.scorer import Scorer
from mild_bench.mild.branches import continued
from mild_bench.mild.picture import with_rim
from mild_bench.plugins import load_eraser
from mild_bench.protocol import find_protocol
from mild_bench.release import Release
from mild_bench.task import Task, task_seed

KEYS = {"lpips": "lpips-alex/hole/composited", "residue": "residue/hole/composited"}


def main() -> None:
    """Fill, score and print."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=16)
    chosen = parser.parse_args()
    erasers = {name: load_eraser(name) for name in ("telea", "patchmatch")}
    mild: Any = load_eraser("mild")
    whole = replace(mild.settings, refine=False)
    scorer = Scorer(find_protocol("mild"), metrics=["lpips-alex", "residue"])
    scores: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        for task in _tasks(Path(name), chosen.scenes):
            hole = with_rim(task.mask, mild.settings.dilate)
            start = continued(to_bchw(task.input)[0], torch.from_numpy(hole))
            filling = from_bchw(start[None])
            seed = task_seed(0, task.task_id)
            pictures: dict[str, Rgb] = {
                one: next(iter(eraser([task], seed=0))).result for one, eraser in erasers.items()
            }
            pictures["filling"] = filling
            for row, complete in (("painted", False), ("completed", True)):
                mild.settings = replace(whole, complete=complete)
                output = mild.take_apart(task, seed)
                if not complete:
                    bare = replace(output, painted=filling)
                    pictures["filling + patches"] = bare.refined(seed=seed).background
                pictures[row] = output.background
                patched = "mild" if complete else f"{row} + patches"
                pictures[patched] = output.refined(seed=seed).background
            gone = [task.person_ids.index(one) + 1 for one in task.erase]
            stay = (task.people > 0) & ~np.isin(task.people, gone)
            for row in ("patchmatch", "painted + patches"):
                pictures[f"{row}, kept"] = np.where(stay[..., None], task.input, pictures[row])
            found = scorer.score(task, list(pictures.values()))
            for row, values in zip(pictures, found, strict=True):
                value = {one.key: one.value for one in values}
                scores.setdefault(row, []).append([float(value[key]) for key in KEYS.values()])
    means = {row: np.nanmean(values, axis=0) for row, values in scores.items()}
    print(f"{len(scores['mild'])} tasks; means in the hole")
    for row, (lpips, residue) in means.items():
        print(f"{row:24} LPIPS {lpips:.3f}  residue {residue:.3f}")
    for row in list(means)[3:]:
        name = row.replace(" + ", "_and_").replace(", ", "_")
        for number, metric in enumerate(KEYS):
            value = means[row][number] / means["telea"][number]
            print(f"ratio {name}_over_telea_{metric} {value:.3f}")


def _tasks(folder: Path, scenes: int) -> list[Task]:
    """Return a task of each scene: of the first its first, of the next its second, and so on."""
    recipe = read_recipe(find_recipe("mild-mini-test"), scenes=scenes)
    compose(recipe, folder / "scenes")
    freeze([folder / "scenes"], folder / "release", name="bench", version="1.0")
    of_scene: dict[str, list[Task]] = {}
    for task in Release.open(folder / "release").tasks():
        of_scene.setdefault(task.scene_id, []).append(task)
    return [tasks[number % len(tasks)] for number, tasks in enumerate(of_scene.values())]


if __name__ == "__main__":
    main()
