"""`mild-bench erase` and `mild-bench erasers`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mild_bench.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command("erase")(erase)
    app.command("erasers")(erasers)


def erase(
    eraser: Annotated[
        str, typer.Option(help="Name, name:argument or name[setting=value]; see 'erasers'.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder, or the result picture with --image.")],
    release: Annotated[
        Path | None, typer.Argument(help="Folder of a frozen release; none with --image.")
    ] = None,
    image: Annotated[Path | None, typer.Option(help="A picture of your own.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Its mask: white where to erase.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of erasers that draw random numbers.")] = 0,
    limit: Annotated[int | None, typer.Option(help="Only the first N tasks.")] = None,
    probe: Annotated[
        str | None,
        typer.Option(help="Read the model's attention while it erases: 'cag'; see docs/cag.md."),
    ] = None,
    convert: Annotated[
        bool, typer.Option("--convert", help="Convert pictures that are not upright 8-bit RGB.")
    ] = False,
) -> None:
    """Erase people from every task of a release, or from one picture of your own.

    A run that was stopped goes on where it was when started again.
    """
    if release is not None and image is None and mask is None:
        if convert:
            raise BadInput("--convert: goes with --image, got a release; leave it out")
        _erase_release(release, eraser, out, seed, limit, probe)
    elif release is None and image is not None and mask is not None:
        if limit is not None:
            raise BadInput("--limit: goes with a release, got --image; leave it out")
        if probe is not None:
            raise BadInput("--probe: goes with a release, got --image; leave it out")
        _erase_picture(image, mask, eraser, out, seed, convert)
    else:
        raise BadInput("expected either RELEASE, or both --image and --mask; see 'erase --help'")


def erasers() -> None:
    """List every eraser: the built-in ones and those that installed packages add."""
    from mild_bench.run.eraser_table import eraser_table

    typer.echo(eraser_table())


def _erase_release(
    release: Path, spec: str, out: Path, seed: int, limit: int | None, probe: str | None
) -> None:
    from mild_bench.run.erase import erase_release

    summary = erase_release(release, spec, out, seed=seed, limit=limit, probe=probe)
    kept = f", {summary.kept} were done before" if summary.kept else ""
    typer.echo(f"{_spell(out)}: {summary.erased} tasks erased{kept}")
    if summary.unread:
        task_id, reason = next(iter(summary.unread.items()))
        typer.echo(
            f"mild-bench: {len(summary.unread)} of these tasks lack a trace or its picture, such "
            f"as {task_id}: {reason}",
            err=True,
        )
    if summary.failed:
        task_id, reason = next(iter(summary.failed.items()))
        typer.echo(
            f"mild-bench: {len(summary.failed)} of the run's tasks failed, such as "
            f"{task_id}: {reason}; run the same command again to try only those again",
            err=True,
        )
        raise typer.Exit(1)


def _erase_picture(image: Path, mask: Path, spec: str, out: Path, seed: int, convert: bool) -> None:
    from mild_bench.run.single import erase_picture

    typer.echo(_spell(erase_picture(image, mask, spec, out, seed=seed, convert=convert)))


def _spell(path: Path) -> str:
    # A name that is not UTF-8 cannot be printed as it is.
    return str(path).encode(errors="backslashreplace").decode()
