"""`mild-bench demo`: everything once, on a few scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("demo")
    def demo(
        out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path(
            "mild-bench-demo"
        ),
    ) -> None:
        """Run the main job on a few scenes: curate, review, erase, score, board."""
        from rich.console import Console

        from mild_bench.run.board import show_board
        from mild_bench.run.demo import run_demo

        done = run_demo(out, say=lambda line: print(line, flush=True))
        console = Console()
        console.print(show_board(done.board, width=console.width))
        print(f"Done in {done.seconds:.0f} s. Open the board in a browser: {done.page}")
