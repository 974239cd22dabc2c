"""The pictures of the theory check, as SVG and PNG; equal findings give equal bytes."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mild_bench.theory.experiment import Findings, Row, Way
from mild_bench.theory.model import BLOCK
from mild_bench.theory.slopes import Points, band, interval

PAPER, INK, SOFT = "#fbfaf7", "#22262b", "#8a8f96"
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#00805f"  # told apart by colour-blind readers too
ROUNDING = 1e-11  # kappa with and without the block is known to about this much
STYLE: Any = {
    "figure.facecolor": PAPER, "axes.facecolor": PAPER, "savefig.facecolor": PAPER,
    "text.color": INK, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "font.size": 10,
    "axes.titlesize": 11, "axes.titlelocation": "left", "legend.frameon": False, "axes.grid": True,
    "grid.color": "#e4e2dc", "svg.hashsalt": "mild-bench", "figure.constrained_layout.use": True,
}  # fmt: skip

ADDED = "own-side minus cross-side bias (nats)"
BY: tuple[tuple[Way, str, str], ...] = (
    ("content", BLUE, "features tell the sides apart"),
    ("bias", ORANGE, "SMA's bias does"),
)

Measure = Callable[[Row], tuple[float, float]]


def pictures(findings: Findings) -> dict[str, bytes]:
    """Return the files by name: coupling, hessian, condition, bias; each as .svg and .png."""
    drawn: dict[str, bytes] = {}
    for name, draw in (
        ("coupling", _coupling), ("hessian", _hessian), ("condition", _condition), ("bias", _bias),
    ):  # fmt: skip
        with _style():
            figure = draw(findings)
            for kind in ("svg", "png"):
                file = io.BytesIO()
                figure.savefig(file, format=kind, dpi=88, metadata=_no_date(kind))
                drawn[f"{name}.{kind}"] = file.getvalue()
    return drawn


def curves(findings: Findings, way: Way, measure: Measure) -> list[Points]:
    """Return one curve a model: (margin, value) in the order of the strengths."""
    return [[measure(row) for row in rows] for rows in findings.of(way).values()]


def _coupling(findings: Findings) -> Figure:
    figure = Figure(figsize=(10.4, 4.5))
    left, right = figure.subplots(1, 2, sharey=True)
    for way, colour, label in BY:
        _lines(left, findings, way, lambda row: (row.margin, row.cross), colour, label)
    _guide(left, -1, start=(0.0, 0.3), label="exp(−γ), for the eye")
    hard = [row.cross for row in findings.rows if row.way == "hard"]
    zeros = sum(value == 0 for value in hard)
    left.text(
        0.98, 0.97, f"cross-domain logits −∞:\nexactly 0 in {zeros} of {len(hard)} models",
        transform=left.transAxes, va="top", ha="right",
    )  # fmt: skip
    left.set(
        title="Both branches prefer their own side", xlabel="margin γ of the weaker branch (nats)",
        ylabel="‖foreground-background block‖",
    )  # fmt: skip
    _lines(
        right, findings, "one-sided", lambda row: (row.margin_bg, row.cross), GREEN, "whole block"
    )
    _lines(
        right, findings, "one-sided", lambda row: (row.margin_bg, row.cross_bg), BLUE,
        "the background branch's part",
    )  # fmt: skip
    _guide(right, -1, start=(0.0, 0.3), label="exp(−γ), for the eye")
    right.set(
        title="Only the background branch does",
        xlabel="background-favouring margin γ (nats)",
    )
    for axes in (left, right):
        axes.set_yscale("log")
        axes.axvline(0, color=SOFT, lw=0.8)
        axes.legend(loc="lower left")
    return figure


def _condition(findings: Findings) -> Figure:
    figure = Figure(figsize=(10.4, 4.5))
    left, right = figure.subplots(1, 2)
    for way, colour, label in BY:
        _lines(left, findings, way, of_excess, colour, label, floor=ROUNDING)
        _lines(right, findings, way, lambda row: (row.margin, row.coupling), colour, label)
    _guide(left, -2, start=(0.0, 0.3), label="exp(−2γ), for the eye")
    _guide(right, -1, start=(0.0, 1.0), label="exp(−γ), for the eye")
    left.axhspan(ROUNDING / 100, ROUNDING, color="#ecebe6", lw=0)
    left.text(0.98, 0.02, "lost in rounding", transform=left.transAxes, ha="right")
    left.set(
        title="What the block adds to the condition number", ylabel="κ / κ without the block − 1",
        ylim=(ROUNDING / 100, 30),
    )  # fmt: skip
    right.set(title="What preconditioning each side by itself leaves", ylabel="coupling ρ")
    for axes, place in ((left, (0.0, 0.12)), (right, "lower left")):
        axes.set_yscale("log")
        axes.set_xlabel("margin γ of the weaker branch (nats)")
        axes.axvline(0, color=SOFT, lw=0.8)
        axes.legend(loc=place)
    return figure


def _bias(findings: Findings) -> Figure:
    figure = Figure(figsize=(10.4, 4.5))
    left, right = figure.subplots(1, 2)
    added = np.array([shift.added for shift in findings.shifts])
    for name, mark, colour, label in (
        ("margin", "o", ORANGE, "margin γ"), ("cag", "x", BLUE, "CAG"),
    ):  # fmt: skip
        found = np.array([getattr(shift, name) for shift in findings.shifts])
        off = float(abs(found - added).max())
        left.plot(
            added, found, mark, color=colour, ms=7 if mark == "o" else 5, mfc="none",
            label=f"{label}: at most {off:.0e} from the line",
        )  # fmt: skip
    ends = np.array([added.min(), added.max()])
    left.plot(ends, ends, color=SOFT, lw=1, zorder=0)
    left.set(
        title="Bias added to a trained model, both branches", xlabel=ADDED, ylabel="shift (nats)",
    )  # fmt: skip
    left.legend(loc="upper left")
    for name, colour, label in (
        ("cag", BLUE, "CAG of the background branch"),
        ("margin_bg", ORANGE, "γ of the background branch"),
        ("margin", GREEN, "γ of the weaker branch"),
    ):
        at, mean, low, high = _gains(findings, name)
        right.errorbar(
            at, mean, yerr=np.array([mean - low, high - mean]), fmt="o-", color=colour, capsize=3,
            label=label,
        )  # fmt: skip
    right.plot([0, at[-1]], [0, at[-1]], color=SOFT, lw=1, zorder=0)
    right.set(
        title="Trained anew with the bias",
        xlabel=ADDED, ylabel="gain over no bias (nats)",
    )  # fmt: skip
    right.legend(loc="upper left")
    return figure


def _hessian(findings: Findings) -> Figure:
    figure = Figure(figsize=(10.4, 3.9))
    row_of_axes = figure.subplots(1, len(findings.shown))
    for axes, (row, matrix) in zip(row_of_axes, findings.shown, strict=True):
        with np.errstate(divide="ignore"):
            shown = axes.imshow(
                np.log10(matrix.numpy()), vmin=-8, vmax=1, cmap="viridis", interpolation="nearest"
            )
        name = "hard separation" if math.isinf(row.margin) else f"margin γ = {row.margin:.1f}"
        axes.set_title(f"{name}\n‖foreground-background‖ = {row.cross:.2g}")
        axes.axhline(BLOCK - 0.5, color="white", lw=1)
        axes.axvline(BLOCK - 0.5, color="white", lw=1)
        axes.set_xticks([BLOCK / 2, 1.5 * BLOCK], ["foreground", "background"])
        axes.set_yticks(
            [BLOCK / 2, 1.5 * BLOCK], ["foreground", "background"], rotation=90, va="center"
        )
        axes.tick_params(length=0)
        axes.spines[:].set_visible(True)
        axes.grid(False)
    figure.colorbar(shown, ax=row_of_axes, label="log10 |entry|, white = exactly 0", shrink=0.8)
    return figure


def of_excess(row: Row) -> tuple[float, float]:
    """Return the margin, and by what share the cross block raises the condition number."""
    return row.margin, row.kappa / row.kappa_apart - 1


def _gains(findings: Findings, name: str) -> tuple[np.ndarray, ...]:
    """Return bias, mean gain and its interval over models, for models trained with the bias."""
    by_bias: dict[float, list[float]] = {}
    for rows in findings.of("bias").values():
        base = next(getattr(row, name) for row in rows if row.given == 0)
        for row in rows:
            by_bias.setdefault(row.given, []).append(getattr(row, name) - base)
    found = [interval(gains, seed=findings.settings.seed) for gains in by_bias.values()]
    numbers = [(one.mean, one.low, one.high) for one in found]
    return np.array(list(by_bias)), *np.array(numbers).T


def _lines(
    axes: Axes, findings: Findings, way: Way, measure: Measure, colour: str, label: str, *,
    floor: float = 0.0,
) -> None:  # fmt: skip
    """Draw each model thinly, their geometric mean boldly, its interval as a band."""
    drawn = [
        sorted(point for point in curve if point[1] > floor)
        for curve in curves(findings, way, measure)
    ]
    for curve in drawn:
        x, y = np.array(curve).T
        axes.plot(x, y, ".-", color=colour, lw=0.6, ms=3, alpha=0.45)
    at = np.linspace(max(curve[0][0] for curve in drawn), min(curve[-1][0] for curve in drawn), 60)
    mean, low, high = (np.exp(part) for part in band(drawn, at, seed=findings.settings.seed))
    axes.fill_between(at, low, high, color=colour, alpha=0.2, lw=0)
    axes.plot(at, mean, color=colour, lw=2.2, label=label)


def _guide(axes: Axes, slope: float, *, start: tuple[float, float], label: str) -> None:
    x = np.array([start[0], start[0] + 8 / abs(slope) * 1.2])
    axes.plot(x, start[1] * np.exp(slope * (x - x[0])), "--", color=INK, lw=1.2, label=label)


def _style() -> AbstractContextManager[None]:
    return matplotlib.rc_context(STYLE)


def _no_date(kind: str) -> dict[str, None] | dict[str, str]:
    return {"Date": None} if kind == "svg" else {}
