"""CAG and leakage as torchmetrics objects."""

from __future__ import annotations

from mild_bench.metrics.accumulate import PerPicture
from mild_bench.metrics.cag.trace import Trace


class AttentionGap(PerPicture):
    """Mean CAG over pictures, in nats, higher is better; pictures without one are left out."""

    higher_is_better = True

    def update(self, trace: Trace) -> None:
        """Add a picture's trace."""
        summary = trace.summary()
        self._add(summary.reason or summary.cag)


class Leakage(PerPicture):
    """Mean leakage over pictures, in [0, 1], lower is better; pictures without one are left out."""

    higher_is_better = False

    def update(self, trace: Trace) -> None:
        """Add a picture's trace."""
        summary = trace.summary()
        self._add(summary.reason if summary.leakage != summary.leakage else summary.leakage)
