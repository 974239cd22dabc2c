"""The ranked table for a terminal, from what ``board.json`` holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mild_bench.leaderboards.numbers import ARROWS, decimals, interval, number
from mild_bench.leaderboards.standing import Cell

if TYPE_CHECKING:
    from rich.console import RenderableType

FIXED_WIDTH, COLUMN_WIDTH = 60, 13


def terminal_board(board: dict[str, Any], *, width: int) -> RenderableType:
    """Return the table and its notes; as many metrics beside the primary as ``width`` holds."""
    from rich.console import Group
    from rich.text import Text

    columns = {column["key"]: column for column in board["columns"]}
    keys = board["headline"][: 1 + max(0, (width - FIXED_WIDTH) // COLUMN_WIDTH)]
    release, protocol = board["release"], board["protocol"]
    title = f"{release['name']} {release['version']}, protocol {protocol['name']}"
    lines = [*map(str, board["warnings"]), *_notes(board)]
    return Group(
        Text(title, style="bold"),
        _table(board, [columns[key] for key in keys]),
        *[Text(line, style="dim") for line in lines],
    )


def _table(board: dict[str, Any], columns: list[dict[str, Any]]) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("#", justify="right")
    table.add_column("Eraser", overflow="fold")
    for column in columns:
        head = f"{column['title']} {ARROWS[column['better']]}\n{column['key'].split('/')[1]}"
        table.add_column(Text(head), justify="right")
    every = [*board["rows"], *board["controls"]]
    places = {c["key"]: decimals(_cell(row, c["key"]) for row in every) for c in columns}
    for row in every:
        if row in board["controls"] and row is board["controls"][0]:
            table.add_section()
        rank = "" if row["control"] else str(row["rank"] or "\u2013")
        cells = [
            _text(_cell(row, c["key"]), places[c["key"]], bounds=c is columns[0]) for c in columns
        ]
        style = "dim" if row["control"] else ""
        table.add_row(rank, Text(row["label"]), *map(Text, cells), style=style)
    return table


def _text(cell: Cell, places: int, *, bounds: bool) -> str:
    text = number(cell.mean, places)
    return f"{text} {interval(cell, places)}".strip() if bounds else text


def _cell(row: dict[str, Any], key: str) -> Cell:
    return Cell(**row["cells"][key])


def _notes(board: dict[str, Any]) -> list[str]:
    check = board["control_check"]
    lines = [f"{row['label']}: {note}" for row in board["rows"] for note in row["notes"]]
    primary = board["protocol"]["primary"]
    for row in board["rows"]:
        reason = row["cells"].get(primary, {}).get("reason")
        lines += [f"{row['label']}: {reason}"] if reason else []
    if check["faults"]:
        lines.append(
            f"{len(check['faults'])} of {check['checked']} control checks came out wrong: "
            "see board.md"
        )
    return lines
