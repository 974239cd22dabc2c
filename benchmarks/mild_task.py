"""What taking a picture apart costs: `mild` against `patchmatch` on 512 x 512, four people or more.

Both erase the same composed scenes, one task at a time, with the package's weights on the CPU. Run
it with `python benchmarks/mild_task.py`; it composes its own scenes. The goal is 60 s a task on two
cores.

`ratio mild_over_patchmatch` is mild's median seconds over patchmatch's; `peak_mb mild_task` is the
process's memory, with the interpreter, torch and the weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from mild_bench.curation.composing.compose import compose
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.curation.releasing.release import freeze
from mild_bench.plugins import load_eraser
from mild_bench.release import Release
from mild_bench.run.peak import Cost, measured
from mild_bench.task import Task

PEOPLE = 4


def main() -> None:
    """Time both erasers on every task that erases four people."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--tasks", type=int, default=3)
    parser.add_argument("--settings", default="", help="of mild, such as steps=10")
    chosen = parser.parse_args()
    spec = f"mild[{chosen.settings}]" if chosen.settings else "mild"
    costs: dict[str, list[Cost]] = {"patchmatch": [], spec: []}
    with tempfile.TemporaryDirectory() as name:
        erasers = {one: load_eraser(one) for one in costs}
        for number, task in zip(
            range(chosen.tasks), _tasks(Path(name), chosen.scenes), strict=False
        ):
            for one, eraser in erasers.items():
                with measured() as cost:
                    next(iter(eraser([task], seed=0)))
                costs[one].append(cost)
            said = ", ".join(f"{one} {spent[-1].seconds:.1f} s" for one, spent in costs.items())
            print(f"task {number}: {task.input.shape[1]} x {task.input.shape[0]}, {said}")
    ours, theirs = ([cost.seconds for cost in costs[one]] for one in (spec, "patchmatch"))
    print(f"slowest {max(ours):.1f} s (goal 60 s)")
    print(f"ratio mild_over_patchmatch {median(ours) / median(theirs):.2f}")
    print(f"peak_mb mild_task {max(cost.peak_mb for cost in costs[spec]):.0f}")


def _tasks(folder: Path, scenes: int) -> Iterator[Task]:
    recipe = read_recipe(find_recipe("mild-mini-test"), scenes=scenes)
    compose(recipe, folder / "scenes")
    freeze([folder / "scenes"], folder / "release", name="bench", version="1.0")
    return (task for task in Release.open(folder / "release").tasks() if len(task.erase) >= PEOPLE)


if __name__ == "__main__":
    main()
