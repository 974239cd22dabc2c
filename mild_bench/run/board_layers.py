"""The layers that runs keep, as a board's page shows them."""

from __future__ import annotations

from pathlib import Path

from mild_bench.errors import BadInput
from mild_bench.images import Rgba, decode_png
from mild_bench.leaderboards.layer_pictures import LayerPicture, layer_picture
from mild_bench.leaderboards.layers import ShownLayers, erasers_to_show, tasks_to_show
from mild_bench.leaderboards.ranking import Board
from mild_bench.release import Release
from mild_bench.run.board_pictures import Folders, ended_well
from mild_bench.store import inside
from mild_bench.task import Task


def layer_pictures(release: Release, board: Board, folders: Folders, size: int) -> ShownLayers:
    """Return the layers of a few tasks of each eraser that made some.

    Raises:
        BadInput: a layer that cannot be read or does not fit its task.
    """
    counts = {
        row.label: _counts(folders[row.label], board.standing.task_ids)
        for row in board.rows
        if row.label in folders
    }
    labels, left_out = erasers_to_show(board, [name for name, found in counts.items() if found])
    if not labels:
        return ShownLayers()
    first = next(row for row in board.rows if row.label == labels[0])
    chosen = tasks_to_show(board, first, counts[first.label])
    layers: dict[str, dict[str, dict[str, LayerPicture]]] = {label: {} for label in labels}
    for task in release.tasks(frozenset(one.task_id for one in chosen)):
        for label in labels:
            if task.task_id in counts[label]:
                layers[label][task.task_id] = _layers(folders[label], task, size)
    return ShownLayers(chosen, layers, tuple(left_out))


def _counts(run: Path, task_ids: tuple[str, ...]) -> dict[str, int]:
    """Return how many layers each task has; tasks without any are left out."""
    if not (run / "layers").is_dir():
        return {}
    found = {
        task_id: len(list(inside(run / "layers", task_id).glob("*.png")))
        for task_id in task_ids
        if ended_well(run, task_id)
    }
    return {task_id: count for task_id, count in found.items() if count}


def _layers(run: Path, task: Task, size: int) -> dict[str, LayerPicture]:
    folder = inside(run / "layers", task.task_id)
    return {
        name: layer_picture(_read(file, task), task.people == number, size=size)
        for number, name in enumerate(task.person_ids, start=1)
        if (file := inside(folder, f"{name}.png")).is_file()
    }


def _read(file: Path, task: Task) -> Rgba:
    layer = decode_png(file.read_bytes(), name=str(file))
    if layer.shape != (*task.mask.shape, 4):
        height, width = task.mask.shape
        raise BadInput(
            f"{file}: expected a layer as large as its task, {height} x {width} with alpha, got "
            f"{layer.dtype} {layer.shape}; erase this task again"
        )
    return layer
