"""Which layer covers which pixel of a scene: the masks every occlusion figure is counted from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask
from mild_bench.scene import Scene

Box = list[int]  # x, y, width, height in pixels; width and height at least 1
PLATE = -1


@dataclass(frozen=True)
class Coverage:
    """The masks of a scene's layers, from far to near.

    Attributes:
        ids: layer ids.
        amodal: all of each layer inside the frame, bool layers x height x width.
        top: index of the layer that shows at each pixel, ``PLATE`` where none does,
            int16 height x width.
    """

    ids: tuple[str, ...]
    amodal: npt.NDArray[np.bool_]
    top: npt.NDArray[np.int16]

    def visible(self, index: int) -> Mask:
        """Where layer ``index`` shows; equals ``Scene.visible`` of its id."""
        return np.asarray(self.top == index)

    @cached_property
    def boxes(self) -> tuple[Box | None, ...]:
        """Amodal boxes inside the frame; None for a layer without a pixel in it."""
        return tuple(box_of(mask) for mask in self.amodal)

    @cached_property
    def amodal_areas(self) -> npt.NDArray[np.int64]:
        """Amodal areas inside the frame, in pixels."""
        return np.array([np.count_nonzero(mask) for mask in self.amodal], np.int64)

    @cached_property
    def seen_on(self) -> npt.NDArray[np.int64]:
        """Pixels of i's amodal mask where j shows, int64 layers x layers; diagonal: i itself."""
        count = len(self.ids)
        table = np.zeros((count, count), np.int64)
        for row, (mask, box) in enumerate(zip(self.amodal, self.boxes, strict=True)):
            if box:
                crop = _crop(box)
                table[row] = np.bincount(self.top[crop][mask[crop]], minlength=count)
        return table

    @cached_property
    def shared(self) -> npt.NDArray[np.int64]:
        """Pixels that the amodal masks of i and j share, int64 layers x layers, symmetric."""
        table = np.diag(self.amodal_areas)
        for row in range(len(self.ids)):
            for column in range(row):
                common = _common(self.boxes[row], self.boxes[column])
                if common:
                    both = self.amodal[row][common] & self.amodal[column][common]
                    table[row, column] = table[column, row] = np.count_nonzero(both)
        return table


def cover(scene: Scene) -> Coverage:
    """Count who covers what, in one pass from far to near."""
    height, width = scene.plate.shape[:2]
    amodal = np.zeros((len(scene.layers), height, width), np.bool_)
    top = np.full((height, width), PLATE, np.int16)
    for index, layer in enumerate(scene.layers):
        amodal[index] = layer.amodal
        top[amodal[index]] = index
    return Coverage(tuple(layer.layer_id for layer in scene.layers), amodal, top)


def box_of(mask: Mask) -> Box | None:
    """Return the smallest box around the True pixels (x, y, width, height); None without any."""
    columns = np.flatnonzero(mask.any(axis=0))
    if not columns.size:
        return None
    rows = np.flatnonzero(mask.any(axis=1))
    left, top = int(columns[0]), int(rows[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def _crop(box: Box) -> tuple[slice, slice]:
    left, top, width, height = box
    return slice(top, top + height), slice(left, left + width)


def _common(one: Box | None, other: Box | None) -> tuple[slice, slice] | None:
    if one is None or other is None:
        return None
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right = min(one[0] + one[2], other[0] + other[2])
    bottom = min(one[1] + one[3], other[1] + other[3])
    if right <= left or bottom <= top:
        return None
    return slice(top, bottom), slice(left, right)
