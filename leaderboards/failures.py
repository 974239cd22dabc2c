"""Where each eraser fails: its worst tasks by the score that ranks."""

from __future__ import annotations

from statistics import median

from mild_bench.leaderboards import numbers
from mild_bench.leaderboards.damage import undamaged_rows
from mild_bench.leaderboards.page_data import View, about_task
from mild_bench.leaderboards.ranking import Board, Column, Row

WORST, CASES = 10, 3  # tasks of an eraser; how many of them are shown whole


def worst_tasks(board: Board, row: Row, count: int = WORST) -> list[tuple[str, float]]:
    """Return the tasks with an eraser's worst primary scores, worst first, with the score."""
    primary = board.primary
    if primary is None:
        return []
    sign = -1 if primary.lower_is_better else 1
    found = _scores(row, primary)
    return sorted(found.items(), key=lambda pair: (sign * pair[1], pair[0]))[:count]


def failure_view(board: Board) -> list[View]:
    """Return the worst tasks of every undamaged eraser, and those that it has no result for.

    Empty when there is no score that ranks.
    """
    primary = board.primary
    if primary is None:
        return []
    return [
        {
            "label": row.label,
            "cases": [_case(board, row, primary, *one) for one in worst_tasks(board, row, CASES)],
            "others": [
                {"id": task_id, "value": _number(board, primary, value)}
                for task_id, value in worst_tasks(board, row)[CASES:]
            ],
            "without": _without(row),
        }
        for row in undamaged_rows(board)
    ]


def _without(row: Row) -> str:
    failed = [task for task in row.record.tasks if task.status == "failed"]
    if not failed:
        return ""
    told = "; ".join(f"{task.task_id}: {task.reason}" for task in failed[:CASES])
    more = f"; and {len(failed) - CASES} more" if len(failed) > CASES else ""
    return f"No result on {len(failed)} of {len(row.record.tasks)} tasks. {told}{more}"


def _case(board: Board, row: Row, primary: Column, task_id: str, value: float) -> View:
    usual = median(_scores(row, primary).values())
    return {
        "id": task_id,
        "value": _number(board, primary, value),
        "median": _number(board, primary, usual),
        "best": _best(board, row, primary, task_id, value),
        "about": about_task(board.standing.example[task_id]),
    }


def _best(board: Board, row: Row, primary: Column, task_id: str, value: float) -> str:
    """Say which other eraser did best on the task, so that a hard task is seen as one."""
    others = [
        (found[task_id], other.label)
        for other in undamaged_rows(board)
        if other is not row and task_id in (found := _scores(other, primary))
    ]
    if not others:
        return ""
    sign = 1 if primary.lower_is_better else -1
    best, label = min(others, key=lambda pair: (sign * pair[0], pair[1]))
    if sign * best >= sign * value:
        return "no other eraser does better here"
    return f"best here {_number(board, primary, best)} ({label})"


def _scores(row: Row, column: Column) -> dict[str, float]:
    return {
        task.task_id: value
        for task in row.record.tasks
        if task.status == "ok" and (value := task.scores.get(column.key)) is not None
    }


def _number(board: Board, column: Column, value: float) -> str:
    return numbers.number(value, numbers.column_decimals(board, column))
