"""Joints and body parts of the people in a release's scenes, as annotated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mild_bench.errors import BadInput
from mild_bench.images import Grey, decode_png
from mild_bench.scene import Keypoint

FIELDS = ("layer_id", "kind", "keypoints", "parts")
COLUMNS = ["scene_id", *(f"layers.list.element.{name}" for name in FIELDS)]


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
    """Those of a ``scenes-<split>.parquet``; the scene that was read last is kept."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is read when a scene is asked for."""
        self.path = path
        self._rows: dict[str, int] | None = None
        self._last: tuple[str, Morphology] | None = None

    def of(self, scene_id: str) -> Morphology:
        """Return a scene's; empty where the file has no such scene or column.

        Raises:
            BadInput: the file is damaged.
        """
        import pyarrow as pa

        if self._last is None or self._last[0] != scene_id:
            try:
                self._last = (scene_id, self._read(scene_id))
            except (OSError, pa.ArrowException) as error:
                raise BadInput(
                    f"{self.path}: expected a whole parquet file, got a damaged one ({error}); "
                    "fetch it again"
                ) from error
        return self._last[1]

    def _read(self, scene_id: str) -> Morphology:
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(self.path, page_checksum_verification=True) as file:
            if self._rows is None:
                self._rows = {
                    name: group
                    for group in range(file.num_row_groups)
                    for name in file.read_row_group(group, columns=["scene_id"])[
                        "scene_id"
                    ].to_pylist()
                }
            if scene_id not in self._rows:
                return Morphology()
            rows = file.read_row_group(self._rows[scene_id], columns=COLUMNS).to_pylist()
        row = next(row for row in rows if row["scene_id"] == scene_id)
        return _morphology(row.get("layers") or [])


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
