"""Score many results of one task together: each distinct picture once, each truth once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mild_bench.errors import MissingPart
from mild_bench.images import Rgb, Rgba
from mild_bench.metrics.asked import Asked, Attention, Beside
from mild_bench.metrics.cag.scores import TraceMeasure
from mild_bench.metrics.cards import AnyMeasure, Entry, choose, entries_for
from mild_bench.metrics.layered import Layered, LayerMeasure
from mild_bench.metrics.view import Measure, Settings, Value, Values
from mild_bench.protocol import Protocol
from mild_bench.score import MODES, MetricCard, Mode, Region, Score, missing
from mild_bench.store import canonical_json, sha256
from mild_bench.task import Task

NO_TRUTH = "this task has no truth"


@dataclass(frozen=True)
class _Ready:
    card: MetricCard
    measure: AnyMeasure | None
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
            if isinstance(ready.measure, Measure | LayerMeasure)
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
        self,
        task: Task,
        results: Sequence[Rgb],
        beside: Sequence[Beside] | None = None,
        *,
        people: Mapping[str, Rgba] | None = None,
    ) -> list[list[Score]]:
        """Return the scores of each raw result, in the same order.

        A result's scores depend on nothing else in the list. Results are uint8 height x width x 3;
        one of another size than the task's input is resized or refused, as the protocol says.

        Args:
            beside: what each eraser gave beside its result.
            people: the complete people of the scene, RGBA, farthest first; where they are known.

        Raises:
            BadInput: people of another picture.
        """
        given = beside or [Beside()] * len(results)
        asked = Asked.of(task, self.protocol, results, given, people or {})
        values = {ready.card.metric: _values(ready, asked) for ready in self._ready}
        return [
            self.no_scores(one)
            if isinstance(one, str)
            else [
                _score(card, region, mode, values[card.metric][place][mode][region])
                for card in self.cards
                for region in card.regions
                for mode in MODES
            ]
            for place, one in enumerate(asked.results)
        ]

    def no_scores(self, reason: str) -> list[Score]:
        """Return every score of one result as missing, for one reason."""
        return [
            missing(card.metric, region, mode, reason)
            for card in self.cards
            for region in card.regions
            for mode in MODES
        ]


def _values(ready: _Ready, asked: Asked) -> list[dict[Mode, Values]]:
    """Return a metric's values of each result; nothing where a result does not fit."""
    if "attention" in ready.card.needs:
        return [_same(ready, _look(ready, one.attention)) for one in asked.beside]
    if "layers" in ready.card.needs:
        return _of_layers(ready, asked)
    found = _of_pictures(ready, asked)
    return [{mode: found[key] for mode, key in use.items()} for use in asked.uses]


def _of_pictures(ready: _Ready, asked: Asked) -> dict[str, Values]:
    reason = ready.reason
    if "truth" in ready.card.needs and asked.view.task.truth is None:
        reason = NO_TRUTH
    if not isinstance(ready.measure, Measure) or reason:
        return {key: dict.fromkeys(ready.card.regions, reason) for key in asked.pictures}
    found = ready.measure.measure(asked.view, list(asked.pictures.values()))
    return dict(zip(asked.pictures, found, strict=True))


def _of_layers(ready: _Ready, asked: Asked) -> list[dict[Mode, Values]]:
    answers = [ready.reason or one if isinstance(one, Layered) else one for one in asked.layered]
    whole = [one for one in answers if isinstance(one, Layered)]
    found: Iterator[Values] = iter(())
    if whole and isinstance(ready.measure, LayerMeasure):
        found = iter(ready.measure.measure(asked.layer_view, whole))
    return [
        _same(ready, one) if isinstance(one, str) else dict.fromkeys(MODES, next(found))
        for one in answers
    ]


def _look(ready: _Ready, attention: Attention) -> Value:
    if isinstance(attention, str):
        return attention
    assert isinstance(ready.measure, TraceMeasure), "whose card needs attention reads traces"
    return ready.measure.value(attention)


def _same(ready: _Ready, value: Value) -> dict[Mode, Values]:
    """Return one value for every region and mode."""
    return dict.fromkeys(MODES, dict.fromkeys(ready.card.regions, value))


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


def _score(card: MetricCard, region: Region, mode: Mode, value: Value) -> Score:
    if isinstance(value, str):
        return missing(card.metric, region, mode, value)
    return Score(card.metric, region, mode, value)
