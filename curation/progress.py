"""A progress bar on stderr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def tracked(items: Sequence[Item], doing: str) -> Iterable[Item]:
    """Yield the items while a bar on stderr shows how far ``doing`` them has come."""
    from rich.console import Console
    from rich.progress import track

    return track(items, description=doing, console=Console(stderr=True))
