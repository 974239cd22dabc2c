"""The layers of a run's task, as far as they are those that the run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mild_bench.errors import BadInput
from mild_bench.images import Rgba, decode_png
from mild_bench.metrics.layered import NO_LAYERS
from mild_bench.store import sha256


def read_layers(note: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Rgba] | str:
    """Return a task's layers by person, or the reason why there are none to score.

    Args:
        note: of the task.
        files: the content of the layers' files by person.
    """
    noted = note.get("layers") or {}
    found: dict[str, Rgba] = {}
    for person in sorted({*noted, *files}):
        if person not in files:
            return f"the layer of {person} is missing; erase this task again"
        if sha256(files[person]) != noted.get(person):
            return f"the layer of {person} is not the one that the run wrote; erase this task again"
        try:
            layer = decode_png(files[person], name=f"the layer of {person}")
        except BadInput as error:
            return str(error)
        if layer.ndim != 3 or layer.shape[2] != 4 or layer.dtype != np.uint8:
            return f"the layer of {person} is not 8-bit RGBA but {layer.dtype} {layer.shape}"
        found[person] = layer
    return found or NO_LAYERS
