"""The board as one self-contained HTML page: no request leaves it, every text is escaped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mild_bench.leaderboards.attention import attention_view
from mild_bench.leaderboards.controls import all_warnings
from mild_bench.leaderboards.cost_view import cost_view
from mild_bench.leaderboards.damage_view import damage_view
from mild_bench.leaderboards.failures import failure_view
from mild_bench.leaderboards.layers import layers_view
from mild_bench.leaderboards.measured import facts, metric_cards, missing_scores
from mild_bench.leaderboards.page_data import PageParts, View, page_data
from mild_bench.leaderboards.ranked_table import control_verdict, lead, table_groups
from mild_bench.leaderboards.slice_panels import slice_set

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


def render_page(parts: PageParts) -> str:
    """Return the page; equal parts give equal text."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    return environment.get_template("board.html.j2").render(page_view(parts))


def _breakable(name: str) -> Markup:
    """Let a line of a narrow column end between an eraser's settings, not inside of a word."""
    from markupsafe import Markup

    return Markup("<wbr>").join(re.split(r"(?<=[\[,])", name))


def page_view(parts: PageParts) -> View:
    """Return what the template fills in."""
    board = parts.board
    tasks = board.standing.task_ids
    return {
        "release": board.release,
        "protocol": board.protocol,
        "tasks": len(tasks),
        "scenes": len(set(board.standing.scenes(tasks))),
        "erasers": len(board.rows),
        "lead": lead(board),
        "warnings": all_warnings(board, parts.check),
        "check": parts.check,
        "control_verdict": control_verdict(parts.check),
        "groups": table_groups(parts),
        "slice_sets": [slice_set(parts, column) for column in board.headline],
        "cost": cost_view(parts),
        "attention": attention_view(board, parts.correlations, parts.traces),
        "layers": layers_view(board, parts.layers),
        "damage": damage_view(board),
        "failures": failure_view(board),
        "pictures": bool(parts.pictures),
        "why_no_pictures": parts.why_no_pictures,
        "metrics": metric_cards(board),
        "rows": [*board.rows, *board.controls],
        "missing": missing_scores(board),
        "facts": facts(board),
        "data": page_data(parts),
    }
