"""Erase one person from a photo and move another.

A person is a mask: white where they show. Its file name is the person's name.

    python examples/erase_and_move.py photo.jpg anna.png ben.png \\
        --erase anna --move ben --shift 60 0

writes to moved/: picture.png, background.png, and layers/ with every person complete, as RGBA.
Shadows and what people hold are erased, too, if they are white in a picture given with --also.
No photo at hand: python examples/sample_photo.py sample
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mild_bench.erasers.mild import weights_folder
from mild_bench.errors import BadInput, MildBenchError
from mild_bench.images import encode_png, read_mask, read_rgb
from mild_bench.mild.picture import MildInput
from mild_bench.mild.pipeline import MildPipeline
from mild_bench.mild.recompose import MildOutput
from mild_bench.store import write_bytes


def arguments() -> argparse.ArgumentParser:
    """Return what can be said on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage=argparse.SUPPRESS,  # the lines above show it; a mistake is one line
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("photo", type=Path, help="a picture")
    parser.add_argument("masks", type=Path, nargs="+", help="one for each person")
    parser.add_argument("--erase", required=True, help="name of the person to erase")
    parser.add_argument("--move", required=True, help="name of the person to move")
    parser.add_argument(
        "--shift", type=int, nargs=2, default=(0, 0), help="pixels to the right and down"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the moved person's size")
    parser.add_argument("--also", type=Path, help="mask of shadows and things to erase as well")
    parser.add_argument("--refine", action="store_true", help="texture for a small model's picture")
    parser.add_argument("--weights", help="folder of a MildPipeline; the package's own if left out")
    parser.add_argument("--out", type=Path, default=Path("moved"), help="folder to write to")
    return parser


def look(chosen: argparse.Namespace) -> MildInput:
    """Read the pictures: who shows where, and whom to take out."""
    masks = {path.stem: read_mask(path, convert=True) for path in chosen.masks}
    if len(masks) < len(chosen.masks) or chosen.erase == chosen.move:
        raise BadInput("expected two people, one to erase and one to move; give each a name")
    return MildInput.from_masks(
        read_rgb(chosen.photo, convert=True),
        masks,
        erase=(chosen.erase, chosen.move),  # both become layers; one of them comes back
        also=None if chosen.also is None else read_mask(chosen.also, convert=True),
    )


def take_apart(given: MildInput, weights: str | None, *, refine: bool) -> MildOutput:
    """Paint the clean background and the complete people."""
    pipeline = MildPipeline.from_pretrained(weights_folder(weights), local_files_only=True)
    pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
    output: MildOutput = pipeline(given)
    return output.refined() if refine else output


def main(chosen: argparse.Namespace) -> None:
    """Write the new picture, the clean background and the layers."""
    output = take_apart(look(chosen), chosen.weights, refine=chosen.refine)
    moved = output.recompose(
        keep=[chosen.move],
        shift={chosen.move: tuple(chosen.shift)},
        scale={chosen.move: chosen.scale},
    )
    write_bytes(chosen.out / "picture.png", encode_png(moved))
    write_bytes(chosen.out / "background.png", encode_png(output.background))
    for name, layer in output.layers.items():
        write_bytes(chosen.out / "layers" / f"{name}.png", encode_png(layer))


if __name__ == "__main__":
    parser = arguments()
    given = parser.parse_args()
    try:
        main(given)
    except MildBenchError as error:
        parser.error(str(error))
