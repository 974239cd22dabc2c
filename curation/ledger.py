"""The ledger: every decision about a scene, with its reason; the newest counts."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mild_bench.errors import BadInput
from mild_bench.store import write_bytes

Verdict = Literal["accepted", "rejected", "to-review"]
LEDGER = "ledger.jsonl"


@dataclass(frozen=True)
class Decision:
    """One line of the ledger; ``by`` is ``rule:<name>`` or ``person:<where>``."""

    scene_id: str
    verdict: Verdict
    reason: str
    by: str

    def __post_init__(self) -> None:
        if self.verdict == "rejected" and not self.reason.strip():
            raise BadInput(f"scene {self.scene_id}: a rejection needs a reason; pass --reason")


def read_ledger(workspace: Path) -> list[Decision]:
    """Return all decisions, oldest first; none if there is no ledger yet.

    Raises:
        BadInput: a line that is no decision.
    """
    path = workspace / LEDGER
    if not path.exists():
        return []
    decisions = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            decisions.append(Decision(**json.loads(line)))
        except (json.JSONDecodeError, TypeError) as error:
            raise BadInput(f"{path}: line {number} is no decision ({error})") from error
    return decisions


def current(workspace: Path) -> dict[str, Decision]:
    """Return the newest decision of each scene that has one."""
    return {decision.scene_id: decision for decision in read_ledger(workspace)}


def record(workspace: Path, decisions: list[Decision]) -> int:
    """Add decisions that change something; returns how many did. Atomic."""
    known = current(workspace)
    old = read_ledger(workspace)
    fresh = [new for new in decisions if known.get(new.scene_id) != new]
    if fresh:
        lines = [json.dumps(asdict(line), ensure_ascii=False) + "\n" for line in [*old, *fresh]]
        write_bytes(workspace / LEDGER, "".join(lines).encode())
    return len(fresh)
