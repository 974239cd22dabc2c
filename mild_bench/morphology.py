"""Joints and body parts of the people in a release's scenes, as annotated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mild_bench.images import Grey, decode_png
from mild_bench.scene import Keypoint
from mild_bench.scene_table import LAYERS, SceneTable

FIELDS = ("layer_id", "kind", "keypoints", "parts")
COLUMNS = tuple(LAYERS + name for name in FIELDS)


@dataclass(frozen=True)
class Morphology:
    """What is annotated of a scene's people, by id; complete, also where somebody is hidden.

    Attributes:
        keypoints: COCO-17, in pixels.
        parts: parsing labels as in ``Layer``, uint8 height x width.
    """

    keypoints: Mapping[str, tuple[Keypoint, ...]] = field(default_factory=dict)
    parts: Mapping[str, Grey] = field(default_factory=dict)


class Morphologies:
    """Those of a table of scenes; the scene that was read last is kept."""

    def __init__(self, scenes: SceneTable) -> None:
        """Take the table; it is read when a scene is asked for."""
        self._scenes = scenes
        self._last: tuple[str, Morphology] | None = None

    def of(self, scene_id: str) -> Morphology:
        """Return a scene's; empty where the file has no such scene or column.

        Raises:
            BadInput: the file is damaged.
        """
        if self._last is None or self._last[0] != scene_id:
            row = self._scenes.row(scene_id, COLUMNS)
            self._last = (scene_id, _morphology([] if row is None else row.get("layers") or []))
        return self._last[1]


def _morphology(layers: list[dict[str, Any]]) -> Morphology:
    people = [layer for layer in layers if layer.get("kind") == "person"]
    points = {layer["layer_id"]: layer.get("keypoints") or [] for layer in people}
    parts = {layer["layer_id"]: layer.get("parts") for layer in people}
    return Morphology(
        {name: tuple((x, y, int(v)) for x, y, v in one) for name, one in points.items() if one},
        {
            name: decode_png(one["bytes"], name=f"{name}: parts")
            for name, one in parts.items()
            if one
        },
    )
