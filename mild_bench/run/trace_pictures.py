"""The pictures of traces that a run keeps, as a board's page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mild_bench.errors import BadInput
from mild_bench.images import read_rgb
from mild_bench.leaderboards.pictures import shrink, webp_uri
from mild_bench.store import inside, read_json, sha256_file

WIDTH = 1200  # pixels: the smallest text of a trace's picture is still read
QUALITY = 55  # flat colours and text bear more loss than photographs


def trace_digests(run: Path, task_ids: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 of each trace's picture that the notes of a run promise."""
    found = {}
    for task_id in task_ids:
        note = inside(run / "tasks", f"{task_id}.json")
        values = read_json(note) if note.is_file() else None
        probe = values.get("probe") if isinstance(values, dict) else None
        if isinstance(probe, dict) and isinstance(probe.get("picture"), str):
            found[task_id] = probe["picture"]
    return found


def trace_uri(run: Path, task_id: str, digest: str) -> str:
    """Return a trace's picture as a data address.

    Raises:
        BadInput: it is not there, or not the one that the run wrote.
    """
    path = inside(run / "traces", f"{task_id}.png")
    if not path.is_file() or sha256_file(path) != digest:
        raise BadInput(
            f"{path}: expected the picture of the trace that the run wrote, got another or none; "
            "erase this task again with the same --probe"
        )
    return webp_uri(shrink(read_rgb(path, convert=True), WIDTH), quality=QUALITY)
