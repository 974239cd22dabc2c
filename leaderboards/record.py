"""Records: what `mild-bench score` says of one eraser on one release under one protocol."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    model_validator,
)

from mild_bench.errors import BadInput
from mild_bench.store import read_json

SHOWN_FAULTS = 5
NonNegative = Annotated[FiniteFloat, Field(ge=0)]


class _Part(BaseModel):
    """Unknown fields are kept: a newer writer may say more than this reader knows."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)


class EraserInfo(_Part):
    """The eraser's card, as recorded."""

    name: str = Field(min_length=1)
    version: str
    licence: str = ""
    trained_on: list[str] = []
    needs: list[str] = []
    deterministic: bool = True
    control: Literal["first", "last"] | None = None
    needs_truth: bool = False
    settings: dict[str, JsonValue] = {}
    settings_hash: str = ""
    paper: str = ""


class ReleaseInfo(_Part):
    """The data set that was erased; ``tasks`` is how many it has."""

    name: str
    version: str
    hash: str
    tasks: int

    @property
    def label(self) -> str:
        """Name, version and the start of the hash, as readers see it."""
        return f"{self.name} {self.version} ({self.hash[:12]})"


class ProtocolInfo(_Part):
    """The rules of scoring that boards need; the others ride along."""

    name: str
    version: str
    hash: str
    primary: str
    primary_mode: Literal["raw", "composited"]
    bootstrap: int = Field(ge=100, le=100_000)
    seed: int = Field(ge=0)

    @property
    def label(self) -> str:
        """Name, version and hash, as readers see it."""
        return f"{self.name} {self.version} ({self.hash[:12]})"


class MetricInfo(_Part):
    """A metric's card, as recorded."""

    metric: str
    title: str
    version: str
    better: Literal["lower", "higher"]
    low: float | None = None
    high: float | None = None
    unit: str = ""
    regions: list[str] = []
    needs: list[str] = []
    paper: str = ""
    summary: str = ""
    harm: bool = False


class TaskRow(_Part):
    """One task's scores by ``metric/region/mode``; null has a reason."""

    task_id: str
    scene_id: str
    kind: str
    status: Literal["ok", "failed", "missing"]
    reason: str | None = None
    strata: dict[str, JsonValue] = {}
    seconds: NonNegative | None = None
    peak_mb: NonNegative | None = None
    scores: dict[str, FiniteFloat | None]
    reasons: dict[str, str] = {}

    def why_missing(self, key: str) -> str:
        """Say why there is no value under ``key``."""
        if self.status == "failed":
            return f"the eraser failed: {self.reason}"
        if self.status == "missing":
            return f"not run: {self.reason}"
        return self.reasons.get(key, "not scored")


class Record(_Part):
    """One eraser x release x protocol.

    Raises:
        ValueError: a task twice, a null without a reason, a failure without one, a score whose
            metric has no card.
    """

    schema_version: Literal[1] = Field(alias="schema")
    eraser: EraserInfo
    spec: str
    release: ReleaseInfo
    protocol: ProtocolInfo
    metrics: list[MetricInfo] = Field(min_length=1)
    weights: dict[str, dict[str, JsonValue]] = {}
    environment: dict[str, JsonValue] = {}
    seed: int
    tasks: list[TaskRow] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = [*self._task_faults(), *self._key_faults()]
        if faults:
            raise ValueError(_some(faults))
        return self

    def _task_faults(self) -> list[str]:
        counts = Counter(task.task_id for task in self.tasks)
        faults = [f"task {name!r} is there {n} times" for name, n in counts.items() if n > 1]
        for task in self.tasks:
            if task.status == "failed" and not task.reason:
                faults.append(f"task {task.task_id!r} failed without a reason")
            faults += [
                f"task {task.task_id!r}: {key} is null without a reason"
                for key, value in task.scores.items()
                if value is None and not task.reasons.get(key) and task.status == "ok"
            ]
        return faults

    def _key_faults(self) -> list[str]:
        metrics = {card.metric for card in self.metrics}
        keys = sorted({key for task in self.tasks for key in task.scores})
        return [
            f"score {key!r} is not metric/region/mode of a metric with a card"
            for key in keys
            if key.count("/") != 2 or key.split("/")[0] not in metrics
        ]


def read_record(path: Path) -> Record:
    """Read and check a record file.

    Raises:
        BadInput: not a whole record; names its first faults in one line.
    """
    return parse_record(read_json(path), name=str(path))


def parse_record(values: Any, *, name: str) -> Record:
    """Check JSON values and return them as a record.

    Raises:
        BadInput: not a whole record; names its first faults in one line.
    """
    try:
        return Record.model_validate(values)
    except ValidationError as error:
        faults = [
            f"{'.'.join(str(part) for part in fault['loc']) or 'record'}: {fault['msg']}"
            for fault in error.errors(include_url=False)
        ]
        raise BadInput(
            f"{name}: expected a record as 'mild-bench score' writes it, got {_some(faults)}; "
            "score the run again"
        ) from error


def check_together(records: Sequence[Record]) -> None:
    """Refuse records that cannot stand on one board.

    Raises:
        BadInput: none at all, or different releases, protocols, metric versions or scenes.
    """
    if not records:
        raise BadInput("board: expected at least one scored run, got none")
    _one_of("release", [(r.eraser.name, r.release.hash, r.release.label) for r in records])
    _one_of("protocol", [(r.eraser.name, r.protocol.hash, r.protocol.label) for r in records])
    versions: dict[str, tuple[str, str]] = {}
    scenes: dict[str, str] = {}
    for record in records:
        for card in record.metrics:
            version, other = versions.setdefault(card.metric, (card.version, record.eraser.name))
            if version != card.version:
                raise BadInput(
                    f"board: expected one version of {card.metric}, got {version} ({other}) and "
                    f"{card.version} ({record.eraser.name}); score the older run again"
                )
        for task in record.tasks:
            if scenes.setdefault(task.task_id, task.scene_id) != task.scene_id:
                raise BadInput(
                    f"board: task {task.task_id!r} is of scene {scenes[task.task_id]!r} in one "
                    f"record and {task.scene_id!r} in that of {record.eraser.name}; "
                    "score both runs again with the same release"
                )


def labels(records: Sequence[Record]) -> list[str]:
    """Return one name per record; equal names get their settings' hash.

    Raises:
        BadInput: the same eraser with the same settings twice.
    """
    names = Counter(record.eraser.name for record in records)
    found = [
        record.eraser.name
        if names[record.eraser.name] == 1
        else f"{record.eraser.name} #{record.eraser.settings_hash}"
        for record in records
    ]
    twice = [name for name, count in Counter(found).items() if count > 1]
    if twice:
        raise BadInput(
            f"board: expected every eraser once, got {twice[0]!r} more than once with the same "
            "settings; leave one of these runs out"
        )
    return found


def _one_of(what: str, found: list[tuple[str, str, str]]) -> None:
    first: dict[str, str] = {}
    for eraser, digest, label in found:
        first.setdefault(digest, f"{label} of {eraser}")
    if len(first) > 1:
        raise BadInput(
            f"board: expected one {what} for all runs, got {' and '.join(first.values())}; "
            f"make one board per {what}, or score again with the same one"
        )


def _some(faults: Sequence[str]) -> str:
    more = f" (and {len(faults) - SHOWN_FAULTS} more)" if len(faults) > SHOWN_FAULTS else ""
    return "; ".join(faults[:SHOWN_FAULTS]) + more
