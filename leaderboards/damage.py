"""What happens to an eraser when what it is told is damaged on purpose.

Rows of one eraser whose cards differ in one kind of damage alone are points of one curve. Kinds
are settings on the cards; which eraser has them does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from mild_bench.leaderboards.ranking import Board, Column, Row
from mild_bench.store import canonical_json

LAYER_METRICS = (
    "alpha-iou",
    "hidden-lpips",
)  # what layers show of priors; else the score that ranks
HOW_IT_RUNS = ("chunk", "device", "download", "offload")  # settings that leave the pictures alone


@dataclass(frozen=True)
class Damage:
    """A setting that says how much an eraser is misled.

    Attributes:
        title: names the axis.
        words: its values from the least damage on, where they are words; else they are numbers.
        companions: settings that go with it and are no difference of their own.
    """

    setting: str
    title: str
    words: tuple[str, ...] = ()
    companions: tuple[str, ...] = ()

    def strength(self, row: Row) -> float | None:
        """Return how strong the damage is; None where the card says nothing that is known."""
        value = row.record.eraser.settings.get(self.setting)
        if self.words:
            return float(self.words.index(value)) if value in self.words else None
        known = isinstance(value, int | float) and not isinstance(value, bool)
        return float(str(value)) if known else None

    def says(self, strength: float) -> str:
        """Write a strength."""
        return self.words[int(strength)] if self.words else f"{strength:g}"


DAMAGES = (
    Damage("drop", "Probability of a prior to be dropped"),
    Damage("jitter", "Standard deviation of joints, pixels"),
    Damage("swap", "Probability of left and right to be swapped"),
    Damage(
        "priors",
        "Where priors come from",
        words=("annotated", "seen", "detected"),
        companions=("pose_model", "parsing_model"),
    ),
)


@dataclass(frozen=True)
class DamageCurve:
    """One eraser under growing damage: at least two strengths, from the least on."""

    damage: Damage
    points: tuple[tuple[float, Row], ...]

    @property
    def label(self) -> str:
        """The row with the least damage."""
        return self.points[0][1].label


def damage_curves(board: Board) -> tuple[DamageCurve, ...]:
    """Return every curve, damage by damage, in the order of the board."""
    found = []
    for damage in DAMAGES:
        groups: dict[bytes, list[tuple[float, Row]]] = {}
        for row in board.rows:
            if (strength := damage.strength(row)) is not None:
                groups.setdefault(_otherwise(row, damage), []).append((strength, row))
        for points in groups.values():
            if len({strength for strength, _ in points}) > 1:
                ordered = sorted(points, key=lambda point: (point[0], point[1].label))
                found.append(DamageCurve(damage, tuple(ordered)))
    return tuple(found)


def undamaged_rows(board: Board) -> tuple[Row, ...]:
    """Return the real erasers without those that are another one with its priors spoilt.

    Spoilt copies stand in tables and in the plots of damage. Another source of priors spoils
    nothing: such a row is an eraser of its own.
    """
    spoilt = {
        row.label
        for curve in damage_curves(board)
        for strength, row in curve.points
        if not curve.damage.words and strength > curve.points[0][0]
    }
    return tuple(row for row in board.rows if row.label not in spoilt)


def shown_columns(board: Board) -> tuple[Column, ...]:
    """Return the scores to draw: those of layers where the board has some, else the primary."""
    layers = [column for column in board.headline if column.metric in LAYER_METRICS]
    primary = [] if board.primary is None else [board.primary]
    return tuple(sorted(layers, key=lambda column: LAYER_METRICS.index(column.metric)) or primary)


def _otherwise(row: Row, damage: Damage) -> bytes:
    """Return what must be equal for two rows to stand on one curve."""
    card = row.record.eraser
    ignored = {damage.setting, *damage.companions, *HOW_IT_RUNS}
    settings = {name: value for name, value in card.settings.items() if name not in ignored}
    return canonical_json([card.name.partition("[")[0], card.version, settings])
