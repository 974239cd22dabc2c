"""Sanity controls: a metric that ranks them wrongly is flagged with what happened.

A control ``first`` (``truth``) must not be beaten by anybody. A control ``last`` (``copy-input``,
``mean-fill``, ``blur``) must not beat the best real eraser where people were erased (hole and
whole picture); outside of the mask and on its band, and where a
metric measures harm, leaving the picture alone is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mild_bench.leaderboards.ranking import Board, Column, Row
from mild_bench.leaderboards.standing import Cell

ERASED_REGIONS = ("hole", "whole")
TOLERANCE = 1e-9  # relative: equal scores must not be told apart by rounding


@dataclass(frozen=True)
class ControlFault:
    """One score key that ranked one control wrongly."""

    key: str
    control: str
    text: str


@dataclass(frozen=True)
class ControlCheck:
    """What came of checking the controls.

    Attributes:
        checked: how many control x score key pairs could be checked.
        faults: those that came out wrong.
        unchecked: why nothing, or some control, could not be checked.
    """

    checked: int
    faults: tuple[ControlFault, ...]
    unchecked: tuple[str, ...]

    def metrics(self) -> list[str]:
        """Return the ids of the metrics with a fault, in board order."""
        return list(dict.fromkeys(fault.key.split("/")[0] for fault in self.faults))

    def of_key(self, key: str) -> list[ControlFault]:
        """Return the faults of one score key."""
        return [fault for fault in self.faults if fault.key == key]


def check_controls(board: Board) -> ControlCheck:
    """Check every control on every score key where a verdict is possible."""
    checked = 0
    faults = []
    unchecked = [] if board.controls else ["no control is among the runs"]
    for control in board.controls:
        verdicts = list(_verdicts(board, control))
        checked += len(verdicts)
        faults += [fault for fault in verdicts if fault is not None]
        if not verdicts:
            unchecked.append(f"{control.label}: no mean that a verdict could rest on")
    return ControlCheck(checked, tuple(faults), tuple(unchecked))


def all_warnings(board: Board, check: ControlCheck) -> list[str]:
    """Return what concerns the board as a whole, a ranking score that fails first."""
    flagged = [
        f"the score that ranks is flagged: {fault.text}"
        for fault in check.of_key(board.protocol.primary)
    ]
    return [*flagged, *board.warnings]


def _verdicts(board: Board, control: Row) -> Iterator[ControlFault | None]:
    for column in board.columns:
        cell = control.cells[column.key]
        if cell.mean is None:
            continue
        if control.control == "first":
            rivals = [row for row in (*board.rows, *board.controls) if row is not control]
        elif column.region in ERASED_REGIONS and not column.card.harm:
            rivals = list(board.rows)
        else:
            continue
        best = _best(rivals, column)
        if best is not None:
            yield _judge(control, cell, best, column)


def _judge(
    control: Row, cell: Cell, best: tuple[Row, float], column: Column
) -> ControlFault | None:
    row, value = best
    mean = cell.mean or 0.0
    gap = value - mean if column.lower_is_better else mean - value
    slack = TOLERANCE * max(abs(mean), abs(value))
    if control.control == "first" and gap < -slack:
        what = f"{row.label} ({value:.4g}) beats {control.label} ({mean:.4g}), which is the answer"
    elif control.control == "last" and gap > slack:
        what = f"{control.label} ({mean:.4g}) beats the best real eraser, {row.label} ({value:.4g})"
    else:
        return None
    return ControlFault(column.key, control.label, what)


def _best(rows: list[Row], column: Column) -> tuple[Row, float] | None:
    found = [(row, mean) for row in rows if (mean := row.cells[column.key].mean) is not None]
    if not found:
        return None
    sign = 1 if column.lower_is_better else -1
    return min(found, key=lambda pair: (sign * pair[1], pair[0].label))
