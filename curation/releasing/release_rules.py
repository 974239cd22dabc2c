"""What has to hold before a release is frozen: distinct scenes, no leak between splits."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mild_bench.curation.ledger import current
from mild_bench.curation.scene_folder import scene_folders
from mild_bench.errors import BadInput
from mild_bench.release import MANIFEST, Release
from mild_bench.store import read_json


@dataclass(frozen=True)
class Candidate:
    """A scene that may join a release, without its pictures.

    Attributes:
        subjects: who is shown; unnamed people are left out.
        rejected: the reason if the ledger's newest verdict is ``rejected``.
    """

    folder: Path
    scene_id: str
    split: str
    group: str
    subjects: frozenset[str]
    rejected: str | None


def candidates(workspaces: list[Path]) -> list[Candidate]:
    """List the scenes of some workspaces by split and id; reads no pictures.

    Raises:
        BadInput: no workspace, no scenes, a broken ``scene.json``, or one id twice.
    """
    if not workspaces:
        raise BadInput("workspaces: expected at least one, got none; name a folder with scenes")
    found = [one for workspace in workspaces for one in _of_workspace(workspace)]
    seen: dict[str, Candidate] = {}
    for one in found:
        if one.scene_id in seen:
            raise BadInput(
                f"scene {one.scene_id}: expected ids that occur once, got it in "
                f"{seen[one.scene_id].folder} and {one.folder}; leave one workspace out"
            )
        seen[one.scene_id] = one
    return sorted(found, key=lambda one: (one.split, one.scene_id))


def refuse_leaks(kept: Collection[Candidate]) -> None:
    """Refuse scenes of different splits that show the same place or person.

    Raises:
        BadInput: all that two splits share, with a scene on either side, in one line.
    """
    leaks = [
        *_shared("group", [(one.group, one) for one in kept]),
        *_shared("subject", [(name, one) for one in kept for name in sorted(one.subjects)]),
    ]
    if leaks:
        more = f" and {len(leaks) - 3} more" if len(leaks) > 3 else ""
        raise BadInput(
            f"splits: expected no place and nobody in two of them, got "
            f"{'; '.join(leaks[:3])}{more}; reject these scenes or make them anew"
        )


def check_names(name: str, version: str, splits: Collection[str]) -> None:
    """Refuse names that could not be folder, file or split names.

    Raises:
        BadInput: with what is allowed.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name):
        raise BadInput(f"name: expected small letters, digits and '-', got {name!r}")
    if not re.fullmatch(r"\d+(\.\d+){1,2}", version):
        raise BadInput(f"version: expected numbers such as 1.0 or 1.0.2, got {version!r}")
    for split in splits:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", split):
            raise BadInput(f"split: expected small letters, digits and '_', got {split!r}")


def check_target(out: Path) -> None:
    """Refuse to freeze over anything but an older release and nothing else.

    Raises:
        BadInput: ``out`` is a file, or holds what no release wrote.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise BadInput(f"{out}: expected a folder to write, got something else; name another")
    files = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if not files:
        return
    if MANIFEST not in files:
        raise BadInput(
            f"{out}: expected a new folder or an older release, got a folder with other files; "
            "name another"
        )
    strange = sorted(files - {MANIFEST, *Release.open(out).manifest["files"]})
    if strange:
        raise BadInput(
            f"{out}: expected an older release and nothing else, got {strange[0]} beside it; "
            "move it away or name another folder"
        )


def _of_workspace(workspace: Path) -> list[Candidate]:
    verdicts = current(workspace)
    rejected = {name: one.reason for name, one in verdicts.items() if one.verdict == "rejected"}
    return [_read(folder, rejected) for folder in scene_folders(workspace)]


def _read(folder: Path, rejected: dict[str, str]) -> Candidate:
    values = read_json(folder / "scene.json")
    try:
        return Candidate(
            folder=folder,
            scene_id=values["scene_id"],
            split=values["split"],
            group=values["group"],
            subjects=frozenset(
                layer["subject"] for layer in values["layers"] if layer["kind"] == "person"
            )
            - {""},
            rejected=rejected.get(values["scene_id"]),
        )
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'scene.json'}: expected a scene, got no {error}") from error


def _shared(what: str, named: list[tuple[str, Candidate]]) -> list[str]:
    splits: dict[str, dict[str, str]] = defaultdict(dict)
    for name, one in named:
        splits[name].setdefault(one.split, one.scene_id)
    return [
        f"{what} {name} in " + " and ".join(f"{split} ({scene})" for split, scene in where.items())
        for name, where in sorted(splits.items())
        if len(where) > 1
    ]
