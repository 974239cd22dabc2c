"""The scenes of a release, read one at a time, and the complete people in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mild_bench.errors import BadInput
from mild_bench.images import Rgba, decode_png

LAYERS = "layers.list.element."
PEOPLE = ("truth_kind", *(LAYERS + name for name in ("layer_id", "kind", "image")))


class SceneTable:
    """A ``scenes-<split>.parquet``."""

    def __init__(self, path: Path) -> None:
        """Name the file; it is read when a scene is asked for."""
        self.path = path
        self._groups: dict[str, int] | None = None

    def row(self, scene_id: str, columns: Sequence[str]) -> dict[str, Any] | None:
        """Return the named columns of a scene, those that the file has; None without the scene.

        Raises:
            BadInput: the file is damaged.
        """
        import pyarrow as pa

        try:
            return self._read(scene_id, ["scene_id", *columns])
        except (OSError, pa.ArrowException) as error:
            raise BadInput(
                f"{self.path}: expected a whole parquet file, got a damaged one ({error}); "
                "fetch it again"
            ) from error

    def people(self, scene_id: str) -> dict[str, Rgba]:
        """Return a scene's people by id, farthest first, complete also where somebody hides them.

        RGBA on the scene's full frame, straight alpha. Empty without the scene, without pictures
        of its people, and where only masks of what shows are known.

        Raises:
            BadInput: the file is damaged.
        """
        row = self.row(scene_id, PEOPLE)
        if row is None or row.get("truth_kind") == "masks-only":
            return {}
        return {
            layer["layer_id"]: decode_png(
                layer["image"]["bytes"], name=f"{scene_id}: layer {layer['layer_id']}"
            )
            for layer in row.get("layers") or []
            if layer.get("kind") == "person" and layer.get("image")
        }

    def _read(self, scene_id: str, columns: list[str]) -> dict[str, Any] | None:
        import pyarrow.parquet as parquet

        with parquet.ParquetFile(self.path, page_checksum_verification=True) as file:
            if self._groups is None:
                self._groups = {
                    name: group
                    for group in range(file.num_row_groups)
                    for name in file.read_row_group(group, columns=["scene_id"])[
                        "scene_id"
                    ].to_pylist()
                }
            if scene_id not in self._groups:
                return None
            rows = file.read_row_group(self._groups[scene_id], columns=columns).to_pylist()
        found: dict[str, Any] = next(row for row in rows if row["scene_id"] == scene_id)
        return found
