"""`mild-bench theory`: the paper's theorems on a model with a computable Hessian."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("theory")
    def theory(
        out: Annotated[Path, typer.Option(help="Folder for plots, tables and prose.")],
        seed: Annotated[int, typer.Option(help="Equal seeds give equal files.")] = 0,
        models: Annotated[
            int, typer.Option(help="Independent models; intervals are over them.")
        ] = 8,
        margins: Annotated[
            int, typer.Option(help="Strengths of separation each is trained at.")
        ] = 6,
    ) -> None:
        """Check the paper's theorems: Hessian, margin, condition, SMA's bias (about a minute)."""
        from mild_bench.progress import progress
        from mild_bench.theory.experiment import Settings, check_theory
        from mild_bench.theory.report import check_folder, write_report

        settings = Settings(seed=seed, models=models, margins=margins)
        check_folder(out)
        with progress("training small models", total=settings.total()) as advance:
            findings = check_theory(settings, advance=advance)
        for claim in write_report(findings, out):
            slope = f"{claim.found.mean:+.3f}" if claim.found else "  none"
            print(f"slope {slope}, expected {claim.expected:+g} ({claim.verdict()}): {claim.name}")
        print(f"{out / 'theory.md'}")
