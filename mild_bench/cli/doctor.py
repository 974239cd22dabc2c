"""`mild-bench doctor`: what is there, what is missing, how to mend it."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("doctor")
    def doctor(
        part: Annotated[
            str | None,
            typer.Option("--has", help="Only tell by the exit code whether this part is there."),
        ] = None,
    ) -> None:
        """Say what is there and what is missing, with the command that mends each."""
        from mild_bench.run.doctor import examine, has

        if part is not None:
            raise typer.Exit(0 if has(part) else 1)
        bad = 0
        for found in examine():
            mark = "ok     " if found.there else "MISSING" if found.needed else "without"
            print(f"{mark}  {found.part:<22} {found.seen}")
            if not found.there:
                print(f"{'':9}{'':<22} -> {found.mend}")
                bad += found.needed
        raise typer.Exit(1 if bad else 0)
