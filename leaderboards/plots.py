"""Small SVG plots: an interval in a table cell, and panels of one eraser each.

Colours and strokes are classes that the page's style sheet fills in. Every text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mild_bench.leaderboards.standing import Cell

CELL_WIDTH, CELL_HEIGHT = 84, 12
PANEL_WIDTH, LABEL_WIDTH, ROW_HEIGHT, TOP, BOTTOM, RIGHT = 250, 106, 18, 4, 20, 12


@dataclass(frozen=True)
class Axis:
    """A scale from values to pixels; ``log`` for values over several magnitudes."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    @classmethod
    def over(
        cls, cells: Sequence[Cell], *, start: float, end: float, log: bool = False
    ) -> Axis | None:
        """Return the axis that shows all means and intervals; None when there is nothing."""
        values = [
            value
            for cell in cells
            for value in (cell.mean, cell.low, cell.high)
            if value is not None and (value > 0 or not log)
        ]
        if not values:
            return None
        low, high = min(values), max(values)
        if log:
            return cls(low / 1.25, high * 1.25, start, end, log=True)
        pad = 0.06 * (high - low) or abs(high) * 0.05 or 1.0
        return cls(low - pad, high + pad, start, end)

    def at(self, value: float) -> float:
        """Return where a value lies, in pixels, to a tenth."""
        share = (self._scaled(value) - self._scaled(self.low)) / (
            self._scaled(self.high) - self._scaled(self.low)
        )
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, wanted: int = 3) -> list[float]:
        """Return round numbers inside the axis."""
        if self.log:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            powers = [10.0**power for power in range(first, last + 1)]
            if len(powers) > 1:
                return powers[:: math.ceil(len(powers) / wanted)]
        return self._linear(wanted)

    def _linear(self, wanted: int) -> list[float]:
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span / wanted))
        step = next(s for m in (1, 2, 5, 10, 20) if span / (s := step * m) <= wanted + 0.5)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(k * step, 12) for k in range(first, last + 1)]

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.log else value


def interval_plot(cell: Cell, axis: Axis | None, *, says: str) -> Markup:
    """Draw a mean as a dot on its interval; a mean off the scale as an arrowhead at the edge.

    ``says`` is the text for those who do not see it.
    """
    if axis is None or cell.mean is None:
        return Markup("")
    middle = CELL_HEIGHT / 2
    if not axis.low <= cell.mean <= axis.high:
        left = cell.mean < axis.low
        x, dx = (axis.start + 1, 5) if left else (axis.end - 1, -5)
        body = f'<path class="off" d="M{x} {middle}l{dx} -3.5v7z"/>'
    else:
        body = (
            _whisker(cell, axis, middle)
            + f'<circle cx="{axis.at(cell.mean)}" cy="{middle}" r="3"/>'
        )
    return Markup(
        f'<svg class="iv" width="{CELL_WIDTH}" height="{CELL_HEIGHT}" '
        f'viewBox="0 0 {CELL_WIDTH} {CELL_HEIGHT}" role="img" '
        f'aria-label="{escape(says)}">{body}</svg>'
    )


def panel(
    name: str,
    levels: Sequence[str],
    cells: Sequence[Cell],
    axis: Axis | None,
    *,
    ghost: str,
    says: Sequence[str],
    joined: bool,
) -> Markup:
    """Draw one eraser over the levels of a slice; ``ghost`` is the id of the others' marks.

    ``says`` has a tooltip per level.
    """
    height = TOP + ROW_HEIGHT * len(levels) + BOTTOM
    body = [_grid(axis, height), f'<use href="#{ghost}"/>' if axis else ""]
    points = [
        (axis.at(cell.mean), _row(place))
        for place, cell in enumerate(cells)
        if axis and cell.mean is not None
    ]
    if joined and len(points) > 1:
        body.append(f'<path class="join" d="M{"L".join(f"{x} {y}" for x, y in points)}"/>')
    for place, (level, cell) in enumerate(zip(levels, cells, strict=True)):
        y = _row(place)
        body.append(f'<text class="lv" x="0" y="{y + 3.5}">{escape(level)}</text>')
        if axis is None or cell.mean is None:
            body.append(f'<text class="none" x="{LABEL_WIDTH + 2}" y="{y + 3.5}">\u2013</text>')
            continue
        mark = _whisker(cell, axis, y) + f'<circle cx="{axis.at(cell.mean)}" cy="{y}" r="3.2"/>'
        body.append(f"<g>{mark}<title>{escape(says[place])}</title></g>")
    return Markup(
        f'<svg class="panel" viewBox="0 0 {PANEL_WIDTH} {height}" role="img" '
        f'aria-label="{escape(name)}">{"".join(body)}</svg>'
    )


def ghosts(name: str, rows: Sequence[Sequence[Cell]], axis: Axis | None) -> Markup:
    """Define faint ticks for every eraser's means, to be drawn behind each panel."""
    if axis is None:
        return Markup("")
    ticks = [
        f"M{axis.at(cell.mean)} {_row(place) - 4}v8"
        for cells in rows
        for place, cell in enumerate(cells)
        if cell.mean is not None
    ]
    return Markup(
        f'<svg class="defs" width="0" height="0" aria-hidden="true"><defs>'
        f'<path id="{name}" class="ghost" d="{"".join(ticks)}"/></defs></svg>'
    )


def panel_axis(cells: Sequence[Cell]) -> Axis | None:
    """Return the axis that all panels of a slice share."""
    return Axis.over(cells, start=LABEL_WIDTH, end=PANEL_WIDTH - RIGHT)


def cell_axis(cells: Sequence[Cell]) -> Axis | None:
    """Return the axis that all interval plots of a column share."""
    return Axis.over(cells, start=4, end=CELL_WIDTH - 4)


def _row(place: int) -> float:
    return TOP + ROW_HEIGHT * (place + 0.5)


def _whisker(cell: Cell, axis: Axis, y: float) -> str:
    if cell.low is None or cell.high is None:
        return ""
    return f'<path class="w" d="M{axis.at(cell.low)} {y}H{axis.at(cell.high)}"/>'


def _grid(axis: Axis | None, height: float) -> str:
    if axis is None:
        return ""
    bottom = height - BOTTOM
    lines = [
        f'<path class="grid" d="M{axis.at(tick)} {TOP}V{bottom}"/>'
        f'<text class="tick" x="{axis.at(tick)}" y="{height - 6}">{tick_text(tick)}</text>'
        for tick in axis.ticks()
    ]
    return "".join(lines)


def tick_text(value: float) -> str:
    """Write a number at an axis."""
    return f"{value:.6g}".replace("-", "\u2212")
