"""`mild-bench curate release`, `verify`, `fingerprint` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mild_bench.errors import BadInput


def register(app: typer.Typer) -> None:
    """Add the commands of this file to ``app``."""
    app.command("release")(release)
    app.command("verify")(verify)
    app.command("fingerprint")(fingerprint)
    app.command("check")(check)


def release(
    workspaces: Annotated[list[Path], typer.Argument(metavar="WORKSPACE...")],
    out: Annotated[Path, typer.Option(help="The release folder to write.")],
    name: Annotated[str, typer.Option(help="Such as mild-mini.")],
    version: Annotated[str, typer.Option(help="Such as 1.0.")],
    split: Annotated[list[str] | None, typer.Option(help="Keep only this split.")] = None,
    seed: Annotated[int, typer.Option(help="Decides which people the tasks are about.")] = 0,
) -> None:
    """Freeze workspaces into a release that datasets.load_dataset opens."""
    from mild_bench.curation.releasing.release import freeze

    frozen = freeze(
        workspaces,
        out,
        name=name,
        version=version,
        splits=split or (),
        seed=seed,
    )
    scenes = len(frozen.manifest["scenes"])
    rejected = len(frozen.manifest["rejected"])
    print(f"{frozen.name}: {len(frozen.task_ids())} tasks about {scenes} scenes in {out}")
    if rejected:
        print(f"left out: {rejected} rejected scenes, with their reasons in {out / 'README.md'}")
    print(f"hash {frozen.hash}")


def verify(folder: Annotated[Path, typer.Argument(metavar="DIR")]) -> None:
    """Check every file of a release against its manifest."""
    from mild_bench.release import Release

    frozen = Release.open(folder)
    if faults := frozen.faults():
        raise BadInput(f"{folder}: {'; '.join(faults)}; fetch or freeze it again")
    print(f"{frozen.name}: {len(frozen.manifest['files'])} files are as the manifest says")
    print(f"hash {frozen.hash}")


def fingerprint(
    workspace: Path,
    out: Annotated[Path, typer.Option(help="The file to write, one line a scene.")],
) -> None:
    """Write what each scene of a workspace looks like, to check rebuilt ones against."""
    from mild_bench.curation.releasing.fingerprint_file import write_fingerprints

    count = write_fingerprints(workspace, out)
    print(f"{count} scenes in {out} ({out.stat().st_size / 1000:.0f} kB)")


def check(
    workspace: Path,
    file: Annotated[Path, typer.Argument(help="Made by 'curate fingerprint'.")],
) -> None:
    """Compare rebuilt scenes with fingerprints: same bytes, within one grey level, or different."""
    from mild_bench.curation.releasing.fingerprint_file import check_workspace

    report = check_workspace(workspace, file)
    for scene_id, detail in report.differing.items():
        print(f"{scene_id} differs: {detail}")
    same, near = (report.counts.get(v, 0) for v in ("same bytes", "within one grey level"))
    print(
        f"{same} same bytes, {near} within one grey level, {len(report.differing)} differ; "
        f"{report.absent} of the file are not in the workspace"
    )
    if report.differing:
        raise BadInput(
            f"{workspace}: {len(report.differing)} scenes are not what {file} says; "
            "use the versions the release names, or freeze a new release"
        )
