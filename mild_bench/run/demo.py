"""The whole job on a few scenes: compose, audit, release, review, erase, score, board."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from mild_bench.errors import BadInput, MissingPart

ERASERS = (
    "truth", "copy-input", "mean-fill", "blur",
    "telea", "navier-stokes", "biharmonic", "patchmatch",
)  # fmt: skip
RECIPE = "demo"


@dataclass(frozen=True)
class DemoSummary:
    """Where the demo left what it made."""

    workspace: Path
    release: Path
    board: Path
    page: Path
    seconds: float


def run_demo(out: Path, *, say: Callable[[str], None]) -> DemoSummary:
    """Run every stage on the demo recipe into ``out``; goes on where it was stopped.

    Raises:
        BadInput: ``out`` is a file.
        MissingPart: the review stopped. Without a mongod it is left out, and ``say`` tells so.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: expected a folder to write to, got a file; name another --out")
    start = perf_counter()
    scenes, release, runs, board = (out / name for name in ("scenes", "release", "runs", "board"))
    with _stage(say, "1/6  Composing scenes with exact truth"):
        _compose(scenes)
    with _stage(say, "2/6  Auditing them and freezing a release"):
        _freeze(scenes, release)
    with _stage(say, "3/6  Filling the FiftyOne data set for review"):
        _review(scenes, say)
    with _stage(say, f"4/6  Erasing with {len(ERASERS)} erasers"):
        folders = _erase(release, runs)
    with _stage(say, "5/6  Scoring"):
        _score(folders)
    with _stage(say, "6/6  Building the board"):
        page = _board(folders, board)
    return DemoSummary(scenes, release, board, page, perf_counter() - start)


@contextmanager
def _stage(say: Callable[[str], None], title: str) -> Iterator[None]:
    say(title)
    start = perf_counter()
    yield
    say(f"     {perf_counter() - start:.0f} s")


def _compose(scenes: Path) -> None:
    from mild_bench.curation.composing.compose import compose
    from mild_bench.curation.composing.recipe import find_recipe, read_recipe

    compose(read_recipe(find_recipe(RECIPE)), scenes)


def _freeze(scenes: Path, release: Path) -> None:
    from mild_bench.curation.auditing.audit import audit
    from mild_bench.curation.ledger import record
    from mild_bench.curation.releasing.release import freeze

    record(scenes, list(audit(scenes).decisions))
    freeze([scenes], release, name="demo", version="1.0")


def _review(scenes: Path, say: Callable[[str], None]) -> None:
    from mild_bench.curation.reviewing.mongod import find_mongod

    try:
        if not os.environ.get("FIFTYONE_DATABASE_URI"):
            find_mongod()
    except MissingPart as error:
        say(f"     left out: {error}")
        return
    # In a process of its own: FiftyOne and its database stay in memory until that ends.
    command = [sys.executable, "-m", "mild_bench", "curate", "review", str(scenes)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise MissingPart(
            "FiftyOne's review stopped, for the reason above; mend it, run this again"
        )
    say(f"     {done.stdout.strip()}")
    say(f"     look at it: mild-bench curate review {scenes} --app")


def _erase(release: Path, runs: Path) -> list[Path]:
    from mild_bench.run.erase import erase_release

    return [erase_release(release, name, runs / name).out for name in ERASERS]


def _score(folders: list[Path]) -> None:
    from mild_bench.run.score import score_runs

    score_runs(folders)


def _board(folders: list[Path], board: Path) -> Path:
    from mild_bench.run.board import build_board

    return build_board(folders, board).page
