"""What every metric of one task shares: the answer, the regions, who stays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask, Rgb
from mild_bench.metrics.regions import split
from mild_bench.protocol import Protocol
from mild_bench.score import Region
from mild_bench.task import Task

Value = float | str  # a number, or the reason why there is none
Values = dict[Region, Value]  # one picture's values of one metric

FloatRgb = npt.NDArray[np.float64]  # height x width x 3, in [0, 1]


@dataclass(frozen=True)
class Settings:
    """What a metric may need to be set up.

    Attributes:
        weights: an explicit folder of weight files.
        clip_checkpoint: a local open_clip checkpoint, used in place of ``protocol.clip_weights``.
        allow_download: whether weights may come from the network.
    """

    protocol: Protocol
    weights: Path | None = None
    clip_checkpoint: Path | None = None
    allow_download: bool = False


@dataclass(frozen=True)
class View:
    """One task as metrics see it; what is costly is computed once.

    Attributes:
        memo: what several metrics share (CLIP embeddings), by a key of their own.
    """

    task: Task
    protocol: Protocol
    memo: dict[object, Any] = field(default_factory=dict)

    @property
    def truth(self) -> Rgb:
        """The truth; only metrics whose card needs ``truth`` may ask."""
        assert self.task.truth is not None, "the scorer keeps tasks without truth away"
        return self.task.truth

    @cached_property
    def truth_float(self) -> FloatRgb:
        """The truth in [0, 1], height x width x 3."""
        return to_float(self.truth)

    @cached_property
    def regions(self) -> dict[Region, Mask]:
        """The regions of the task's mask."""
        return split(self.task.mask, band_px=self.protocol.band_px)

    @cached_property
    def staying(self) -> Mask:
        """Visible people who are not to be erased."""
        numbers = [
            number
            for number, person in enumerate(self.task.person_ids, start=1)
            if person not in self.task.erase
        ]
        return np.isin(self.task.people, numbers)


@dataclass(frozen=True)
class Measure:
    """A metric that is ready to use.

    Attributes:
        measure: takes a view and pictures (uint8, as large as the task's input) and returns the
            values of each, independent of what else is in the list.
        weights: what a record keeps of the weights it uses, empty without any.
    """

    measure: Callable[[View, Sequence[Rgb]], list[Values]]
    weights: dict[str, object] = field(default_factory=dict)


def to_float(picture: Rgb) -> FloatRgb:
    """Turn uint8 height x width x 3 into float64 in [0, 1]."""
    return np.asarray(picture, dtype=np.float64) / 255
