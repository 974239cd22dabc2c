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
from mild_bench.store import inside, sha256_file
from mild_bench.task import Task


def layer_pictures(release: Release, board: Board, folders: Folders, size: int) -> ShownLayers:
    """Return the layers of a few tasks of each eraser that made some.

    Raises:
        BadInput: a layer that is not the one that the run wrote, or does not fit its task.
    """
    noted = {
        row.label: _noted(folders[row.label], board.standing.task_ids)
        for row in board.rows
        if row.label in folders
    }
    labels, left_out = erasers_to_show(board, [name for name, found in noted.items() if found])
    if not labels:
        return ShownLayers()
    first = next(row for row in board.rows if row.label == labels[0])
    counts = {task_id: len(digests) for task_id, digests in noted[first.label].items()}
    chosen = tasks_to_show(board, first, counts)
    layers: dict[str, dict[str, dict[str, LayerPicture]]] = {label: {} for label in labels}
    for task in release.tasks(frozenset(one.task_id for one in chosen)):
        for label in labels:
            if digests := noted[label].get(task.task_id):
                layers[label][task.task_id] = _layers(folders[label], task, digests, size)
    return ShownLayers(chosen, layers, tuple(left_out))


def _noted(run: Path, task_ids: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """Return the SHA-256 of each layer by task and person, as the run's notes promise them."""
    notes = {task_id: ended_well(run, task_id) or {} for task_id in task_ids}
    found = {task_id: note.get("layers") for task_id, note in notes.items()}
    return {name: layers for name, layers in found.items() if layers and isinstance(layers, dict)}


def _layers(run: Path, task: Task, digests: dict[str, str], size: int) -> dict[str, LayerPicture]:
    folder = inside(run / "layers", task.task_id)
    return {
        name: layer_picture(
            _read(inside(folder, f"{name}.png"), digests[name], task),
            task.people == number,
            size=size,
        )
        for number, name in enumerate(task.person_ids, start=1)
        if name in digests
    }


def _read(file: Path, digest: str, task: Task) -> Rgba:
    if not file.is_file() or sha256_file(file) != digest:
        raise BadInput(
            f"{file}: expected the layer that the run wrote, got another or none; erase this task "
            "again"
        )
    layer = decode_png(file.read_bytes(), name=str(file))
    if layer.shape != (*task.mask.shape, 4):
        height, width = task.mask.shape
        raise BadInput(
            f"{file}: expected a layer as large as its task, {height} x {width} with alpha, got "
            f"{layer.dtype} {layer.shape}; erase this task again"
        )
    return layer
