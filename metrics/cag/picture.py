"""A trace as a picture: leakage over steps and layers, who leaks into whom, and where."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb
from mild_bench.metrics.cag.layer_names import runs
from mild_bench.metrics.cag.layer_rows import LayerRows, layer_rows
from mild_bench.metrics.cag.trace import LeakageMap, Summary, Trace

NOT_PEOPLE = ("background", "text", "padding")
INK, SOFT, NOTHING = "#1b1e20", "#62686d", "#d4d6d4"
GUIDED_PART = "cond"  # the half of a guided batch that follows the prompt
LABELS = 24  # rows of text that fit beside a heat map
DPI = 100
# Light to dark in even steps, so that it reads without colours too; its black end is left out.
COLOURS = LinearSegmentedColormap.from_list(
    "leakage", matplotlib.colormaps["magma_r"](np.linspace(0, 0.85, 256))
)
STYLE: Any = {
    "font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT, "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10,
    "axes.titlelocation": "left", "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "figure.facecolor": "white",
}  # fmt: skip

Table = npt.NDArray[np.float64]


def trace_picture(trace: Trace, picture: Rgb, hole: Mask) -> bytes:
    """Draw a trace as a PNG of about 1,500 pixels across; equal input gives equal bytes.

    Three panels share one colour scale, the share of attention: leakage over steps and layers in
    model order; the leakage matrix; the leakage of the finest grid's tokens over the picture in
    grey. Of a guided batch the half that follows the prompt is shown.

    Args:
        trace: what a probe saw of this picture.
        picture: uint8 height x width x 3, as the model saw it.
        hole: bool height x width, True = erase.

    Raises:
        BadInput: ``hole`` is not as large as ``picture``.
    """
    if hole.shape != picture.shape[:2]:
        raise BadInput(
            f"hole: expected {picture.shape[0]} x {picture.shape[1]} as the picture, got "
            f"{' x '.join(map(str, hole.shape))}; give the mask as the model saw it"
        )
    file = io.BytesIO()
    figure = draw_trace(trace, picture, hole)
    figure.savefig(file, format="png", facecolor="white", metadata={"Software": None})
    return file.getvalue()


def shown_part(trace: Trace) -> str:
    """Return which part of the batch stands for a picture: ``cond``, or the only one."""
    parts = dict.fromkeys(trace.columns["part"].tolist())
    return str(GUIDED_PART if GUIDED_PART in parts else next(iter(parts), "all"))


def draw_trace(trace: Trace, picture: Rgb, hole: Mask) -> Figure:
    """Return the figure that ``trace_picture`` saves."""
    part = shown_part(trace)
    with matplotlib.rc_context(STYLE):
        return _panels(trace.where(part=part), part, picture, hole)


def _panels(trace: Trace, part: str, picture: Rgb, hole: Mask) -> Figure:
    summary = trace.summary()
    finest = max(trace.maps, key=lambda one: one.height * one.width, default=None)
    rows = layer_rows(trace)
    scale = colour_scale(rows.leakage, finest)
    height = 5.2 if len(rows.layers) <= LABELS else 6.2
    aspect = min(max(picture.shape[1] / picture.shape[0], 0.6), 1.9)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Figure(figsize=(15, height), dpi=DPI, layout=layout)
    FigureCanvasAgg(figure)
    figure.suptitle(_title(summary, rows, part), x=0.01, ha="left", fontsize=12, weight="bold")
    heat, matrix, spatial = figure.subplots(1, 3, width_ratios=(1.3, 1.0, aspect**0.5))
    _heat(heat, rows, summary, scale)
    _matrix(matrix, trace, summary, scale)
    _spatial(spatial, finest, picture, hole, scale)
    figure.colorbar(
        ScalarMappable(scale, COLOURS), ax=[heat, matrix, spatial], shrink=0.85, aspect=32,
        pad=0.02, extend="both" if scale.vmin else "max", label="share of attention (of 1)",
    )  # fmt: skip
    for axes in (matrix, spatial):  # after the colour bar, which centres them
        axes.set_anchor("N")
    return figure


def _title(summary: Summary, rows: LayerRows, part: str) -> str:
    if math.isnan(summary.cag):
        return "no CAG"
    shown = [f"CAG {_signed(summary.cag)} nats (0 = blind)", f"leakage {summary.leakage:.3f}"]
    if summary.peak_layer is not None:
        place = rows.layers.index(summary.peak_layer)
        shown += [
            f"peak layer {rows.names[place]} ({_size(rows.sizes[place])} tokens)",
            f"peak step {summary.peak_step} of {rows.steps[0]}\u2013{rows.steps[-1]}",
        ]
    halves = {
        "cond": "the half with the prompt",
        "uncond": "the half without",
        "all": "whole batch",
    }
    return "      ".join([*shown, f"shown: {halves.get(part, part)}"])


def colour_scale(leakage: Table, finest: LeakageMap | None) -> Normalize:
    """Return the scale of what the leakage panels show, between round numbers.

    It starts at 0, unless nothing lies below half of the largest value: then small differences
    would drown, and it starts near the smallest.
    """
    seen = [leakage.ravel()]
    if finest is not None:
        seen.append(finest.values.ravel().astype(np.float64))
    values = np.concatenate(seen)
    values = values[~np.isnan(values)]
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 1.0)
    step = 0.05 if high <= 0.25 or low > high / 2 else 0.1
    start = min(math.floor(low / step) * step, 1 - step) if low > high / 2 else 0.0
    return Normalize(start, min(max(math.ceil(high / step - 1e-9) * step, start + step), 1.0))


def _heat(axes: Axes, rows: LayerRows, summary: Summary, scale: Normalize) -> None:
    axes.set_title("Leakage: how much the hole looks at people")
    if not rows.layers:
        _say(axes, summary.reason)
        return
    axes.set_facecolor(NOTHING)
    axes.imshow(
        np.ma.masked_invalid(rows.leakage), aspect="auto", cmap=COLOURS, norm=scale,
        interpolation="nearest",
    )  # fmt: skip
    found = runs(rows.layers, rows.sizes, LABELS)
    axes.set_yticks(
        [run.start + (run.stop - run.start - 1) / 2 for run in found],
        [f"{run.label}   {_size(rows.sizes[run.start]):>7}" for run in found],
        fontsize=8,
    )
    for before, run in pairwise(found):
        same = run.label.split()[0] == before.label.split()[0]
        other = not same or rows.sizes[run.start] != rows.sizes[before.start]
        if other or len(found) < len(rows.layers):
            axes.axhline(run.start - 0.5, color="white", lw=1.6 if other else 0.6)
    every = next((n for n in (1, 2, 5, 10, 20, 50, 100) if len(rows.steps) / n <= 11), 1000)
    axes.set_xticks(range(0, len(rows.steps), every), [str(step) for step in rows.steps[::every]])
    axes.tick_params(length=2)
    axes.set(
        xlabel="step   (\u25be \u25c2 where most leaks)",
        ylabel="layer, and its tokens (height \u00d7 width)",
    )
    if summary.peak_layer is not None and summary.peak_step is not None:
        _mark_peak(axes, rows, summary.peak_layer, summary.peak_step)
    if rows.reasons:
        axes.set_xlabel(_folded(f"step\ngrey: no value ({'; '.join(rows.reasons)})", 70))


def _mark_peak(axes: Axes, rows: LayerRows, layer: str, step: int) -> None:
    at, when = rows.layers.index(layer), rows.steps.index(step)
    sides = ((1, at, "<", axes.get_yaxis_transform()), (when, 1, "v", axes.get_xaxis_transform()))
    for x, y, mark, transform in sides:
        axes.plot([x], [y], mark, color=INK, ms=6, transform=transform, clip_on=False)


def _matrix(axes: Axes, trace: Trace, summary: Summary, scale: Normalize) -> None:
    axes.set_title("Who looks at whom")
    known = ~np.isnan(summary.matrix)
    rows, columns = np.flatnonzero(known.any(axis=1)), np.flatnonzero(known.any(axis=0))
    if not rows.size:
        _say(axes, "nothing was read")
        return
    table = summary.matrix[np.ix_(rows, columns)]
    axes.set_facecolor(NOTHING)
    axes.imshow(np.ma.masked_invalid(table), cmap=COLOURS, norm=scale)
    names = [_who(name, trace.erased, trace.groups) for name in trace.groups]
    axes.set_yticks(range(len(rows)), [names[place] for place in rows])
    axes.set_xticks(range(len(columns)), [names[place] for place in columns])
    axes.tick_params("x", rotation=40)
    for label in axes.get_xticklabels():
        label.set(ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="are looked at", ylabel="tokens that look")
    for (y, x), value in np.ndenumerate(table):
        dark = scale(value) > 0.55 if not math.isnan(value) else False
        axes.text(
            x, y, _cell(value), ha="center", va="center", color="white" if dark else INK,
            fontsize=9 if len(columns) <= 6 else 7.5,
        )  # fmt: skip


def _spatial(
    axes: Axes, finest: LeakageMap | None, picture: Rgb, hole: Mask, scale: Normalize
) -> None:
    height, width = hole.shape
    grey = picture.astype(np.float64) @ (0.299 / 255, 0.587 / 255, 0.114 / 255)
    pale = (0.45 + 0.55 * grey)[..., None]
    if finest is None:
        axes.set_title("Where: no map was read")
    else:
        axes.set_title(f"Where: leakage of the {_size((finest.height, finest.width))} tokens")
        pale = pale * COLOURS(scale(_over(finest, (height, width))))[..., :3]
    axes.imshow(np.broadcast_to(pale, (height, width, 3)), extent=(0, width, height, 0))
    if hole.any():
        outline = np.pad(hole, 1).astype(float)
        across, down = np.arange(-1, width + 1) + 0.5, np.arange(-1, height + 1) + 0.5
        for colour, wide in (("white", 2.8), (INK, 1.2)):
            axes.contour(across, down, outline, [0.5], colors=colour, linewidths=wide)
    axes.set(xticks=(), yticks=(), xlim=(0, width), ylim=(height, 0))
    axes.set_xlabel("black line: the hole; picture in grey")


def _over(one: LeakageMap, shape: tuple[int, int]) -> Table:
    """Spread the tokens' values over the picture's pixels; unknown ones count as none."""
    rows, columns = (
        np.minimum(((np.arange(side) + 0.5) / cell).astype(int), cells - 1)
        for side, cell, cells in (
            (shape[0], one.cell_height, one.height), (shape[1], one.cell_width, one.width),
        )
    )  # fmt: skip
    return np.nan_to_num(one.values.astype(np.float64))[np.ix_(rows, columns)]


def _say(axes: Axes, why: str) -> None:
    axes.set(xticks=(), yticks=())
    axes.set_facecolor(NOTHING)
    axes.text(
        0.5, 0.5, _folded(why, 42), transform=axes.transAxes,
        ha="center", va="center",
    )  # fmt: skip


def _folded(text: str, width: int) -> str:
    lines = [
        textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    ]
    return "\n".join(lines)


def _who(name: str, erased: Sequence[str], groups: Sequence[str]) -> str:
    short = name if len(name) <= 12 else f"{name[:11]}\u2026"
    if not erased or name in NOT_PEOPLE or name not in groups:
        return short
    return f"{short} ({'erased' if name in erased else 'stays'})"


def _size(grid: tuple[int, int]) -> str:
    return f"{grid[0]}\u00d7{grid[1]}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212").replace("inf", "\u221e")


def _cell(value: float) -> str:
    if math.isnan(value):
        return "\u2013"
    return f"{value:.2f}" if value >= 0.005 or value == 0 else "<.01"
