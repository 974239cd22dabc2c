"""What a probe saw: one row for each layer, step, part of the batch and head."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.store import write_bytes

Column = npt.NDArray[np.str_] | npt.NDArray[np.int64] | npt.NDArray[np.float64]
VALUES = ("leakage", "cag", "logit_gap", "margin")
TEXT = ("layer", "part", "reason")
WHOLE = ("step", "head", "height", "width", "background", "people", "region")
COLUMNS = (
    "layer", "step", "timestep", "part", "head", "height", "width", "background", "people",
    "region", *VALUES, "reason",
)  # fmt: skip
MAP_KEYS = {"part", "height", "width"}


@dataclass(frozen=True)
class Summary:
    """Means over the rows that have a value.

    Attributes:
        leakage: mean mass on people, in [0, 1]; NaN when no row has one.
        cag: mean log-odds in nats, higher = cleaner.
        logit_gap: in nats.
        margin: the least of all rows, in nats; NaN unless asked for.
        matrix: groups x groups, mean over rows where both groups have tokens.
        peak_layer: the layer that leaks most (mean over its steps and heads), None when none.
        peak_step: the step that leaks most.
        rows: how many rows have a CAG.
        left_out: how many have none.
        reason: why ``cag`` is NaN, or infinite; empty when it is a number.
    """

    leakage: float
    cag: float
    logit_gap: float
    margin: float
    matrix: npt.NDArray[np.float64]
    peak_layer: str | None
    peak_step: int | None
    rows: int
    left_out: int
    reason: str


@dataclass(frozen=True)
class LeakageMap:
    """Where people are looked at from, on one grid, in one part of the batch.

    Attributes:
        part: of the batch.
        height: tokens down.
        width: tokens across.
        cell_height: pixels of the picture that the model saw.
        cell_width: likewise.
        values: float32 height x width, in [0, 1]: the mass that the query at that place puts on
            people, mean over this grid's layers, heads and steps.
    """

    part: str
    height: int
    width: int
    cell_height: float
    cell_width: float
    values: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """A tidy table and, row by row, a leakage matrix.

    Attributes:
        columns: equally long: ``layer``, ``step``, ``timestep``, ``part`` (of the batch),
            ``head``, ``height`` and ``width`` of the grid, ``background``, ``people`` and
            ``region`` (how many tokens), ``leakage``, ``cag``, ``logit_gap``, ``margin``,
            ``reason`` (empty when the row has values).
        matrices: rows x groups x groups.
        groups: names of the groups: background, people, text, padding.
        skipped: by layer, why attention was seen but not taken.
        maps: one for each part and grid that has people; text is no place and not on them.
        erased: names of the people who are to be erased; empty when not told.
        threshold: of the masks on tokens, see ``Regions``.
    """

    columns: Mapping[str, Column]
    matrices: npt.NDArray[np.float64]
    groups: tuple[str, ...]
    skipped: Mapping[str, str]
    maps: tuple[LeakageMap, ...] = ()
    erased: tuple[str, ...] = ()
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.matrices)

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of the batch, in the order in which they were read."""
        return tuple(dict.fromkeys(self.columns["part"].tolist()))

    def where(self, **equal: str | int) -> Trace:
        """Return the rows whose columns equal the values: ``trace.where(part="cond", step=3)``.

        Maps are means over layers, heads and steps: choosing among those leaves no map.
        """
        keep = np.ones(len(self), dtype=bool)
        for name, value in equal.items():
            keep &= self.columns[name] == value
        columns = {name: column[keep] for name, column in self.columns.items()}
        on_maps = equal.keys() <= MAP_KEYS
        maps = tuple(one for one in self.maps if on_maps and _is(one, equal))
        return replace(self, columns=columns, matrices=self.matrices[keep], maps=maps)

    def mean_by(self, *names: str, value: str = "leakage") -> dict[tuple[str | int, ...], float]:
        """Return the mean of a column for each combination of other columns' values."""
        totals: dict[tuple[str | int, ...], list[float]] = {}
        keys = zip(*(self.columns[name].tolist() for name in names), strict=True)
        for key, number in zip(keys, self.columns[value].tolist(), strict=True):
            if not math.isnan(number):
                totals.setdefault(key, []).append(number)
        return {key: float(np.mean(numbers)) for key, numbers in totals.items()}

    def summary(self) -> Summary:
        """Return means over all rows; take ``where`` first to choose some."""
        cag = self.columns["cag"]
        has = ~np.isnan(cag)
        layers = self.mean_by("layer")
        steps = self.mean_by("step")
        margins = self.columns["margin"][~np.isnan(self.columns["margin"])]
        return Summary(
            leakage=_mean(self.columns["leakage"]),
            cag=_mean(cag),
            logit_gap=_mean(self.columns["logit_gap"]),
            margin=float(margins.min()) if margins.size else math.nan,
            matrix=_mean_matrix(self.matrices),
            peak_layer=str(max(layers, key=lambda key: layers[key])[0]) if layers else None,
            peak_step=int(max(steps, key=lambda key: steps[key])[0]) if steps else None,
            rows=int(has.sum()),
            left_out=int((~has).sum()),
            reason=self._reason(),
        )

    def _reason(self) -> str:
        cag = self.columns["cag"]
        if not len(self):
            return f"no self-attention was read: {'; '.join(sorted(set(self.skipped.values())))}"
        if np.isnan(cag).all():
            return "; ".join(sorted(set(self.columns["reason"].tolist())))
        values = set(cag.tolist())
        unseen = {"people": math.inf in values, "background": -math.inf in values}
        who = " and ".join(group for group, missed in unseen.items() if missed)
        return (
            f"in some rows no attention at all goes to {who}: CAG is infinite there" if who else ""
        )

    def as_columns(self) -> dict[str, list[str | int | float | list[list[float]]]]:
        """Return the table as plain lists (for parquet or pandas), matrices as a column."""
        plain = {name: column.tolist() for name, column in self.columns.items()}
        return {**plain, "matrix": self.matrices.tolist()}

    def as_json(self) -> dict[str, object]:
        """Return plain JSON values; NaN and infinities become None, reasons say why."""
        return {
            "groups": list(self.groups),
            "skipped": dict(self.skipped),
            "erased": list(self.erased),
            "threshold": self.threshold,
            "columns": {name: _plain(values) for name, values in self.as_columns().items()},
            "maps": [{**vars(one), "values": one.values.tolist()} for one in self.maps],
        }

    def save(self, path: Path) -> None:
        """Write the trace as a compressed ``.npz``, atomically; numbers are kept as float32.

        The same trace gives the same bytes. docs/cag.md says what is in the file.

        Raises:
            BadInput: it cannot be written there.
        """
        from mild_bench.metrics.cag.trace_file import trace_bytes

        write_bytes(path, trace_bytes(self))

    @classmethod
    def load(cls, path: Path) -> Trace:
        """Read what ``save`` wrote; nothing in the file is run.

        Raises:
            BadInput: no such file, or no trace.
        """
        from mild_bench.metrics.cag.trace_file import read_trace

        try:
            data = path.read_bytes()
        except OSError as error:
            raise BadInput(f"{path}: no trace could be read ({error.strerror})") from error
        return read_trace(data, name=str(path))


def _is(one: LeakageMap, equal: Mapping[str, str | int]) -> bool:
    return all(getattr(one, name) == value for name, value in equal.items())


def _mean(values: Column) -> float:
    known = values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        return float(known.mean()) if known.size else math.nan


def _mean_matrix(matrices: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    known = ~np.isnan(matrices)
    counts = known.sum(axis=0)
    totals = np.where(known, matrices, 0).sum(axis=0)
    mean: npt.NDArray[np.float64] = np.full(counts.shape, np.nan)
    np.divide(totals, counts, out=mean, where=counts > 0)
    return mean


def _plain(value: object) -> object:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
