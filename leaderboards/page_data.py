"""What the page shows, and what its script reads: pictures, and the scores of single tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mild_bench.leaderboards import numbers
from mild_bench.leaderboards.attention import ShownTrace
from mild_bench.leaderboards.controls import ControlCheck
from mild_bench.leaderboards.correlation import Correlation
from mild_bench.leaderboards.damage import undamaged_rows
from mild_bench.leaderboards.layers import ShownLayers
from mild_bench.leaderboards.pictures import Crop, TaskPictures
from mild_bench.leaderboards.ranking import Board
from mild_bench.leaderboards.record import TaskRow
from mild_bench.leaderboards.slices import CostSlices, Slice

View = dict[str, Any]


@dataclass(frozen=True)
class PageParts:
    """What a page shows.

    Attributes:
        slices: cut over the headline keys.
        costs: seconds, memory and attention by number of people.
        pictures: by task id; empty for a page without the slider.
        why_no_pictures: what to say then.
        correlations: of attention with other scores.
        traces: by label, pictures of what an eraser's model looked at.
        layers: of the erasers that make some.
    """

    board: Board
    check: ControlCheck
    slices: tuple[Slice, ...]
    costs: tuple[CostSlices, ...]
    pictures: Mapping[str, TaskPictures]
    why_no_pictures: str = ""
    correlations: tuple[Correlation, ...] = ()
    traces: Mapping[str, tuple[ShownTrace, ...]] = field(default_factory=dict)
    layers: ShownLayers = field(default_factory=ShownLayers)


def page_data(parts: PageParts) -> View:
    """Return what the page's script reads: pictures, and scores of single tasks.

    Spoilt copies have no pictures there: they would cost much and show little.
    """
    board = parts.board
    order = [row.label for row in (*undamaged_rows(board), *board.controls)]
    places = [board.standing.labels.index(label) for label in order]
    digits = [numbers.column_decimals(board, column) for column in board.headline]
    images: dict[str, int] = {}  # tasks of one scene share their input, "truth" shares the truth
    tasks = []
    for task_id in board.standing.task_ids if parts.pictures else ():
        if task_id not in parts.pictures:
            continue
        pictures = parts.pictures[task_id]
        rows = [board.standing.by_task[place].get(task_id) for place in places]
        tasks.append({
            "id": task_id,
            "about": about_task(board.standing.example[task_id]),
            "width": pictures.width,
            "height": pictures.height,
            "focus": pictures.focus,
            "input": _place(pictures.input, images),
            "outline": pictures.outline,
            "truth": _crop(pictures.truth, images),
            "results": [_crop(pictures.results.get(label), images) for label in order],
            "failed": [row.reason if row and row.status != "ok" else None for row in rows],
            "scores": [
                [
                    numbers.number(row.scores.get(column.key), places) if row else "\u2013"
                    for column, places in zip(board.headline, digits, strict=True)
                ]
                for row in rows
            ],
        })  # fmt: skip
    titles = [
        f"{numbers.title(column, with_mode=False)} {numbers.arrow(column)}"
        for column in board.headline
    ]
    return {"erasers": order, "keys": titles, "images": list(images), "tasks": tasks}


def about_task(task: TaskRow) -> list[str]:
    """Say in a few words what a task is like."""
    strata = task.strata
    facts = [f"erase: {task.kind}"]
    if isinstance(strata.get("people"), int):
        facts.append(f"{strata['people']} people")
    if isinstance(rate := strata.get("occlusion"), float | int):
        facts.append(f"occlusion {rate:.0%} ({strata.get('occlusion_bin')})")
    if isinstance(area := strata.get("mask_area"), float | int):
        facts.append(f"mask {area:.1%} of the frame")
    names = ("human_human", "human_object", "human_background")
    facts += [name.replace("_", "\u2013") for name in names if strata.get(name) is True]
    return facts


def _crop(crop: Crop | None, images: dict[str, int]) -> list[int] | None:
    if crop is None:
        return None
    return [crop.x, crop.y, crop.width, crop.height, _place(crop.uri, images)]


def _place(uri: str, images: dict[str, int]) -> int:
    """Return where a picture stands in the table of pictures; adds it when it is new."""
    return images.setdefault(uri, len(images))
