"""`mild-bench curate review | sync | accept | reject`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mild_bench.curation.ledger import Decision, Verdict

Workspace = Annotated[Path, typer.Argument(help="Folder that compose or video filled.")]
Name = Annotated[str | None, typer.Option(help="FiftyOne data set [default: the folder's name].")]
Scenes = Annotated[list[str], typer.Argument(help="Ids of scenes.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("review")
    def review(
        workspace: Workspace,
        show: Annotated[bool, typer.Option("--app", help="Serve the App until Ctrl-C.")] = False,
        port: Annotated[int, typer.Option(help="Port of the App.")] = 5151,
        name: Name = None,
    ) -> None:
        """Open or update a workspace in FiftyOne; tags set in the App go to the ledger."""
        from mild_bench.curation.reviewing.app_server import check_port
        from mild_bench.curation.reviewing.review import review as bring_up_to_date

        if show:
            check_port(port)
        _let_signals_interrupt()
        done = bring_up_to_date(workspace, name=name)
        _tell(done.decisions)
        print(
            f"FiftyOne data set {done.name!r}: {done.added} scenes added, {done.updated} updated, "
            f"{done.removed} removed, {done.unchanged} unchanged"
        )
        if show:
            _serve(workspace, name, port)

    @app.command("sync")
    def sync(workspace: Workspace, name: Name = None) -> None:
        """Take the tags accept, reject and fix from the App over into the ledger."""
        from mild_bench.curation.reviewing.review import sync as take_over

        _let_signals_interrupt()
        _tell(take_over(workspace, name=name))

    @app.command("accept")
    def accept(
        workspace: Workspace,
        scenes: Scenes,
        reason: Annotated[str, typer.Option(help="Why.")] = "",
    ) -> None:
        """Accept scenes for releases."""
        _decide(workspace, scenes, "accepted", reason)

    @app.command("reject")
    def reject(
        workspace: Workspace,
        scenes: Scenes,
        reason: Annotated[str, typer.Option(help="Why; it stands in the ledger.")],
    ) -> None:
        """Reject scenes: they leave the next release."""
        _decide(workspace, scenes, "rejected", reason)


def _serve(workspace: Path, name: str | None, port: int) -> None:
    from mild_bench.curation.reviewing.review import serve
    from mild_bench.curation.reviewing.review import sync as take_over

    def ready(address: str) -> None:
        print(f"App: {address}\ntag scenes accept, reject:<why> or fix:<why>; Ctrl-C when done")

    try:
        serve(workspace, name=name, port=port, ready=ready)
    except KeyboardInterrupt:
        print()
    _tell(take_over(workspace, name=name))


def _decide(workspace: Path, scenes: list[str], verdict: Verdict, reason: str) -> None:
    from mild_bench.curation.reviewing.verdicts import decide_by_hand

    changed = decide_by_hand(workspace, scenes, verdict, reason)
    print(f"{verdict}: {changed} of {len(scenes)} scenes ({len(scenes) - changed} were already)")


def _tell(decisions: tuple[Decision, ...] | list[Decision]) -> None:
    for decision in decisions:
        because = f": {decision.reason}" if decision.reason else ""
        print(f"{decision.scene_id} {decision.verdict}{because}")
    print(f"{len(decisions)} new decisions from the App in the ledger")


def _let_signals_interrupt() -> None:
    """End like Ctrl-C when the terminal closes, so that the tags are read and mongod stops."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
