"""Score many results of one task together: each distinct picture once, each truth once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mild_bench.errors import MissingPart
from mild_bench.images import Rgb, composite
from mild_bench.metrics.cag.scores import TraceMeasure
from mild_bench.metrics.cag.trace import Trace
from mild_bench.metrics.cards import Entry, choose, entries_for
from mild_bench.metrics.view import Measure, Settings, Value, Values, View
from mild_bench.protocol import Protocol
from mild_bench.score import MODES, MetricCard, Mode, Region, Score, missing
from mild_bench.store import canonical_json, sha256
from mild_bench.task import Task

NO_TRUTH = "this task has no truth"
NO_TRACE = "scored without a trace of the attention"

Attention = Trace | str  # or the reason why there is none


@dataclass(frozen=True)
class _Ready:
    card: MetricCard
    measure: Measure | TraceMeasure | None
    reason: str = ""


class Scorer:
    """All metrics of a protocol, set up once; ``metrics`` keeps those named.

    Raises:
        BadInput: an unknown network, or weights that are not what they should be.
    """

    def __init__(
        self,
        protocol: Protocol,
        *,
        weights: Path | None = None,
        clip_checkpoint: Path | None = None,
        allow_download: bool = False,
        metrics: Collection[str] | None = None,
    ) -> None:
        self.protocol = _name_checkpoint(protocol, clip_checkpoint)
        settings = Settings(self.protocol, weights, clip_checkpoint, allow_download)
        entries = choose(entries_for(protocol.lpips_nets), metrics)
        self._ready = [_set_up(entry, settings) for entry in entries]

    @property
    def cards(self) -> tuple[MetricCard, ...]:
        """The metrics, in the order of their scores."""
        return tuple(ready.card for ready in self._ready)

    @property
    def weights(self) -> dict[str, dict[str, object]]:
        """By metric that needs any: source and sha256, or why they are missing."""
        return {
            ready.card.metric: ready.measure.weights
            if isinstance(ready.measure, Measure)
            else {"missing": ready.reason}
            for ready in self._ready
            if "weights" in ready.card.needs
        }

    @property
    def fingerprint(self) -> str:
        """Changes with every rule, metric version and weight that could change a number."""
        versions = {card.metric: card.version for card in self.cards}
        parts = {"protocol": self.protocol.as_json(), "metrics": versions, "weights": self.weights}
        return sha256(canonical_json(parts))

    def score(
        self, task: Task, results: Sequence[Rgb], attention: Sequence[Attention] | None = None
    ) -> list[list[Score]]:
        """Return the scores of each raw result, in the same order.

        A result's scores depend on nothing else in the list. Results are uint8 height x width x 3;
        one of another size than the task's input is resized or refused, as the protocol says.
        ``attention`` holds the trace of each result, or the reason why it has none.
        """
        view = View(task, self.protocol)
        fitted = [_fit(result, task, self.protocol.resize) for result in results]
        pictures: dict[str, Rgb] = {}
        uses = [_register(pictures, task, one) for one in fitted]
        values = {
            ready.card.metric: _measure(ready, ready.measure, view, pictures)
            for ready in self._ready
            if not isinstance(ready.measure, TraceMeasure)
        }
        return [
            self.no_scores(one) if isinstance(one, str) else self._collect(values, use, trace)
            for one, use, trace in zip(
                fitted, uses, attention or [NO_TRACE] * len(results), strict=True
            )
        ]

    def no_scores(self, reason: str) -> list[Score]:
        """Return every score of one result as missing, for one reason."""
        return [
            missing(card.metric, region, mode, reason)
            for card in self.cards
            for region in card.regions
            for mode in MODES
        ]

    def _collect(
        self, values: dict[str, dict[str, Values]], use: dict[Mode, str], attention: Attention
    ) -> list[Score]:
        seen = {
            ready.card.metric: _look(ready.measure, attention)
            for ready in self._ready
            if isinstance(ready.measure, TraceMeasure)
        }
        return [
            _score(card, region, mode, seen[card.metric])
            if card.metric in seen
            else _score(card, region, mode, values[card.metric][use[mode]][region])
            for card in self.cards
            for region in card.regions
            for mode in MODES
        ]


def _measure(
    ready: _Ready, measure: Measure | None, view: View, pictures: dict[str, Rgb]
) -> dict[str, Values]:
    reason = ready.reason
    if "truth" in ready.card.needs and view.task.truth is None:
        reason = NO_TRUTH
    if measure is None or reason:
        return {key: dict.fromkeys(ready.card.regions, reason) for key in pictures}
    found = measure.measure(view, list(pictures.values()))
    return dict(zip(pictures, found, strict=True))


def _look(measure: TraceMeasure, attention: Attention) -> Value:
    return attention if isinstance(attention, str) else measure.value(attention)


def _set_up(entry: Entry, settings: Settings) -> _Ready:
    try:
        return _Ready(entry.card, entry.make(settings))
    except MissingPart as error:
        return _Ready(entry.card, None, str(error))


def _name_checkpoint(protocol: Protocol, checkpoint: Path | None) -> Protocol:
    """Return the protocol with the checkpoint's hash, not its path, in place of the tag."""
    if checkpoint is None or not checkpoint.exists():
        return protocol
    from mild_bench.metrics.semantic import checkpoint_digest

    return replace(protocol, clip_weights=f"sha256:{checkpoint_digest(checkpoint)}")


def _fit(result: Rgb, task: Task, resize: str) -> Rgb | str:
    height, width = task.input.shape[:2]
    if result.shape == task.input.shape:
        return result
    if resize != "lanczos":
        return (
            f"the result is {result.shape[1]} x {result.shape[0]}, the task {width} x {height}, "
            "and the protocol refuses to resize"
        )
    from PIL import Image

    resized = Image.fromarray(result).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized)


def _register(pictures: dict[str, Rgb], task: Task, result: Rgb | str) -> dict[Mode, str]:
    """Add a result's two pictures, each only if it is new; return their keys."""
    if isinstance(result, str):
        return {}
    both: dict[Mode, Rgb] = {
        "raw": result,
        "composited": composite(result, task.input, task.mask),
    }
    keys: dict[Mode, str] = {mode: sha256(picture.tobytes()) for mode, picture in both.items()}
    for mode, key in keys.items():
        pictures.setdefault(key, both[mode])
    return keys


def _score(card: MetricCard, region: Region, mode: Mode, value: Value) -> Score:
    if isinstance(value, str):
        return missing(card.metric, region, mode, value)
    return Score(card.metric, region, mode, value)
