"""The ranked table: complete rows by the protocol's primary score, controls apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mild_bench.errors import BadInput
from mild_bench.leaderboards.record import (
    MetricInfo,
    ProtocolInfo,
    Record,
    ReleaseInfo,
    check_together,
    labels,
)
from mild_bench.leaderboards.standing import Cell, Standing
from mild_bench.leaderboards.stats import Difference, Floats, SceneBootstrap
from mild_bench.score import MODES

REGION_ORDER = ("hole", "band", "outside", "hidden", "visible", "whole")


@dataclass(frozen=True)
class Column:
    """One score key and what its metric's card says."""

    key: str
    card: MetricInfo

    @property
    def metric(self) -> str:
        """The metric's id."""
        return self.key.split("/")[0]

    @property
    def region(self) -> str:
        """Where it is measured."""
        return self.key.split("/")[1]

    @property
    def mode(self) -> str:
        """``raw`` or ``composited``."""
        return self.key.split("/")[2]

    @property
    def lower_is_better(self) -> bool:
        """The direction of the metric."""
        return self.card.better == "lower"


@dataclass(frozen=True)
class Row:
    """One eraser.

    Attributes:
        rank: place by the primary score (equal means share it); None for controls and for rows
            without a primary mean.
        rank_low, rank_high: the places that 95% of the resamples give it.
        notes: what a reader must know before comparing.
    """

    label: str
    record: Record
    cells: dict[str, Cell]
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def control(self) -> str | None:
        """``first``, ``last`` or None for a real eraser."""
        return self.record.eraser.control


@dataclass(frozen=True)
class Comparison:
    """A paired test between neighbours of the ranking on the primary score."""

    better: str
    worse: str
    difference: Difference

    @property
    def clear(self) -> bool:
        """Whether the two are told apart at the 5% level."""
        return self.difference.p is not None and self.difference.p < 0.05


@dataclass(frozen=True)
class Board:
    """A ranked table over one release and one protocol.

    Attributes:
        columns: every score key that any record has a value for, in card order.
        rows: real erasers, best first, those without a rank last.
        controls: erasers that must come out first or last.
        comparisons: between each ranked row and the next.
        absent: score keys without any value, with the reason.
        warnings: what concerns the board as a whole.
    """

    release: ReleaseInfo
    protocol: ProtocolInfo
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    controls: tuple[Row, ...]
    comparisons: tuple[Comparison, ...]
    absent: dict[str, str]
    warnings: tuple[str, ...]
    standing: Standing

    @property
    def primary(self) -> Column | None:
        """The column that ranks; None when nobody has a value for it."""
        found = [column for column in self.columns if column.key == self.protocol.primary]
        return found[0] if found else None

    @property
    def headline(self) -> tuple[Column, ...]:
        """One column per metric: the primary first, then each metric where it says most."""
        chosen = {column.metric: column for column in reversed(self._preferred())}
        if self.primary:
            chosen[self.primary.metric] = self.primary
        ordered = [chosen[metric] for metric in dict.fromkeys(c.metric for c in self.columns)]
        return tuple(sorted(ordered, key=lambda column: column != self.primary))

    def absent_by_reason(self) -> dict[str, list[str]]:
        """Return what nobody has, by reason; a metric without any score by its id alone."""
        present = {column.metric for column in self.columns}
        found: dict[str, dict[str, None]] = {}
        for key, why in self.absent.items():
            metric = key.split("/")[0]
            found.setdefault(why, {})[key if metric in present else metric] = None
        return {why: list(names) for why, names in found.items()}

    def _preferred(self) -> list[Column]:
        places = {region: place for place, region in enumerate(REGION_ORDER)}
        return sorted(
            self.columns,
            key=lambda c: (c.mode != self.protocol.primary_mode, places.get(c.region, 9)),
        )


def rank_records(records: Sequence[Record]) -> Board:
    """Build the board of some records; their order does not matter.

    Raises:
        BadInput: records that do not belong together.
    """
    check_together(records)
    paired = sorted(zip(labels(records), records, strict=True), key=lambda pair: pair[0])
    protocol = records[0].protocol
    bootstrap = SceneBootstrap(protocol.bootstrap, protocol.seed)
    standing = Standing(tuple(p[0] for p in paired), tuple(p[1] for p in paired), bootstrap)
    columns, absent, cells = _columns(standing, protocol)
    rows = [
        Row(label, record, {key: cells[key][place] for key in cells}, notes=_notes(record))
        for place, (label, record) in enumerate(paired)
    ]
    primary = next((column for column in columns if column.key == protocol.primary), None)
    real = _ranked([row for row in rows if row.control is None], primary, standing)
    controls = [row for row in rows if row.control is not None]
    return Board(
        release=records[0].release,
        protocol=protocol,
        columns=tuple(columns),
        rows=tuple(real),
        controls=tuple(sorted(controls, key=lambda row: (row.control or "", row.label))),
        comparisons=tuple(_comparisons(real, primary, standing)),
        absent=absent,
        warnings=_warnings(records[0].release, protocol, standing, absent),
        standing=standing,
    )


