"""Run every quality rule over a workspace and count what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.curation.auditing.between_scenes import Entry, entry, near_duplicates, split_leaks
from mild_bench.curation.auditing.quality import (
    check_plate,
    check_sharpness,
    check_size,
    check_visibility,
)
from mild_bench.curation.ledger import Decision, Verdict, current
from mild_bench.curation.scene_folder import read_scene, scene_folders
from mild_bench.errors import BadInput
from mild_bench.images import read_rgb
from mild_bench.progress import tracked
from mild_bench.task import BIN_EDGES

RULES = frozenset(
    f"rule:{name}"
    for name in (
        "corrupt", "tiny", "blur", "plate", "few-pixels", "near-duplicate", "group-leak",
        "subject-leak", "audit",
    )
)  # fmt: skip
SEVERITY: tuple[Verdict, ...] = ("accepted", "to-review", "rejected")
CHALLENGES = ("human_human", "human_object", "human_background")


@dataclass(frozen=True)
class BalanceRow:
    """How many scenes that are not rejected have one property, by split."""

    of: str
    value: str
    counts: dict[str, int]


@dataclass(frozen=True)
class QualityReport:
    """What an audit found.

    Attributes:
        scenes: how many were read, broken ones included.
        found: the worst finding of each faulty scene, with all its reasons, by scene id.
        decisions: what belongs into the ledger: ``found`` without scenes that a person decided
            on or another command rejected, and an acceptance for each scene that an earlier
            audit objected to and this one does not.
        balance: counts over the scenes that are not rejected then.
    """

    scenes: int
    found: tuple[Decision, ...]
    decisions: tuple[Decision, ...]
    balance: tuple[BalanceRow, ...]


@dataclass(frozen=True)
class _Look:
    """One scene after the rules that need only it; ``entry`` is None when it is out already."""

    scene_id: str
    findings: list[Decision]
    entry: Entry | None = None
    tags: tuple[tuple[str, str], ...] = ()
    split: str = ""


def audit(workspace: Path, *, against: Sequence[Path] = ()) -> QualityReport:
    """Check every scene of a workspace; writes nothing (``ledger.record`` does).

    Args:
        against: other workspaces (say, the test scenes while the train scenes are audited) whose
            pictures, places and people must not come again here; their scenes are not judged.

    Raises:
        BadInput: a workspace without scenes, a broken ledger, or ``against`` itself.
    """
    if workspace.resolve() in {folder.resolve() for folder in against}:
        raise BadInput(f"{workspace}: expected another workspace to audit against, got this one")
    known = current(workspace)
    others = [item for folder in against for item in _neighbours(folder)]
    looks = [_look(folder) for folder in tracked(scene_folders(workspace), "audit")]
    barred = {name for name, decision in known.items() if _is_barred(decision)}
    entries = [look.entry for look in looks if look.entry and look.scene_id not in barred]
    between = near_duplicates([*entries, *others]) + split_leaks([*entries, *others])
    found = _worst_of([finding for look in looks for finding in look.findings] + between)
    decisions = [
        decision for name, decision in found.items() if not _is_settled(known.get(name), decision)
    ] + _cleared(looks, found, known)
    after = {**known, **{decision.scene_id: decision for decision in decisions}}
    rejected = {name for name, decision in after.items() if decision.verdict == "rejected"}
    balance = _balance(look for look in looks if look.scene_id not in rejected)
    return QualityReport(len(looks), tuple(found.values()), tuple(decisions), balance)


def _look(folder: Path) -> _Look:
    try:
        scene, annotations = read_scene(folder)
        picture = read_rgb(folder / "input.png")
        findings = check_size(scene.scene_id, picture) + check_plate(scene, picture)
        if not findings:
            findings = check_sharpness(scene.scene_id, picture)
            findings += check_visibility(scene, annotations)
        tags = tuple(_tags(annotations, scene.truth_kind))
    except (ValueError, KeyError) as error:
        reason = f"cannot be read: {error}".replace(f"{folder}/", "")
        return _Look(folder.name, [Decision(folder.name, "rejected", reason, "rule:corrupt")])
    out = any(finding.verdict == "rejected" for finding in findings)
    seen = None if out else entry(scene, picture)
    return _Look(scene.scene_id, findings, seen, tags, scene.split)


def _neighbours(workspace: Path) -> Iterator[Entry]:
    rejected = {
        name for name, decision in current(workspace).items() if decision.verdict == "rejected"
    }
    for folder in tracked(scene_folders(workspace), f"read {workspace.name}"):
        scene, _ = read_scene(folder)
        if scene.scene_id not in rejected:
            yield entry(scene, read_rgb(folder / "input.png"), judged=False)


def _worst_of(findings: list[Decision]) -> dict[str, Decision]:
    """One decision a scene: the ledger's newest line counts, so two would hide each other."""
    by_scene: dict[str, list[Decision]] = {}
    for finding in findings:
        by_scene.setdefault(finding.scene_id, []).append(finding)
    worst = {}
    for name, mine in sorted(by_scene.items()):
        first = max(mine, key=lambda finding: SEVERITY.index(finding.verdict))
        reasons = [first.reason] + [other.reason for other in mine if other is not first]
        worst[name] = Decision(name, first.verdict, "; ".join(reasons), first.by)
    return worst


def _is_barred(known: Decision) -> bool:
    return known.verdict == "rejected" and known.by not in RULES


def _is_settled(known: Decision | None, fresh: Decision) -> bool:
    """Whether a person, or a stricter decision of another command, stands above a finding."""
    if known is None or known.by in RULES:
        return False
    by_person = not known.by.startswith("rule:")
    return by_person or SEVERITY.index(known.verdict) > SEVERITY.index(fresh.verdict)


def _cleared(
    looks: list[_Look], found: dict[str, Decision], known: dict[str, Decision]
) -> list[Decision]:
    names = [look.scene_id for look in looks if look.scene_id not in found]
    return [
        Decision(name, "accepted", "the audit has nothing against it any more", "rule:audit")
        for name in names
        if name in known and known[name].by in RULES and known[name].verdict != "accepted"
    ]


def _tags(annotations: dict[str, Any], truth_kind: str) -> Iterator[tuple[str, str]]:
    yield "people", str(annotations["people"])
    yield "occlusion", annotations["occlusion_bin"]
    present = [name for name in CHALLENGES if annotations["challenges"][name]["present"]]
    for name in present or ["none"]:
        yield "challenge", name
    yield "truth", truth_kind


def _balance(looks: Iterable[_Look]) -> tuple[BalanceRow, ...]:
    kept = list(looks)
    counts = Counter((tag, look.split) for look in kept for tag in look.tags)
    counts.update((("scenes", "all"), look.split) for look in kept)
    splits = sorted({look.split for look in kept})
    people = sorted({tag[1] for tag, _ in counts if tag[0] == "people"}, key=int)
    truths = sorted({tag[1] for tag, _ in counts if tag[0] == "truth"})
    rows = [
        ("scenes", "all"),
        *(("people", value) for value in people),
        *(("occlusion", value) for value in BIN_EDGES),
        *(("challenge", value) for value in (*CHALLENGES, "none")),
        *(("truth", value) for value in truths),
    ]
    return tuple(BalanceRow(*row, {split: counts[row, split] for split in splits}) for row in rows)
