"""Correlations as text: for the terminal, for Markdown, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from mild_bench.leaderboards.correlation import Correlation, attention_columns
from mild_bench.leaderboards.numbers import number, p_value
from mild_bench.leaderboards.ranking import Board

if TYPE_CHECKING:
    from rich.console import RenderableType

HOW_TO_READ = (
    "Spearman's \u03c1 over the tasks of each eraser, the mean of these, and over the erasers' "
    "means. Brackets: 95% bootstrap interval over scenes. Sign: where cleaner attention (higher "
    "CAG, lower leakage) goes with better pictures, \u03c1 is negative for CAG with a "
    "lower-is-better score such as LPIPS or residue, and positive for leakage with one. "
    "Cannot tell: the interval holds 0, or p is 0.05 or more. Over erasers the interval says only "
    "how sure the order of these erasers is; p is over all orders they could have had, and fewer "
    "than five can never be told from chance."
)


def scope_name(one: Correlation) -> str:
    """Say over what a correlation was taken."""
    if one.scope == "eraser":
        return one.eraser
    erasers = f"{one.erasers} eraser{'' if one.erasers == 1 else 's'}"
    return f"mean within {erasers}" if one.scope == "within" else f"over the means of {erasers}"


def rho_text(one: Correlation) -> str:
    """Write rho with its sign; a dash without one."""
    if one.rho is None:
        return "\u2013"
    text = number(one.rho, 2)
    return f"+{text}" if one.rho > 0 and float(text) else text


def bounds_text(one: Correlation) -> str:
    """Write the interval; empty without one."""
    if one.low is None or one.high is None:
        return ""
    return f"[{number(one.low, 2)}, {number(one.high, 2)}]"


def verdict_text(one: Correlation) -> str:
    """Write the verdict with its p, or why there is none."""
    if one.rho is None:
        return one.reason
    return f"{one.verdict} ({p_value(one.p)})" if one.p is not None else one.verdict


def pair_title(board: Board, one: Correlation) -> str:
    """Name the two scores: ``CAG and LPIPS (alex), hole``."""
    titles = {column.key: column.card.title for column in board.columns}
    return f"{titles[one.attention]} and {titles[one.score]}, {one.score.split('/')[1]}"


def expected_text(one: Correlation) -> str:
    """Write the sign that speaks for the attention metric."""
    return "+" if one.expected > 0 else "\u2212"


def correlations_as_json(found: Sequence[Correlation]) -> list[dict[str, Any]]:
    """Return plain JSON values."""
    return [{**vars(one), "verdict": one.verdict} for one in found]


def unread(board: Board) -> list[str]:
    """Say which erasers have no attention scores, or not of all tasks, and why."""
    columns = attention_columns(board)
    reasons: dict[str, list[str]] = {}
    for row in board.rows if columns else ():
        if why := row.cells[columns[0].key].reason:
            reasons.setdefault(why, []).append(row.label)
    return [f"no mean for {', '.join(labels)}: {why}" for why, labels in reasons.items()]


def correlations_as_markdown(board: Board, found: Sequence[Correlation]) -> list[str]:
    """Return a line for each correlation that is not one eraser's own, and what was not read."""
    lines = [
        f"{pair_title(board, one)}, {scope_name(one)}: {rho_text(one)} {bounds_text(one)}".rstrip()
        + f" (expected {expected_text(one)}): {verdict_text(one)}"
        for one in found
        if one.scope != "eraser"
    ]
    return lines + unread(board)


def terminal_correlations(board: Board, found: Sequence[Correlation]) -> RenderableType:
    """Return the table and how to read it (rich renderables)."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = []
    for _, group in groupby(found, key=lambda one: (one.attention, one.score)):
        members = list(group)
        head = f"{pair_title(board, members[0])} (expected sign {expected_text(members[0])})"
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        table.add_column("Over", overflow="fold", min_width=16)
        for title, width in (("\u03c1", 5), ("95% interval", 14), ("p", 7), ("Tasks", 5)):
            table.add_column(title, justify="right", width=width)
        table.add_column("Verdict", overflow="fold", min_width=11)
        for one in members:
            p = p_value(one.p).removeprefix("p ").removeprefix("= ")
            cells = (
                scope_name(one), rho_text(one), bounds_text(one), p, str(one.tasks),
                one.verdict or one.reason,
            )  # fmt: skip
            table.add_row(*map(Text, cells))
        parts += [Text(head, style="bold"), table, Text()]
    return Group(*parts, Text(HOW_TO_READ, style="dim"))
