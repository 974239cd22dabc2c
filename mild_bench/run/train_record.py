"""What a training leaves behind: a log by line, curves as a picture, TensorBoard's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LOG = "log.jsonl"
CURVES = "curves.png"
SMOOTH = 0.9
READINGS = ("cag", "leakage")


class Record:
    """Writes the record of one stage; a resumed stage goes on after its checkpoint.

    Args:
        folder: of the stage.
        done: steps whose lines are kept; later ones come from a run that was cut off.
        main: whether this process writes at all.
    """

    def __init__(self, folder: Path, done: int, *, main: bool) -> None:
        self.folder = folder
        self.main = main
        self._board: Any = None
        if not main:
            return
        from torch.utils.tensorboard.writer import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_log(folder) if line["step"] <= done]
        (folder / LOG).write_text("".join(json.dumps(line) + "\n" for line in kept))
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def losses(self, step: int, losses: Mapping[str, float], rate: float) -> None:
        """Note the losses of a step and how many steps a second there were."""
        values = {name: _short(value) for name, value in losses.items()}
        self._write(step, {**values, "steps_per_second": _short(rate)})

    def readings(self, step: int, readings: Mapping[str, float]) -> None:
        """Note what the probe of attention read."""
        self._write(step, {name: _short(value) for name, value in readings.items()})

    def draw(self) -> None:
        """Draw the curves anew."""
        if self.main:
            draw_curves(read_log(self.folder), self.folder / CURVES)

    def close(self) -> None:
        """Finish writing."""
        if self._board is not None:
            self._board.close()

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        if not self.main:
            return
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a stage's log; a line that was cut off is left out."""
    path = folder / LOG
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return found


def draw_curves(lines: list[dict[str, Any]], path: Path) -> None:
    """Draw losses (smoothed) and, where attention was read, CAG and leakage over the steps."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = sorted({name for line in lines for name in line} - {"step", "steps_per_second"})
    losses = [name for name in names if name not in READINGS]
    readings = [name for name in READINGS if name in names]
    figure = Figure(figsize=(4.5 * (1 + len(readings)), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 1 + len(readings), squeeze=False)[0]
    for name in losses:
        steps, values = _series(lines, name)
        axes[0].plot(steps, smoothed(values), label=name, linewidth=1.2)
    axes[0].set(title="losses", xlabel="step", yscale="log")
    if losses:
        axes[0].legend(fontsize=7)
    units = {"cag": "CAG in nats (higher is cleaner)", "leakage": "leakage (share of attention)"}
    for axis, name in zip(axes[1:], readings, strict=True):
        axis.plot(*_series(lines, name), marker="o", markersize=2.5, linewidth=1.2)
        axis.set(title=units[name], xlabel="step")
    for axis in axes:
        axis.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def smoothed(values: list[float]) -> list[float]:
    """Return the exponential mean of what came so far, without a bias to the start."""
    out: list[float] = []
    total = weight = 0.0
    for value in values:
        total = SMOOTH * total + (1 - SMOOTH) * value
        weight = SMOOTH * weight + (1 - SMOOTH)
        out.append(total / weight)
    return out


def _series(lines: list[dict[str, Any]], name: str) -> tuple[list[int], list[float]]:
    found = [(int(line["step"]), float(line[name])) for line in lines if name in line]
    return [step for step, _ in found], [value for _, value in found]


def _short(value: float) -> float:
    return float(f"{value:.6g}")
