"""`mild-bench curate audit`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mild_bench.curation.auditing.audit import QualityReport


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("audit")
    def audit_command(
        workspace: Annotated[Path, typer.Argument(help="Folder with scenes/.")],
        against: Annotated[
            list[Path] | None,
            typer.Option(help="Another workspace that must share no picture, place or person."),
        ] = None,
    ) -> None:
        """Check every scene, enter the findings into the ledger, print the balance.

        Broken, tiny and blurred pictures, truth that differs outside people and shadows, people
        one can hardly see, near duplicates, places and people in two splits. What a person
        decided stays.
        """
        from mild_bench.curation.auditing.audit import audit
        from mild_bench.curation.ledger import record

        report = audit(workspace, against=against or [])
        fresh = record(workspace, list(report.decisions))
        _print(report, fresh)


def _print(report: QualityReport, fresh: int) -> None:
    for decision in report.found:
        typer.echo(f"{decision.verdict:<10} {decision.scene_id}  {decision.by}  {decision.reason}")
    splits = list(report.balance[0].counts)
    typer.echo(f"{'':<12}{'':<18}" + "".join(f"{split:>8}" for split in splits))
    shown = ""
    for row in report.balance:
        label = row.of if row.of != shown else ""
        shown = row.of
        counts = "".join(f"{row.counts[split]:>8}" for split in splits)
        typer.echo(f"{label:<12}{row.value:<18}{counts}")
    faulty = sum(decision.verdict == "rejected" for decision in report.found)
    review = len(report.found) - faulty
    typer.echo(
        f"{report.scenes} scenes: {faulty} to reject, {review} to review; "
        f"{fresh} new lines in the ledger"
    )
