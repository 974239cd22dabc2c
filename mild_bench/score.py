"""A score: one number of one metric, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Literal

Region = Literal["whole", "hole", "band", "outside", "hidden", "visible", "set"]
Mode = Literal["raw", "composited"]
REGIONS: tuple[Region, ...] = ("whole", "hole", "band", "outside")
MODES: tuple[Mode, ...] = ("raw", "composited")


@dataclass(frozen=True)
class MetricCard:
    """What a metric measures and needs.

    Attributes:
        metric: the id in records and on boards, such as ``lpips-alex``.
        better: ``lower`` or ``higher``.
        low, high: the range of values.
        needs: any of ``truth``, ``weights``, ``attention``, ``layers``, ``bystanders``.
        regions: where it is measured.
        harm: it measures what erasing breaks, so a picture left as it was may win.
    """

    metric: str
    title: str
    version: str
    better: Literal["lower", "higher"]
    low: float
    high: float
    unit: str
    regions: tuple[Region, ...]
    needs: tuple[str, ...]
    paper: str
    summary: str
    harm: bool = False

    def as_json(self) -> dict[str, object]:
        """Return the card as plain JSON values (infinite bounds become None)."""
        values = asdict(self)
        for bound in ("low", "high"):
            if math.isinf(values[bound]):
                values[bound] = None
        return values


@dataclass(frozen=True)
class Score:
    """One number, finite, or NaN with a reason.

    Raises:
        ValueError: NaN without a reason, a value with one, or an infinite value.
    """

    metric: str
    region: Region
    mode: Mode
    value: float
    reason: str | None = None

    def __post_init__(self) -> None:
        if math.isinf(self.value):
            raise ValueError(f"{self.key}: a score must be finite or NaN, got {self.value}")
        if math.isnan(self.value) != (self.reason is not None):
            raise ValueError(f"{self.key}: NaN and only NaN carries a reason, got {self}")

    @property
    def key(self) -> str:
        """Where it stands in a record: ``metric/region/mode``."""
        return f"{self.metric}/{self.region}/{self.mode}"


def missing(metric: str, region: Region, mode: Mode, reason: str) -> Score:
    """Return the score that cannot be computed."""
    return Score(metric, region, mode, math.nan, reason)
