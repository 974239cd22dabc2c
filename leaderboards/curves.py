"""Curves with intervals as small SVG plots: a score against a strength.

Classes are filled in by the page's style sheet. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mild_bench.leaderboards.plots import Axis, tick_text
from mild_bench.leaderboards.scatter import colour_class
from mild_bench.leaderboards.standing import Cell

LEFT, RIGHT, TOP, BOTTOM = 46, 22, 8, 24
SIDESTEP = 3.0  # pixels between curves, so that their intervals do not hide each other
LETTER = 5.6  # pixels: the width of a letter at an axis, at most


@dataclass(frozen=True)
class Sheet:
    """The size of a plot in pixels."""

    width: int
    height: int


SMALL, LARGE = Sheet(270, 180), Sheet(390, 280)


@dataclass(frozen=True)
class Point:
    """A cell with a mean at a place of the axis; ``says`` is its tooltip."""

    across: float
    cell: Cell
    says: str


@dataclass(frozen=True)
class Curve:
    """Points from left to right; ``colour`` is a place in the list of colours."""

    colour: int
    points: tuple[Point, ...]


def curve_plot(
    name: str,
    curves: Sequence[Curve],
    places: Sequence[tuple[float, str]],
    up: Axis,
    sheet: Sheet,
) -> Markup:
    """Draw curves over ``places``, the marked values of the axis with their texts.

    ``up`` comes from ``up_axis`` for the same ``sheet``; ``name`` is the text for those who do not
    see the plot.
    """
    values = [value for value, _ in places]
    shifts = [SIDESTEP * (n - (len(curves) - 1) / 2) for n in range(len(curves))]
    room = max(shifts, default=0.0) + 6
    across = Axis(
        min(values),
        max(max(values), min(values) + 1e-9),
        LEFT + room,
        sheet.width - RIGHT - room,
    )
    body = [_levels(up, sheet), _marks(across, places, sheet)]
    body += [_curve(*pair, across, up) for pair in zip(curves, shifts, strict=True)]
    return Markup(
        f'<svg class="panel curve" viewBox="0 0 {sheet.width} {sheet.height}" role="img" '
        f'aria-label="{escape(name)}">{"".join(body)}</svg>'
    )


def up_axis(cells: Sequence[Cell], sheet: Sheet, *, log: bool = False) -> Axis | None:
    """Return the upright axis that shows all means and intervals; None when there is nothing."""
    return Axis.over(cells, start=sheet.height - BOTTOM, end=TOP, log=log)


def _curve(curve: Curve, shift: float, across: Axis, up: Axis) -> str:
    colour = colour_class(curve.colour)
    found = [
        (round(across.at(point.across) + shift, 1), up.at(point.cell.mean), point)
        for point in curve.points
        if point.cell.mean is not None
    ]
    join = "L".join(f"{x} {y}" for x, y, _ in found)
    marks = "".join(
        f'<g class="point {colour}">{_whisker(x, point.cell, up)}'
        f'<circle cx="{x}" cy="{y}" r="3.4"/><title>{escape(point.says)}</title></g>'
        for x, y, point in found
    )
    return f'<path class="run {colour}" d="M{join}"/>{marks}'


def _whisker(x: float, cell: Cell, up: Axis) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f'<path d="M{x} {up.at(cell.low)}V{up.at(cell.high)}"/>'


def _levels(up: Axis, sheet: Sheet) -> str:
    return "".join(
        f'<path class="grid" d="M{LEFT} {up.at(tick)}H{sheet.width - RIGHT}"/>'
        f'<text class="side-tick" x="{LEFT - 6}" y="{up.at(tick) + 3.5}">{tick_text(tick)}</text>'
        for tick in up.ticks(4)
    )


def _marks(across: Axis, places: Sequence[tuple[float, str]], sheet: Sheet) -> str:
    """Write the texts below; one that would touch its neighbour is left out."""
    bottom, free, body = sheet.height - BOTTOM, 0.0, []
    for value, text in sorted(places):
        x, half = across.at(value), len(text) * LETTER / 2
        body.append(f'<path class="grid" d="M{x} {bottom}v4"/>')
        if x - half >= free:
            body.append(f'<text class="tick" x="{x}" y="{bottom + 16}">{escape(text)}</text>')
            free = x + half + LETTER
    return "".join(body)
