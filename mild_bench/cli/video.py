"""`mild-bench curate video`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""

    @app.command("video")
    def video(
        file: Annotated[Path, typer.Argument(help="A video from a camera that stands still.")],
        out: Annotated[Path, typer.Option(help="The workspace to fill; a new folder.")],
        every: Annotated[int, typer.Option(help="Take every so many frames.")] = 5,
        people_min: Annotated[int, typer.Option(help="Reject frames with fewer people.")] = 2,
        max_scenes: Annotated[
            int, typer.Option(help="At most so many scenes of each kind (frames, moved).")
        ] = 60,
        limit: Annotated[
            float,
            typer.Option(help="Reject frames that differ from the plate by more grey levels."),
        ] = 6.0,
        seed: Annotated[int, typer.Option(help="Of the moved scenes.")] = 0,
        split: Annotated[str, typer.Option(help="The split all its scenes belong to.")] = "test",
        name: Annotated[
            str | None, typer.Option(help="Of the place; default: the file's name.")
        ] = None,
        licence: Annotated[str, typer.Option(help="Of the video.")] = "unknown",
        credit: Annotated[
            list[str] | None, typer.Option(help="A line every copy must carry; repeatable.")
        ] = None,
    ) -> None:
        """Turn a fixed-camera video into scenes of real people with a derived background."""
        from mild_bench.curation.filming.survey import Settings
        from mild_bench.curation.filming.video import curate_video, default_name

        made = curate_video(
            file,
            out,
            Settings(
                every=every,
                people_min=people_min,
                max_scenes=max_scenes,
                limit=limit,
                seed=seed,
                split=split,
                name=name if name is not None else default_name(file),
                licence=licence,
                credits=tuple(credit or ()),
            ),
        )
        typer.echo(
            f"{out}: {made.frame_scenes} scenes of real frames ({made.to_review} to review) and "
            f"{made.moved_scenes} of moved people; {made.usable} of {made.sampled} sampled frames "
            "are usable"
        )
        for reason, count in made.rejected.items():
            typer.echo(f"  {count} rejected: {reason}")
