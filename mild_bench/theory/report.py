"""The report: claims with their intervals, tables, prose. Every number comes from the run."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from mild_bench.errors import BadInput
from mild_bench.store import canonical_json, number_or_none, write_bytes
from mild_bench.theory.experiment import Findings, Row, Way
from mild_bench.theory.figures import ROUNDING, Measure, curves, of_excess, pictures
from mild_bench.theory.prose import prose
from mild_bench.theory.slopes import Interval, slope


@dataclass(frozen=True)
class Claim:
    """A slope of log(value) per nat of margin: what theory expects, what was found.

    ``expected`` is the limit for large margins; ``found`` is None where too few margins were above
    0 to fit one.
    """

    name: str
    theorem: str
    expected: float
    found: Interval | None

    def verdict(self) -> str:
        """Say in words how the interval lies to what was expected."""
        if self.found is None:
            return "not measured: too few models with two margins above 0"
        if self.found.low <= self.expected <= self.found.high:
            return "agrees"
        return "steeper" if self.found.high < self.expected else "flatter"


def claims(findings: Findings) -> list[Claim]:
    """Fit every slope the theorems speak of."""
    plan: list[tuple[str, str, float, Way, Measure, float]] = []
    ways: tuple[tuple[Way, str, str], ...] = (
        ("content", "Theorem 1", "features"),
        ("bias", "Theorem 2", "SMA"),
    )
    for way, theorem, by in ways:
        plan += [
            (f"block, separated by {by}", theorem, -1, way, lambda r: (r.margin, r.cross), 0),
            (f"rho, separated by {by}", theorem, -1, way, lambda r: (r.margin, r.coupling), 0),
            (f"excess of kappa, separated by {by}", theorem, -2, way, of_excess, ROUNDING),
        ]
    plan += [
        ("background branch's part of the block, only that branch separated", "Theorem 1", -1,
         "one-sided", lambda r: (r.margin_bg, r.cross_bg), 0),
        ("whole block, only the background branch separated", "its limit", 0,
         "one-sided", lambda r: (r.margin_bg, r.cross), 0),
    ]  # fmt: skip
    seed = findings.settings.seed
    return [
        Claim(name, theorem, expected, slope(curves(findings, way, of), seed=seed, floor=floor))
        for name, theorem, expected, way, of, floor in plan
    ]


def write_report(findings: Findings, out: Path) -> list[Claim]:
    """Write pictures, tables and prose into ``out``, each file atomically; return the claims.

    Raises:
        BadInput: ``out`` cannot be a folder, or cannot be written.
    """
    found = claims(findings)
    files = pictures(findings)
    files["table.csv"] = _csv(findings.rows).encode()
    files["table.md"] = table(findings, found).encode()
    files["theory.json"] = canonical_json(_as_json(findings, found))
    files["theory.md"] = prose(findings, claim_table(found)).encode()
    for name, data in files.items():
        write_bytes(out / name, data)
    return found


def check_folder(out: Path) -> None:
    """Refuse, before the work begins, what cannot become the folder.

    Raises:
        BadInput: ``out`` is a file.
    """
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: expected a folder to write to, got a file; name another with --out")


def claim_table(found: list[Claim]) -> str:
    """Return the slopes as a Markdown table."""
    lines = [
        "| slope per nat of | paper | expected | found | 95% interval | models | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        had = one.found
        numbers = (
            f"{had.mean:.3f} | {had.low:.3f} to {had.high:.3f} | {had.models}" if had else "| | 0"
        )
        lines.append(
            f"| {one.name} | {one.theorem} | {one.expected:g} | {numbers} | {one.verdict()} |"
        )
    return "\n".join(lines) + "\n"


def table(findings: Findings, found: list[Claim]) -> str:
    """Return the slopes, and the median over models at each separation, as Markdown."""
    names = ("margin", "margin_bg", "cag", "leakage", "cross", "cross_bg", "coupling", "kappa",
             "kappa_apart", "loss")  # fmt: skip
    lines = [f"| separated by | nats | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for way, given in dict.fromkeys((row.way, row.given) for row in findings.rows):
        rows = [row for row in findings.rows if (row.way, row.given) == (way, given)]
        cells = [f"{median(getattr(row, name) for row in rows):.4g}" for name in names]
        lines.append(f"| {way if given else 'nothing'} | {given:g} | {' | '.join(cells)} |")
    medians = "\n".join(lines)
    return f"{claim_table(found)}\nMedians over models:\n\n{medians}\n"


def _csv(rows: tuple[Row, ...]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Row)])
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def _as_json(findings: Findings, found: list[Claim]) -> dict[str, Any]:
    """Return everything; what is infinite or undefined (hard separation) is null."""

    def plain(value: dict[str, Any]) -> dict[str, Any]:
        return {
            key: number_or_none(item)
            if isinstance(item, float) and not math.isfinite(item)
            else item
            for key, item in value.items()
        }

    return {
        "settings": asdict(findings.settings),
        "claims": [{**asdict(one), "verdict": one.verdict()} for one in found],
        "models": [plain(asdict(row)) for row in findings.rows],
        "bias_shifts": [plain(asdict(shift)) for shift in findings.shifts],
    }
