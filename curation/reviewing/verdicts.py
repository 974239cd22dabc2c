"""What a reviewer's tags in the App say about a scene, as decisions for the ledger, and back.

Tags are ``accept``, ``reject`` and ``fix``, or with a reason: ``reject:floats above the road``. On
a single mask instead of the picture, the layer becomes part of the reason.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from pathlib import Path

from mild_bench.curation.ledger import Decision, Verdict, record
from mild_bench.curation.scene_folder import SCENES, scene_folders
from mild_bench.errors import BadInput

BY_APP = "person:app"
BY_COMMAND = "person:command line"
# The order is the order of weight, when one visit leaves several.
VERDICT_OF: dict[str, Verdict] = {"reject": "rejected", "fix": "to-review", "accept": "accepted"}
UNTAGGED = "its tag was removed in the App"


def is_verdict(tag: str) -> bool:
    """Whether a tag is one of ours; all others are the reviewer's own and stay as they are."""
    return _word(tag) in VERDICT_OF


def layer_mark(tag: str, layer_id: str) -> str:
    """Return the tag of one mask as a tag of its scene."""
    reason = _reason(tag)
    return f"{_word(tag)}:{reason} ({layer_id})" if reason else f"{_word(tag)}:{layer_id}"


def decide(scene_id: str, added: Collection[str], removed: Collection[str]) -> Decision | None:
    """Return what the reviewer newly says about a scene, None if nothing.

    Args:
        added: verdict tags that came since tags and ledger last agreed.
        removed: those that went; without a new one the scene is to be reviewed again.
    """
    for word, verdict in VERDICT_OF.items():
        found = sorted(tag for tag in added if _word(tag) == word)
        if found:
            reasons = [_reason(tag) for tag in found if _reason(tag)]
            return Decision(scene_id, verdict, _spoken(word, "; ".join(reasons)), BY_APP)
    return Decision(scene_id, "to-review", UNTAGGED, BY_APP) if removed else None


def settled_tags(
    tags: Collection[str], marks: Collection[str], decision: Decision | None
) -> list[str]:
    """Return a picture's tags once they agree with the ledger, sorted.

    Args:
        tags: all tags of the picture.
        marks: the verdict tags of all pictures of the scene.
        decision: the newest one on the scene, if there is any.
    """
    own = {tag for tag in tags if not is_verdict(tag)}
    if decision is None:
        return sorted(own)
    agree = {tag for tag in marks if VERDICT_OF.get(_word(tag)) == decision.verdict}
    if not agree and decision.verdict != "to-review":
        agree = {word for word, verdict in VERDICT_OF.items() if verdict == decision.verdict}
    return sorted(own | agree)


def _spoken(word: str, reason: str) -> str:
    if word == "accept":
        return reason
    if word == "fix":
        return f"fix: {reason}" if reason else "tagged fix in the App"
    return reason or "tagged reject in the App without a reason"


def _word(tag: str) -> str:
    return tag.partition(":")[0].strip().lower()


def _reason(tag: str) -> str:
    return tag.partition(":")[2].strip()


def decide_by_hand(workspace: Path, scenes: list[str], verdict: Verdict, reason: str) -> int:
    """Write a decision made at the command line into the ledger; returns how many are new.

    Raises:
        BadInput: a scene that is not in the workspace (then nothing is written), or a rejection
            without a reason.
    """
    known = [folder.name for folder in scene_folders(workspace)]
    for scene in scenes:
        if scene not in known:
            near = difflib.get_close_matches(scene, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"see {workspace / SCENES}"
            raise BadInput(
                f"scene: expected one of {len(known)} in the workspace, got {scene!r}; {hint}"
            )
    decisions = [Decision(scene, verdict, reason, BY_COMMAND) for scene in dict.fromkeys(scenes)]
    return record(workspace, decisions)
