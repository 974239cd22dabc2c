"""Verdict tags and the ledger, brought to agree: on a FiftyOne data set, without importing it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.curation.ledger import Decision, current, record
from mild_bench.curation.reviewing.app_layout import MASKS, SLICES
from mild_bench.curation.reviewing.verdicts import decide, is_verdict, layer_mark, settled_tags

UNDECIDED = Decision("", "to-review", "", "")


@dataclass(frozen=True)
class Tagged:
    """A picture's tags: on the picture, verdicts on its masks, and both when last settled."""

    scene: str
    tags: tuple[str, ...]
    layer_marks: frozenset[str]
    mirrored: frozenset[str]

    @property
    def marks(self) -> frozenset[str]:
        """All verdicts on the picture."""
        return self.layer_marks | {tag for tag in self.tags if is_verdict(tag)}


def all_pictures(dataset: Any) -> Any:
    """All pictures, not only those of the slice that the App shows."""
    return dataset.select_group_slices(list(SLICES))


def take_over_tags(dataset: Any, workspace: Path) -> list[Decision]:
    """Write what the tags newly say into the ledger."""
    added: dict[str, set[str]] = defaultdict(set)
    removed: dict[str, set[str]] = defaultdict(set)
    for picture in _tagged(dataset):
        added[picture.scene] |= picture.marks - picture.mirrored
        removed[picture.scene] |= picture.mirrored - picture.marks
    found = [decide(scene, added[scene], removed[scene]) for scene in sorted(added)]
    decisions = [decision for decision in found if decision is not None]
    record(workspace, decisions)
    return decisions


def mirror_ledger(dataset: Any, workspace: Path) -> None:
    """Make verdict fields and verdict tags say what the ledger says."""
    ledger = current(workspace)
    before = _tagged(dataset)
    verdict_tags: dict[str, set[str]] = defaultdict(set)
    for picture in before:
        verdict_tags[picture.scene] |= {tag for tag in picture.tags if is_verdict(tag)}
    tags, mirrored = [], []
    for picture in before:
        scene = picture.scene
        settled = settled_tags(picture.tags, verdict_tags[scene], ledger.get(scene))
        tags.append(settled)
        mirrored.append(sorted({*filter(is_verdict, settled), *picture.layer_marks}))
    decisions = [ledger.get(picture.scene, UNDECIDED) for picture in before]
    _set(dataset, "tags", tags)
    _set(dataset, "mirrored", mirrored)
    _set(dataset, "verdict", [decision.verdict for decision in decisions])
    _set(dataset, "verdict_reason", [decision.reason or None for decision in decisions])
    _set(dataset, "verdict_by", [decision.by or None for decision in decisions])


def _set(dataset: Any, field: str, values: list[Any]) -> None:
    samples = all_pictures(dataset)
    if samples.values(field) != values:
        samples.set_values(field, values)


def _tagged(dataset: Any) -> list[Tagged]:
    """Return the tags of all pictures, in the order of ``all_pictures``."""
    layers = [f"{field}.detections" for field in MASKS]
    columns = ["scene_id", "tags", "mirrored"]
    columns += [f"{layer}.{part}" for layer in layers for part in ("layer_id", "tags")]
    pictures = []
    for scene, tags, mirrored, *parts in zip(*all_pictures(dataset).values(columns), strict=True):
        marks = {
            layer_mark(tag, layer_id)
            for ids, lists in zip(parts[::2], parts[1::2], strict=True)
            for layer_id, layer_tags in zip(ids or [], lists or [], strict=True)
            for tag in layer_tags or []
            if is_verdict(tag)
        }
        pictures.append(
            Tagged(scene, tuple(tags or []), frozenset(marks), frozenset(mirrored or []))
        )
    return pictures
