"""CAG and leakage of a task, from the trace that its run kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mild_bench.metrics.cag.trace import Summary, Trace
from mild_bench.metrics.view import Settings, Value
from mild_bench.protocol import Protocol


@dataclass(frozen=True)
class TraceMeasure:
    """A metric that reads a trace; pictures do not matter to it.

    Attributes:
        protocol: names the part of the batch and the threshold.
        read: takes the number, or the reason why there is none, from the part's summary.
    """

    protocol: Protocol
    read: Callable[[Summary], Value]

    def value(self, trace: Trace) -> Value:
        """Return the number, or the reason why there is none."""
        wanted = self.protocol.attention_threshold
        if trace.threshold != wanted:
            return (
                f"the trace was taken with a threshold of {trace.threshold:g}, and the protocol "
                f"asks for {wanted:g}; erase again"
            )
        part = chosen_part(trace, self.protocol.attention_part)
        if part is None:
            parts = ", ".join(trace.parts)
            return f"the protocol asks for part {self.protocol.attention_part}, there are {parts}"
        return self.read(trace.where(part=part).summary())


def chosen_part(trace: Trace, wanted: str) -> str | None:
    """Return ``wanted`` or, where the batch has no parts, the only one; None when neither."""
    if wanted in trace.parts or not trace.parts:
        return wanted
    return trace.parts[0] if len(trace.parts) == 1 else None


def cag_measure(settings: Settings) -> TraceMeasure:
    """Set up ``cag``: in nats, higher is better."""
    return TraceMeasure(settings.protocol, lambda summary: summary.reason or summary.cag)


def leakage_measure(settings: Settings) -> TraceMeasure:
    """Set up ``leakage``: in [0, 1], lower is better; 0 where CAG is infinite."""
    return TraceMeasure(
        settings.protocol,
        lambda summary: summary.reason if math.isnan(summary.leakage) else summary.leakage,
    )
