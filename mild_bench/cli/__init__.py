"""The command line: one file a command, each a thin door to the function of the same name."""

from __future__ import annotations

import errno
import os
import sys

import typer

from mild_bench.cli import (
    audit,
    board,
    compose,
    demo,
    doctor,
    erase,
    release,
    review,
    score,
    theory,
    train,
    video,
)
from mild_bench.errors import MildBenchError

INTERRUPTED = 130

app = typer.Typer(
    help="Curate data sets for, and benchmark, human erasing.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
curate = typer.Typer(help="Build, look at and freeze data sets.", no_args_is_help=True)
boards = typer.Typer(help="Turn scored runs into leaderboards.", no_args_is_help=True)
for part in (compose, video, audit, review, release):
    part.register(curate)
for part in (erase, score, demo, doctor, theory, train):
    part.register(app)
board.register(boards)
app.add_typer(curate, name="curate")
app.add_typer(boards, name="board")


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and exit code 2."""
    try:
        app()
    except MildBenchError as error:
        _stop(str(error), code=2)
    except SystemExit as stop:
        if stop.code != INTERRUPTED:  # what typer makes of Ctrl-C
            raise
        _stop("stopped; run the same command again to go on where it was", code=INTERRUPTED)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _stop("the disk is full; what was finished is kept: free some space and go on", code=2)
        if not isinstance(error.filename, str | bytes):
            raise
        name = os.fsencode(error.filename).decode(errors="backslashreplace")
        _stop(f"{name}: {error.strerror}; name another, or mend its permissions", code=2)


def _stop(message: str, *, code: int) -> None:
    print("mild-bench:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(code)
