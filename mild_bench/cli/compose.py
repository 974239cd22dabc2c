"""`mild-bench curate compose`: scenes with exact truth from the asset pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mild_bench.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("compose")
    def compose(
        recipe: Annotated[
            str,
            typer.Argument(help="A recipe file, or the name of one that comes with the package."),
        ],
        out: Annotated[Path, typer.Option(help="Workspace to fill; goes on where it stopped.")],
        scenes: Annotated[
            int | None, typer.Option(help="How many, instead of the recipe's.")
        ] = None,
    ) -> None:
        """Compose people and props on clean photographs, with exact layers and truth."""
        from mild_bench.curation.composing.compose import compose as run
        from mild_bench.curation.composing.recipe import find_recipe, read_recipe

        chosen = read_recipe(find_recipe(recipe), scenes=scenes)
        summary = run(chosen, out)
        typer.echo(f"{summary.scenes} scenes in {summary.workspace} ({summary.kept} were there)")

    @app.command("sheet")
    def sheet(
        workspace: Annotated[Path, typer.Argument(help="A workspace with scenes.")],
        out: Annotated[Path, typer.Option(help="Picture to write (.png, .jpg or .webp).")],
        scenes: Annotated[int, typer.Option(help="How many scenes to show.")] = 12,
        columns: Annotated[int, typer.Option(help="Scenes in a row.")] = 3,
    ) -> None:
        """Draw a contact sheet: input, people masks and truth of each scene."""
        from mild_bench.curation.composing.contact_sheet import write_sheet

        if scenes < 1 or columns < 1:
            raise BadInput(f"sheet: expected 1 or more scenes and columns, got {scenes}, {columns}")
        write_sheet(workspace, out, scenes=scenes, columns=columns)
        typer.echo(f"{out}")
