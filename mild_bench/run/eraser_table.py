"""What erasers there are, as text for a terminal."""

from __future__ import annotations

from importlib.metadata import entry_points

from mild_bench.erasers.mild import package_card
from mild_bench.errors import MildBenchError
from mild_bench.plugins import ERASERS, GROUP, eraser_names, load_eraser

COLUMNS = ("eraser", "version", "licence", "needs", "control", "from")
NEEDS_ARGUMENT = {
    "outputs": ("outputs:DIR", "-", "of the pictures", "finished pictures", "", "built in"),
    "diffusers": ("diffusers:DIR", "-", "of the weights", "a saved pipeline", "", "built in"),
}
CARDS = {"mild": package_card}  # of erasers that take seconds to load


def eraser_table() -> str:
    """Return a table of every eraser: name, version, licence, what it needs, where it is from.

    An eraser that does not load here is listed with the reason.
    """
    rows = [COLUMNS, *(_row(name) for name in eraser_names())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _row(name: str) -> tuple[str, ...]:
    if name in NEEDS_ARGUMENT:
        return NEEDS_ARGUMENT[name]
    source = "built in" if name in ERASERS else _package(name)
    try:
        card = CARDS[name]() if name in CARDS else load_eraser(name).card
    except MildBenchError as error:
        return (name, "-", "-", f"does not load: {error}", "", source)
    needs = ", ".join((*card.needs, *(("the truth",) if card.needs_truth else ()))) or "nothing"
    control = f"must come {card.control}" if card.control else ""
    return (name, card.version, card.licence, needs, control, source)


def _package(name: str) -> str:
    owners = [point.dist for point in entry_points(group=GROUP, name=name)]
    return ", ".join(f"{dist.name} {dist.version}" for dist in owners if dist) or "a package"
