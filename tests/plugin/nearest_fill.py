"""A third party's eraser: every erased pixel takes the colour of the nearest kept one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mild_bench.erasure import EraserCard, Erasure
from mild_bench.errors import BadInput
from mild_bench.task import Task


@dataclass(frozen=True)
class NearestFill:
    """The eraser; ``metric`` is the distance that says what is near."""

    card: EraserCard
    metric: str

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        """Erase each task on its own."""
        from scipy import ndimage

        for task in tasks:
            if self.metric == "euclidean":
                rows, columns = ndimage.distance_transform_edt(
                    task.mask, return_distances=False, return_indices=True
                )
            else:
                rows, columns = ndimage.distance_transform_cdt(
                    task.mask, self.metric, return_distances=False, return_indices=True
                )
            yield Erasure(task.task_id, task.input[rows, columns])


def nearest_fill(metric: str = "euclidean") -> NearestFill:
    """Return the eraser; mild-bench calls this with the settings of the spec."""
    if metric not in ("euclidean", "taxicab", "chessboard"):
        raise BadInput(
            f"nearest-fill: metric must be euclidean, taxicab or chessboard, got {metric!r}"
        )
    name = "nearest-fill" if metric == "euclidean" else f"nearest-fill[metric={metric}]"
    return NearestFill(EraserCard(name, "1.2", "MIT", settings={"metric": metric}), metric)
