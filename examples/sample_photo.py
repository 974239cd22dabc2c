"""Write a photo with two people and their masks, to try erase_and_move.py on.

python examples/sample_photo.py sample
"""

from __future__ import annotations

import sys
from pathlib import Path

from mild_bench.curation.composing.compose import sketch_scene
from mild_bench.curation.composing.pack import load_pack
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.curation.releasing.erase_mask import erase_mask
from mild_bench.errors import MildBenchError
from mild_bench.images import encode_png, mask_to_grey
from mild_bench.store import write_bytes

RECIPE, NUMBER = "mild-mini-test", 2  # two people, one partly behind the other


def write_sample(folder: Path) -> None:
    """Write photo.png, a mask for each person, and shadows.png: all that changes without them."""
    scene = sketch_scene(read_recipe(find_recipe(RECIPE)), NUMBER, load_pack("test"))
    people = [person.layer_id for person in scene.people]
    write_bytes(folder / "photo.png", encode_png(scene.recompose()))
    for name in people:
        write_bytes(folder / f"{name}.png", encode_png(mask_to_grey(scene.visible(name))))
    changed = erase_mask(scene, people, "effects")
    write_bytes(folder / "shadows.png", encode_png(mask_to_grey(changed)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("sample_photo.py: expected one folder: python examples/sample_photo.py sample")
    try:
        write_sample(Path(sys.argv[1]))
    except MildBenchError as error:
        sys.exit(f"sample_photo.py: {error}")
