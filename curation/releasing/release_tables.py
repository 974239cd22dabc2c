"""The two tables of a release, in parquet that ``datasets`` opens with its pictures decoded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import encode_png, mask_to_grey
from mild_bench.scene import Layer, Scene
from mild_bench.task import Task

Row = dict[str, Any]


class Table:
    """A parquet file that is written row by row: one row in memory, one row per row group.

    The same rows give the same bytes (with one version of pyarrow). Pages carry checksums.
    """

    def __init__(self, path: Path, features: Any) -> None:
        import pyarrow.parquet as parquet

        self._schema = features.arrow_schema
        # Pictures are compressed already and never repeat: no dictionary, no statistics.
        self._writer = parquet.ParquetWriter(
            path,
            self._schema,
            compression="snappy",
            use_dictionary=False,
            write_statistics=False,
            write_page_checksum=True,
        )

    def __enter__(self) -> Table:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def add(self, row: Row) -> None:
        """Write one row."""
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist([row], schema=self._schema))


def task_row(task: Task) -> Row:
    """Return a task as a row of ``tasks-<split>.parquet``.

    Raises:
        BadInput: a task without strata.
    """
    if task.strata is None:
        raise BadInput(f"task {task.task_id}: a release needs its strata")
    return {
        "task_id": task.task_id,
        "scene_id": task.scene_id,
        "kind": task.kind,
        "erase": list(task.erase),
        "input": _picture(task.input, f"{task.scene_id}.png"),
        "mask": _picture(mask_to_grey(task.mask), f"{task.task_id}-mask.png"),
        "truth": None if task.truth is None else _picture(task.truth, f"{task.task_id}-truth.png"),
        "people_map": _picture(task.people, f"{task.scene_id}-people.png"),
        "person_ids": list(task.person_ids),
        **asdict(task.strata),
    }


def scene_row(scene: Scene, annotations: Mapping[str, Any]) -> Row:
    """Return a scene with all its layers as a row of ``scenes-<split>.parquet``."""
    return {
        "scene_id": scene.scene_id,
        "split": scene.split,
        "group": scene.group,
        "truth_kind": scene.truth_kind,
        "licence": scene.licence,
        "credits": list(scene.credits),
        "input": _picture(scene.recompose(), f"{scene.scene_id}.png"),
        "plate": _picture(scene.plate, f"{scene.scene_id}-plate.png"),
        "layers": [_layer(scene.scene_id, layer) for layer in scene.layers],
        "annotations": _text(annotations),
        "provenance": _text(scene.provenance),
    }


def task_features() -> Any:
    """Return the columns of the tasks as ``datasets.Features``."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    return Features(
        {
            "task_id": text,
            "scene_id": text,
            "kind": text,
            "erase": List(text),
            "input": Image(),
            "mask": Image(),
            "truth": Image(),
            "people_map": Image(),
            "person_ids": List(text),
            "people": Value("int32"),
            "erased": Value("int32"),
            "occlusion": Value("float64"),
            "occlusion_bin": text,
            "human_human": Value("bool"),
            "human_object": Value("bool"),
            "human_background": Value("bool"),
            "mask_area": Value("float64"),
            "mask_source": text,
            "truth_kind": text,
            "group": text,
        }
    )


def scene_features() -> Any:
    """Return the columns of the scenes as ``datasets.Features``."""
    from datasets import Features, Image, List, Value

    text = Value("string")
    names = ("layer_id", "kind", "subject", "attached_to", "relation", "person")
    layer = {
        **dict.fromkeys(names, text),
        "truncation": Value("float64"),
        "image": Image(),
        "effect": Image(),
        "parts": Image(),
        "keypoints": List(List(Value("float64"))),
    }
    return Features(
        {
            **dict.fromkeys(("scene_id", "split", "group", "truth_kind", "licence"), text),
            "credits": List(text),
            "input": Image(),
            "plate": Image(),
            "layers": List(layer),
            "annotations": text,
            "provenance": text,
        }
    )


def _layer(scene_id: str, layer: Layer) -> Row:
    stem = f"{scene_id}-{layer.layer_id}"
    optional = {"effect": layer.effect, "parts": layer.parts}
    return {
        "layer_id": layer.layer_id,
        "kind": layer.kind,
        "subject": layer.subject,
        "attached_to": layer.attached_to,
        "relation": layer.relation,
        "person": layer.person,
        "truncation": layer.truncation,
        "image": _picture(layer.rgba, f"{stem}.png"),
        **{
            name: None if array is None else _picture(array, f"{stem}-{name}.png")
            for name, array in optional.items()
        },
        "keypoints": [[float(value) for value in point] for point in layer.keypoints],
    }


def _picture(array: np.ndarray[Any, np.dtype[np.uint8]], name: str) -> Row:
    return {"bytes": _png(array.tobytes(), array.shape), "path": name}


@lru_cache(maxsize=4)  # a scene's tasks share its input and label map
def _png(pixels: bytes, shape: tuple[int, ...]) -> bytes:
    return encode_png(np.frombuffer(pixels, np.uint8).reshape(shape))


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False, allow_nan=False)
