"""The section on damaged priors: a small plot for each kind of damage and score."""

from __future__ import annotations

from collections.abc import Sequence

from mild_bench.leaderboards import numbers
from mild_bench.leaderboards.curves import SMALL, Curve, Point, curve_plot, up_axis
from mild_bench.leaderboards.damage import DamageCurve, damage_curves, shown_columns
from mild_bench.leaderboards.page_data import View
from mild_bench.leaderboards.plots import Axis
from mild_bench.leaderboards.ranking import Board, Column, Row
from mild_bench.leaderboards.scatter import colour_class


def damage_view(board: Board) -> View | None:
    """Return what the section's template fills in; None when no rows differ in damage alone."""
    curves = damage_curves(board)
    sets = [_score(board, curves, column) for column in shown_columns(board)]
    sets = [one for one in sets if one["plots"]]
    if not sets:
        return None
    labels = _labels(curves)
    return {
        "sets": sets,
        "legend": [{"label": label, "colour": colour_class(n)} for n, label in enumerate(labels)],
    }


def _labels(curves: Sequence[DamageCurve]) -> list[str]:
    return list(dict.fromkeys(curve.label for curve in curves))


def _score(board: Board, curves: Sequence[DamageCurve], column: Column) -> View:
    """One row of plots: a score under every kind of damage, all on one scale."""
    drawn = [curve for curve in curves if len(_known(curve, column)) > 1]
    cells = [row.cells[column.key] for curve in drawn for _, row in _known(curve, column)]
    axis = up_axis(cells, SMALL)
    kinds = dict.fromkeys(curve.damage for curve in drawn)
    return {
        "title": f"{numbers.title(column)} {numbers.arrow(column)}",
        "better": column.card.better,
        "plots": [
            {"title": kind.title, "svg": _plot(board, same, column, axis, _labels(curves))}
            for kind in kinds
            if axis and (same := [curve for curve in drawn if curve.damage == kind])
        ],
        "lines": [line for curve in drawn for line in _lines(board, curve, column)],
    }


def _plot(
    board: Board, curves: Sequence[DamageCurve], column: Column, axis: Axis, labels: Sequence[str]
) -> str:
    damage = curves[0].damage
    places = sorted({strength for curve in curves for strength, _ in _known(curve, column)})
    drawn = [
        Curve(
            labels.index(curve.label),
            tuple(_point(board, curve, column, *point) for point in known),
        )
        for curve in curves
        if (known := _known(curve, column))
    ]
    return curve_plot(
        f"{numbers.title(column)} against {damage.title}",
        drawn,
        [(place, damage.says(place)) for place in places],
        axis,
        SMALL,
    )


def _point(board: Board, curve: DamageCurve, column: Column, strength: float, row: Row) -> Point:
    cell, places = row.cells[column.key], numbers.column_decimals(board, column)
    value = f"{numbers.number(cell.mean, places)} {numbers.interval(cell, places)}".strip()
    text = f"{row.label}, {curve.damage.setting} {curve.damage.says(strength)}: {value}"
    return Point(strength, cell, text)


def _lines(board: Board, curve: DamageCurve, column: Column) -> list[View]:
    places = numbers.column_decimals(board, column)
    first = curve.points[0][1]
    return [
        {
            "damage": f"{curve.damage.setting} {curve.damage.says(strength)}",
            "label": row.label,
            "value": numbers.number(row.cells[column.key].mean, places),
            "bounds": numbers.interval(row.cells[column.key], places),
            "change": "" if row is first else _change(board, first, row, column, places),
            "why": row.cells[column.key].reason or "",
        }
        for strength, row in curve.points
    ]


def _change(board: Board, first: Row, row: Row, column: Column, places: int) -> str:
    """Write the paired difference to the least damage: sharper than two intervals."""
    if first.cells[column.key].mean is None or row.cells[column.key].mean is None:
        return ""
    standing = board.standing
    names, values = standing.answered(column.key, standing.task_ids)
    worse, least = (values[standing.labels.index(one.label)] for one in (row, first))
    found = standing.bootstrap.difference(worse, least, standing.scenes(names))
    sign = "+" if found.mean > 0 else ""
    if found.low is None or found.high is None:
        return f"{sign}{numbers.number(found.mean, places)}"
    bounds = f"[{numbers.number(found.low, places)}, {numbers.number(found.high, places)}]"
    return f"{sign}{numbers.number(found.mean, places)} {bounds} {numbers.p_value(found.p)}"


def _known(curve: DamageCurve, column: Column) -> list[tuple[float, Row]]:
    return [point for point in curve.points if point[1].cells[column.key].mean is not None]
