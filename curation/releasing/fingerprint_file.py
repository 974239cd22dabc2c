"""Fingerprints of a workspace in one file, a line of JSON each, and the check against it."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mild_bench.curation.releasing.fingerprint import Fingerprint, Verdict, check, fingerprint
from mild_bench.curation.scene_folder import read_scene, scene_folders
from mild_bench.errors import BadInput
from mild_bench.progress import tracked
from mild_bench.store import write_bytes


@dataclass(frozen=True)
class CheckReport:
    """How the scenes of a workspace compare with a file of fingerprints.

    Attributes:
        counts: scenes by verdict.
        differing: what differs, by scene id.
        absent: scenes of the file that the workspace does not have.
    """

    counts: dict[Verdict, int]
    differing: dict[str, str]
    absent: int


def write_fingerprints(workspace: Path, path: Path) -> int:
    """Write the fingerprints of all scenes of a workspace; returns how many. Atomic.

    A name that ends in ``.gz`` is compressed.

    Raises:
        BadInput: no scenes, a broken one, or the file cannot be written.
    """
    prints = [
        fingerprint(read_scene(folder)[0])
        for folder in tracked(scene_folders(workspace), "taking fingerprints")
    ]
    lines = [json.dumps(asdict(one), sort_keys=True, separators=(",", ":")) for one in prints]
    data = "".join(line + "\n" for line in lines).encode()
    write_bytes(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return len(lines)


def read_fingerprints(path: Path) -> dict[str, Fingerprint]:
    """Read fingerprints by scene id.

    Raises:
        BadInput: no such file, or a line that is no fingerprint.
    """
    if not path.is_file():
        raise BadInput(f"{path}: no such file; make it with 'mild-bench curate fingerprint'")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: expected fingerprints, got a broken file ({error})") from error
    prints = {}
    for number, line in enumerate(data.splitlines(), start=1):
        try:
            values: dict[str, Any] = json.loads(line)
            one = Fingerprint(**{**values, "size": tuple(values["size"])})
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"{path}: line {number} is no fingerprint ({error})") from error
        prints[one.scene_id] = one
    return prints


def check_workspace(workspace: Path, path: Path) -> CheckReport:
    """Compare every scene of a workspace with its fingerprint.

    Raises:
        BadInput: no scenes, a broken one, or a file without fingerprints.
    """
    known = read_fingerprints(path)
    folders = scene_folders(workspace)
    counts: Counter[Verdict] = Counter()
    differing: dict[str, str] = {}
    seen = set()
    for folder in tracked(folders, "comparing"):
        scene, _ = read_scene(folder)
        seen.add(scene.scene_id)
        if scene.scene_id not in known:
            differing[scene.scene_id] = "the file does not have it"
            continue
        agreement = check(scene, known[scene.scene_id])
        counts[agreement.verdict] += 1
        if agreement.verdict == "differs":
            differing[scene.scene_id] = agreement.detail
    return CheckReport(dict(counts), differing, len(known.keys() - seen))
