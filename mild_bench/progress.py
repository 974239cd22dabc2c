"""Progress bars on stderr, with the rate and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Advance = Callable[[int], None]
Item = TypeVar("Item")


def tracked(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Yield the items while a bar shows how far ``doing`` them has come."""
    with progress(doing, total=len(items)) as advance:
        for item in items:
            yield item
            advance(1)


@contextmanager
def progress(what: str, *, total: int, done: int = 0) -> Iterator[Advance]:
    """Show a bar while the block runs; call what it yields with the number of steps taken.

    ``done`` counts steps of an earlier run: they fill the bar but not the rate.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text(
                "" if not speed else f"{speed:.2f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
            )

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate())
    with Progress(
        *columns, TimeRemainingColumn(elapsed_when_finished=True), console=console
    ) as bar:
        task = bar.add_task(what, total=total, completed=done)
        yield lambda steps: bar.update(task, advance=steps)
