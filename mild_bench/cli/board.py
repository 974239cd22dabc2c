"""`mild-bench board ...`: leaderboards from scored runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("build")
    def build(
        runs: Annotated[list[Path], typer.Argument(help="Scored run folders, or record files.")],
        out: Annotated[Path, typer.Option(help="Folder for the board.")],
        protocol: Annotated[str, typer.Option(help="Whose records to rank.")] = "mild",
        release: Annotated[
            Path | None, typer.Option(help="The release, where it is not where the runs say.")
        ] = None,
        picture_size: Annotated[
            int, typer.Option(help="Longest side of the page's pictures, in pixels.")
        ] = 384,
    ) -> None:
        """Rank scored runs: board.md, board.csv, board.json and a page to look at."""
        from mild_bench.run.board import build_board

        summary = build_board(
            runs, out, protocol=protocol, release=release, picture_size=picture_size
        )
        _print(out)
        if summary.why_no_pictures:
            typer.echo(f"No pictures on the page: {summary.why_no_pictures}.")
        typer.echo(f"Board: {summary.page}")

    @app.command("show")
    def show(board: Annotated[Path, typer.Argument(help="A board folder.")]) -> None:
        """Print the ranked table of a board."""
        _print(board)

    @app.command("correlate")
    def correlate(
        metrics: Annotated[
            list[str] | None,
            typer.Argument(
                help="Scores to compare with, such as lpips-alex or residue/hole/raw; "
                "without any, the one that ranks and residue.",
            ),
        ] = None,
        board: Annotated[Path, typer.Option(help="A board folder.")] = Path("board"),
        as_json: Annotated[
            bool, typer.Option("--json", help="Print JSON in place of a table.")
        ] = False,
    ) -> None:
        """Rank correlation of CAG and leakage with other scores, over tasks and over erasers."""
        from rich.console import Console

        from mild_bench.run.correlate import correlate_board
        from mild_bench.store import canonical_json

        report = correlate_board(board, metrics or [])
        if as_json:
            typer.echo(canonical_json(report.as_json()).decode(), nl=False)
        else:
            Console().print(report.table())

    @app.command("compare")
    def compare(
        first: Annotated[str, typer.Argument(help="An eraser's name on the board.")],
        second: Annotated[str, typer.Argument(help="Another's.")],
        board: Annotated[Path, typer.Option(help="A board folder.")] = Path("board"),
        as_json: Annotated[
            bool, typer.Option("--json", help="Print JSON in place of a table.")
        ] = False,
    ) -> None:
        """Compare two erasers score by score: paired differences with their intervals."""
        from rich.console import Console

        from mild_bench.run.compare import compare_board
        from mild_bench.store import canonical_json

        report = compare_board(board, first, second)
        if as_json:
            typer.echo(canonical_json(report.as_json()).decode(), nl=False)
        else:
            Console().print(report.table())


def _print(folder: Path) -> None:
    from rich.console import Console

    from mild_bench.run.board import show_board

    console = Console()
    console.print(show_board(folder, width=console.width))
