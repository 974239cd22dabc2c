"""Two scores against each other, one dot a task, as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

from mild_bench.leaderboards.plots import Axis, tick_text
from mild_bench.leaderboards.stats import Floats

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 380, 62, 12, 10, 44
COLOURS = 8  # classes ``s0`` to ``s7`` in the style sheet; then again, with square dots


@dataclass(frozen=True)
class Cloud:
    """One eraser's tasks; ``across`` and ``up`` are equally long, without NaN."""

    label: str
    across: Floats
    up: Floats


def colour_class(place: int) -> str:
    """Return the class of the eraser at a place of the list."""
    return f"s{place % COLOURS}{' square' if place // COLOURS % 2 else ''}"


def scatter(clouds: Sequence[Cloud], *, across: str, up: str) -> Markup:
    """Draw every task as a dot and every eraser's mean as a ring; the axes' names are given."""
    shown = [cloud for cloud in clouds if len(cloud.across)]
    if not shown:
        return Markup("")
    x = _axis(np.concatenate([cloud.across for cloud in shown]), LEFT, WIDTH - RIGHT)
    y = _axis(np.concatenate([cloud.up for cloud in shown]), HEIGHT - BOTTOM, TOP)
    body = [_frame(x, y), _names(across, up)]
    for place, cloud in enumerate(clouds):
        if len(cloud.across):
            body.append(_dots(cloud, colour_class(place), x, y))
    for place, cloud in enumerate(clouds):
        if len(cloud.across):
            at = f'cx="{x.at(float(cloud.across.mean()))}" cy="{y.at(float(cloud.up.mean()))}"'
            title = f"<title>{escape(cloud.label)}: mean</title>"
            body.append(f'<circle class="mean {colour_class(place)}" {at} r="6">{title}</circle>')
    return Markup(
        f'<svg class="scatter" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(across)} against {escape(up)}">{"".join(body)}</svg>'
    )


def _axis(values: Floats, start: float, end: float) -> Axis:
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    return Axis(low - pad, high + pad, start, end)


def _dots(cloud: Cloud, colour: str, x: Axis, y: Axis) -> str:
    pairs = zip(cloud.across.tolist(), cloud.up.tolist(), strict=True)
    path = "".join(f"M{x.at(a)} {y.at(b)}h0" for a, b in pairs)
    return f'<path class="dots {colour}" d="{path}"><title>{escape(cloud.label)}</title></path>'


def _frame(x: Axis, y: Axis) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    across = [
        f'<path class="grid" d="M{x.at(tick)} {TOP}V{bottom}"/>'
        f'<text class="tick" x="{x.at(tick)}" y="{bottom + 15}">{tick_text(tick)}</text>'
        for tick in x.ticks(6)
    ]
    up = [
        f'<path class="grid" d="M{LEFT} {y.at(tick)}H{right}"/>'
        f'<text class="side-tick" x="{LEFT - 6}" y="{y.at(tick) + 3.5}">{tick_text(tick)}</text>'
        for tick in y.ticks(5)
    ]
    return "".join(across + up)


def _names(across: str, up: str) -> str:
    middle = (TOP + HEIGHT - BOTTOM) / 2
    return (
        f'<text class="tick" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}">'
        f"{escape(across)}</text>"
        f'<text class="tick" transform="translate(14 {middle}) rotate(-90)">{escape(up)}</text>'
    )
