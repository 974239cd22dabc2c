"""`mild-bench train`: the layered model, from nothing or from an inpainting checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("train")
    def train(
        config: Annotated[
            str, typer.Argument(metavar="CONFIG", help="A YAML file, or tiny, sd15, sdxl.")
        ],
        out: Annotated[Path, typer.Option(help="Folder for the training; goes on if there.")],
        start: Annotated[
            str | None, typer.Option(help="Inpainting pipeline to start from: folder or hub id.")
        ] = None,
        minutes: Annotated[
            float | None, typer.Option(help="Stop after so many, with a checkpoint.")
        ] = None,
        workers: Annotated[
            int, typer.Option(help="Processes that make pictures; 0: none of their own.")
        ] = 0,
        scenes: Annotated[
            Path | None, typer.Option(help="Folder of composed scenes, to share them.")
        ] = None,
        cpu: Annotated[bool, typer.Option("--cpu", help="Leave the GPU alone.")] = False,
    ) -> None:
        """Train the layered model; also under `accelerate launch`."""
        from mild_bench.run.train import train as run

        done = run(config, out, start=start, minutes=minutes, workers=workers, pool=scenes, cpu=cpu)
        for line in done.lines():
            print(line)
