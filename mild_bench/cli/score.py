"""`mild-bench score` and `mild-bench metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("score")
    def score(
        runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")],
        protocol: Annotated[str, typer.Option(help="The rules of scoring.")] = "mild",
        release: Annotated[
            Path | None, typer.Option(help="The release, when it is not where it was.")
        ] = None,
        weights: Annotated[Path | None, typer.Option(help="A folder of weight files.")] = None,
        clip_model: Annotated[str | None, typer.Option(help="Another open_clip model.")] = None,
        clip_weights: Annotated[
            Path | None, typer.Option(help="A local open_clip checkpoint (file or folder).")
        ] = None,
        allow_download: Annotated[
            bool, typer.Option("--allow-download", help="Fetch weights that are missing.")
        ] = False,
        workers: Annotated[
            int | None, typer.Option(help="Tasks at a time; all cores by default.")
        ] = None,
    ) -> None:
        """Score runs of one release; go on where an earlier call was stopped."""
        from mild_bench.run.score import score_runs
        from mild_bench.run.score_report import describe

        records = score_runs(
            runs,
            protocol=protocol,
            release=release,
            weights=weights,
            clip_model=clip_model,
            clip_weights=clip_weights,
            allow_download=allow_download,
            workers=workers,
        )
        for line in describe(records):
            print(line)

    @app.command("metrics")
    def metrics() -> None:
        """List every metric: direction, range, regions, what it needs."""
        from mild_bench.run.score_report import metric_table

        for line in metric_table():
            print(line)