def _columns(
    standing: Standing, protocol: ProtocolInfo
) -> tuple[list[Column], dict[str, str], dict[str, list[Cell]]]:
    cards = {card.metric: card for record in standing.records for card in record.metrics}
    keys = {key for record in standing.records for task in record.tasks for key in task.scores}
    keys.add(protocol.primary)
    columns, absent, cells = [], {}, {}
    for key in sorted(keys, key=lambda key: _card_order(key, list(cards))):
        found = standing.cells(key, standing.task_ids)
        if any(cell.tasks for cell in found):
            columns.append(Column(key, cards[key.split("/")[0]]))
            cells[key] = found
        else:
            absent[key] = min(cell.reason or "" for cell in found)
    return columns, absent, cells


def _card_order(key: str, metrics: list[str]) -> tuple[int, int, int, str]:
    metric, region, mode = key.split("/")
    place = metrics.index(metric) if metric in metrics else len(metrics)
    where = REGION_ORDER.index(region) if region in REGION_ORDER else len(REGION_ORDER)
    return place, MODES[::-1].index(mode) if mode in MODES else len(MODES), where, key


def _ranked(rows: list[Row], primary: Column | None, standing: Standing) -> list[Row]:
    complete = [row for row in rows if primary and row.cells[primary.key].mean is not None]
    others = sorted((row for row in rows if row not in complete), key=lambda row: row.label)
    if primary is None or not complete:
        return others
    sign = 1 if primary.lower_is_better else -1
    means = {row.label: sign * _mean(row, primary.key) for row in complete}
    complete.sort(key=lambda row: (means[row.label], row.label))
    ranges = _rank_ranges(complete, primary, standing)
    placed = []
    for row, span in zip(complete, ranges, strict=True):
        rank = 1 + sum(mean < means[row.label] for mean in means.values())
        low, high = span or (None, None)
        placed.append(Row(row.label, row.record, row.cells, rank, low, high, row.notes))
    return placed + others


def _rank_ranges(
    rows: list[Row], primary: Column, standing: Standing
) -> list[tuple[int, int] | None]:
    values, names = _complete_values(rows, primary, standing)
    found = standing.bootstrap.rank_ranges(
        values, standing.scenes(names), lower_is_better=primary.lower_is_better
    )
    return [None if span is None else (span.low, span.high) for span in found]


def _comparisons(rows: list[Row], primary: Column | None, standing: Standing) -> list[Comparison]:
    ranked = [row for row in rows if row.rank is not None]
    if primary is None or len(ranked) < 2:
        return []
    values, names = _complete_values(ranked, primary, standing)
    scenes = standing.scenes(names)
    return [
        Comparison(
            ranked[place].label,
            ranked[place + 1].label,
            standing.bootstrap.difference(values[place], values[place + 1], scenes),
        )
        for place in range(len(ranked) - 1)
    ]


def _complete_values(
    rows: list[Row], primary: Column, standing: Standing
) -> tuple[Floats, list[str]]:
    names, values = standing.answered(primary.key, standing.task_ids)
    places = [standing.labels.index(row.label) for row in rows]
    return values[places], names


def _mean(row: Row, key: str) -> float:
    mean = row.cells[key].mean
    if mean is None:
        raise BadInput(f"{row.label}: no mean for {key}")
    return mean


def _notes(record: Record) -> tuple[str, ...]:
    card = record.eraser
    failed = [task for task in record.tasks if task.status == "failed"]
    missing = [task for task in record.tasks if task.status == "missing"]
    notes = []
    if any(_same_data(name, record.release.name) for name in card.trained_on):
        notes.append(f"trained on {record.release.name}: not a fair comparison")
    if card.needs_truth:
        notes.append("looks at the truth")
    if failed:
        notes.append(f"{len(failed)} of {len(record.tasks)} tasks failed: {failed[0].reason}")
    if missing:
        notes.append(f"{len(missing)} of {len(record.tasks)} tasks were not run")
    if not card.deterministic:
        notes.append("not deterministic: another run may differ")
    return tuple(notes)


def _same_data(trained_on: str, release: str) -> bool:
    """Overlap by name: a split or version of the release counts as the release."""
    plain = trained_on.strip().lower()
    name = release.lower()
    return plain == name or any(plain.startswith(name + end) for end in (" ", "/", "-", ":", "@"))


def _warnings(
    release: ReleaseInfo, protocol: ProtocolInfo, standing: Standing, absent: dict[str, str]
) -> tuple[str, ...]:
    warnings = []
    covered = len(standing.task_ids)
    if covered < release.tasks:
        warnings.append(f"covers {covered} of the release's {release.tasks} tasks")
    if protocol.primary in absent:
        warnings.append(f"nobody can be ranked: {protocol.primary}: {absent[protocol.primary]}")
    if len(set(standing.scenes(standing.task_ids))) < 2:
        warnings.append("no intervals: they need tasks from at least two scenes")
    return tuple(warnings)
