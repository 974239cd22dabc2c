"""Contact sheets: many scenes at a glance, with masks and truth beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mild_bench.curation.scene_folder import read_scene, scene_folders
from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.scene import Scene

CELL = 256
GAP = 8
# Okabe and Ito's colours: distinct to colour-blind eyes too.
COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (255, 255, 255),
)  # fmt: skip


def write_sheet(workspace: Path, out: Path, *, scenes: int = 12, columns: int = 3) -> None:
    """Draw input, masks and truth of the first scenes of a workspace.

    Raises:
        BadInput: no scenes, or a file type that is no picture.
    """
    if out.suffix.lower() not in (".png", ".jpg", ".webp"):
        raise BadInput(f"{out}: expected a .png, .jpg or .webp file to write")
    chosen = [read_scene(folder) for folder in scene_folders(workspace)[:scenes]]
    rows = -(-len(chosen) // columns)
    wide, high = 3 * CELL + GAP, CELL + 20
    sheet = Image.new("RGB", (columns * (wide + GAP) + GAP, rows * (high + GAP) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (scene, notes) in enumerate(chosen):
        left = GAP + (number % columns) * (wide + GAP)
        top = GAP + (number // columns) * (high + GAP)
        everybody = scene.belongings([person.layer_id for person in scene.people])
        pictures = (scene.recompose(), overlay(scene), scene.recompose(everybody))
        for place, picture in enumerate(pictures):
            cell = Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.LANCZOS)
            sheet.paste(cell, (left + place * (CELL + GAP // 2), top))
        draw.text((left, top + CELL + 3), _caption(scene, notes), fill="black")
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out, quality=85)


def overlay(scene: Scene) -> Rgb:
    """Return the input in grey with each person's visible mask in colour and amodal outline."""
    grey = np.asarray(Image.fromarray(scene.recompose()).convert("L"), np.float32) * 0.6
    canvas = np.repeat(grey[..., None], 3, axis=2)
    for number, person in enumerate(scene.people):
        colour = np.array(COLOURS[number % len(COLOURS)], np.float32)
        shown = scene.visible(person.layer_id)
        canvas[shown] = canvas[shown] * 0.35 + colour * 0.65
        whole = person.amodal
        inner = whole.copy()
        inner[1:-1, 1:-1] &= whole[:-2, 1:-1] & whole[2:, 1:-1] & whole[1:-1, :-2] & whole[1:-1, 2:]
        canvas[whole & ~inner] = colour
    return np.asarray(canvas.clip(0, 255).astype(np.uint8))


def _caption(scene: Scene, notes: dict[str, object]) -> str:
    challenges = notes["challenges"]
    assert isinstance(challenges, dict)
    present = [name.replace("_", "-") for name, tag in challenges.items() if tag["present"]]
    return (
        f"{scene.scene_id}   {notes['people']} people   occlusion {notes['occlusion_bin']}"
        f"   {', '.join(present) or 'no challenge'}"
    )
