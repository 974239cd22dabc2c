"""PatchMatch: fill the hole with patches found elsewhere in the picture."""

from __future__ import annotations

from mild_bench.erasers.one_by_one import OneByOne
from mild_bench.erasers.settings import board_name, whole
from mild_bench.erasure import EraserCard
from mild_bench.errors import MissingPart
from mild_bench.images import Rgb
from mild_bench.task import Task

PATCH_SIZE = 5
PAPER = "https://doi.org/10.1145/1531326.1531330"


def patchmatch(patch_size: int = PATCH_SIZE) -> OneByOne:
    """Return the eraser of Barnes et al., "PatchMatch", SIGGRAPH 2009, by ``pypatchmatch``.

    ``patch_size`` is the radius r of the compared patches, (2 r + 1) pixels square; the time
    grows with its square.

    Raises:
        BadInput: ``patch_size`` is not a whole number from 1 to 32.
        MissingPart: the native library does not load on this machine.
    """
    import patchmatch as native

    size = whole("patchmatch", "patch_size", patch_size, 1, 32)
    if not native.patchmatch_available:
        raise MissingPart(
            "patchmatch: its native library does not load here; "
            "run 'pip install --force-reinstall --no-deps pypatchmatch'"
        )

    def fill(task: Task, seed: int) -> Rgb:
        native.set_random_seed(seed)
        filled: Rgb = native.inpaint(task.input, task.mask, patch_size=size)
        return filled

    settings = {"patch_size": size}
    name = board_name("patchmatch", settings, {"patch_size": PATCH_SIZE})
    card = EraserCard(name, native.__version__, "MIT", settings=settings, paper=PAPER)
    return OneByOne(card, fill)
