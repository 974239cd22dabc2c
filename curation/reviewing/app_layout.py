"""How a workspace looks in the App: saved views, sidebar, colours, skeleton. Plain data."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from mild_bench.task import BIN_EDGES

SLICES = ("input", "truth", "plate")
MASKS = ("visible", "amodal")
CHALLENGES = ("human_human", "human_object", "human_background")


@dataclass(frozen=True)
class ViewSpec:
    """A saved view: the scenes whose ``field`` equals ``value``, by falling ``order_by``."""

    name: str
    field: str
    value: str | bool
    order_by: str
    description: str


def saved_views() -> list[ViewSpec]:
    """Return the views that every workspace has."""
    verdicts = [
        ViewSpec("to-review", "verdict", "to-review", "occlusion", "nobody has decided yet"),
        ViewSpec("accepted", "verdict", "accepted", "occlusion", "fit for a release"),
        ViewSpec("rejected", "verdict", "rejected", "occlusion", "left out of releases"),
    ]
    challenges = [
        ViewSpec(
            f"challenge {name.replace('_', '-')}", name, True, f"{name}_value",
            "the paper's challenge, strongest first",
        )
        for name in CHALLENGES
    ]  # fmt: skip
    bins = [
        ViewSpec(
            f"occlusion {name}", "occlusion_bin", name, "occlusion",
            f"highest occlusion rate among the people: {name}, from {edge:g}",
        )
        for name, edge in BIN_EDGES.items()
    ]  # fmt: skip
    return [*verdicts, *challenges, *bins]


SIDEBAR = {
    "tags": ["tags", "_label_tags"],
    "masks and joints": ["visible", "amodal", "keypoints"],
    "verdict": ["verdict", "verdict_reason", "verdict_by"],
    "occlusion": [
        "occlusion", "occlusion_bin", "people", "props", "crowd_index", "max_iou_box",
        "max_iou_mask", "order_cycles",
    ],
    "challenges": [field for name in CHALLENGES for field in (name, f"{name}_value")],
    "scene": ["scene_id", "split", "group", "truth_kind", "licence"],
    "metadata": ["id", "filepath", "metadata", "created_at", "last_modified_at", "picture",
                 "fingerprint", "mirrored"],
}  # fmt: skip
GRID_ZOOM = 8  # four pictures a row on a laptop; FiftyOne shows six
SHOWN = ["visible", "verdict", "occlusion_bin"]

# Paul Tol's bright scheme and two of his vibrant one: told apart with any colour vision.
PEOPLE = ("#EE6677", "#4477AA", "#CCBB44", "#228833", "#AA3377", "#66CCEE", "#EE7733", "#009988")
AMODAL = "#FFFFFF"
JOINTS = "#FFE14D"
VERDICTS = {"accepted": "#228833", "rejected": "#EE6677", "to-review": "#CCBB44"}
TAGS = {"accept": "#228833", "reject": "#EE6677", "fix": "#CCBB44"}

COCO_JOINTS = (
    "nose", "left eye", "right eye", "left ear", "right ear", "left shoulder", "right shoulder",
    "left elbow", "right elbow", "left wrist", "right wrist", "left hip", "right hip",
    "left knee", "right knee", "left ankle", "right ankle",
)  # fmt: skip
COCO_BONES = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip


def colour_scheme(layer_ids: Collection[str]) -> dict[str, Any]:
    """Return the arguments of FiftyOne's ColorScheme: one colour a layer, whole layers pale."""
    chosen = [
        {"value": layer_id, "color": PEOPLE[number % len(PEOPLE)]}
        for number, layer_id in enumerate(sorted(layer_ids))
    ]
    return {
        "color_by": "value",
        "color_pool": list(PEOPLE),
        "opacity": 0.55,
        "show_skeletons": True,
        "multicolor_keypoints": False,
        "fields": [
            {"path": "visible", "colorByAttribute": "layer_id", "valueColors": chosen},
            {"path": "amodal", **_by_value({"person": AMODAL, "prop": AMODAL})},
            {"path": "keypoints", **_by_value({"person": JOINTS})},
            {"path": "verdict", **_by_value(VERDICTS)},
            {"path": "tags", **_by_value(TAGS)},
        ],
    }


def _by_value(colours: dict[str, str]) -> dict[str, Any]:
    values = [{"value": value, "color": colour} for value, colour in colours.items()]
    return {"colorByAttribute": "label", "valueColors": values}
