"""mild-mini is still what it was: scenes rebuilt from the recipe against the committed prints.

After a change that is meant to change the pictures, make the prints again:
``mild-bench curate compose mild-mini-test --out W``, then
``mild-bench curate fingerprint W --out leaderboards/results/mild-mini/fingerprint.json.gz``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mild_bench.curation.composing.compose import compose_scene, scene_id
from mild_bench.curation.composing.pack import load_pack
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.curation.releasing.fingerprint import check
from mild_bench.curation.releasing.fingerprint_file import read_fingerprints

RECIPE = find_recipe("mild-mini-test")
PRINTS = Path(__file__).parents[1] / "leaderboards/results/mild-mini/fingerprint.json.gz"


def rebuilt(number: int) -> str:
    """Compose a scene of mild-mini and say how it compares with its print."""
    recipe = read_recipe(RECIPE)
    scene, _ = compose_scene(recipe, number, load_pack(recipe.split))
    agreement = check(scene, read_fingerprints(PRINTS)[scene.scene_id])
    return f"{agreement.verdict} {agreement.detail}".strip()


def test_every_scene_has_a_print_and_the_file_is_small() -> None:
    recipe = read_recipe(RECIPE)
    wanted = [scene_id(recipe, number) for number in range(recipe.scenes)]
    assert list(read_fingerprints(PRINTS)) == wanted
    assert PRINTS.stat().st_size < 2_000_000


@pytest.mark.parametrize("number", [7, 22, 59])
def test_scenes_are_rebuilt_as_they_were(number: int) -> None:
    assert not rebuilt(number).startswith("differs"), __doc__


def test_another_processor_stays_within_one_grey_level() -> None:
    """Without their vector units numpy and OpenCV round like an older processor."""
    old = {
        "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3",
        "OPENCV_CPU_DISABLE": "AVX512_SKX,AVX2,FP16,AVX",
    }
    code = "import test_mini_fingerprint as t; print(t.rebuilt(NUMBER))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code.replace("NUMBER", "14")],
        env={**os.environ, **old, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("same bytes", "within one grey level")), done.stdout
