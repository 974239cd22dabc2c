"""The loop of one stage: forward, backward, step, running mean, checkpoint; resumes exactly."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mild_bench.errors import BadInput
from mild_bench.mild.train.ema import RunningMean
from mild_bench.progress import Advance, progress
from mild_bench.run.train_data import Examples, batches
from mild_bench.run.train_record import Record
from mild_bench.run.train_settings import StageSettings
from mild_bench.store import new_folder, read_json, write_json

if TYPE_CHECKING:
    import torch
    from torch import nn

CHECKPOINT = "checkpoint"
LEAST_RATE = 0.05  # of the learning rate, at the end


@dataclass
class Stage:
    """One stage, ready to run.

    Attributes:
        settings: of the stage.
        learner: a module from a batch and a generator to a dict of losses with ``loss``.
        groups: parameters by name and how much faster than the rest they learn.
        examples: what it learns from.
        prepare: from a list of examples to what the learner takes.
        probe: called after some steps with the running means in place; returns readings.
        seed: of the noise.
    """

    settings: StageSettings
    learner: nn.Module
    groups: Sequence[tuple[dict[str, nn.Parameter], float]]
    examples: Examples
    prepare: Callable[[list[Any]], Any]
    probe: Callable[[], dict[str, float]] | None
    seed: int
    parameters: dict[str, nn.Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = {name: one for group, _ in self.groups for name, one in group.items()}


@dataclass(frozen=True)
class Outcome:
    """Where a stage stands: steps done, and whether that is all of them."""

    steps: int
    finished: bool


def run_stage(
    stage: Stage,
    folder: Path,
    accelerator: Any,
    *,
    workers: int,
    until: float | None,
    mean: RunningMean,
) -> Outcome:
    """Train a stage from its last checkpoint to its end, or to a moment of the clock.

    Args:
        stage: what to train; its parameters are changed.
        folder: of the stage: checkpoint and record are kept there.
        accelerator: accelerate's.
        workers: processes that make examples; 0 makes them in this one.
        until: ``time.monotonic()`` to stop at, after a checkpoint.
        mean: running means of the stage's parameters; they are what is to be kept.

    Raises:
        BadInput: a checkpoint of another model, or losses that are no numbers.
    """
    optimiser = _optimiser(stage)
    done = _resume(stage, optimiser, mean, folder / CHECKPOINT)
    learner, optimiser = accelerator.prepare(stage.learner, optimiser)
    settings = stage.settings
    record = Record(folder, done, main=accelerator.is_main_process)
    source = batches(
        stage.examples, start=done * settings.accumulate,
        stop=settings.steps * settings.accumulate, process=accelerator.process_index,
        processes=accelerator.num_processes, workers=workers,
    )  # fmt: skip
    if stage.probe and settings.probe_every and not done:
        record.readings(0, stage.probe())
    start, steps = time.monotonic(), done
    with _bar(settings, done, shown=accelerator.is_main_process) as advance:
        for step in range(done, settings.steps):
            losses = _step(stage, learner, optimiser, accelerator, source, step)
            mean.update(step)
            steps = step + 1
            advance(1)
            if not math.isfinite(losses["loss"]):
                raise BadInput(
                    f"{settings.stage}: the loss of step {step} is no number; the last checkpoint "
                    "is kept: go on with a lower learning_rate or precision: no"
                )
            if steps % settings.log_every == 0 or steps == settings.steps:
                rate = (steps - done) / (time.monotonic() - start)
                record.losses(steps, losses, rate)
            if stage.probe and settings.probe_every and steps % settings.probe_every == 0:
                with mean.in_place():
                    record.readings(steps, stage.probe())
            late = until is not None and any_process(time.monotonic() >= until)
            if late or steps % settings.checkpoint_every == 0 or steps == settings.steps:
                if accelerator.is_main_process:
                    _keep(stage, optimiser, mean, steps, folder / CHECKPOINT)
                record.draw()
            if late:
                break
    record.close()
    accelerator.wait_for_everyone()
    accelerator.free_memory()  # it would keep the optimisers of all stages
    return Outcome(steps, steps == settings.steps)


@contextmanager
def _bar(settings: StageSettings, done: int, *, shown: bool) -> Iterator[Advance]:
    """Show how far it is, once for all processes."""
    if not shown:
        yield lambda _steps: None
        return
    with progress(f"training {settings.stage}", total=settings.steps, done=done) as advance:
        yield advance


def any_process(flag: bool) -> bool:
    """Whether it is so in any process: they stop together or wait for each other for ever."""
    from accelerate.utils import gather_object

    return any(gather_object([flag]))


def _mean(losses: dict[str, float]) -> dict[str, float]:
    """Return the means over all processes; a loss that one of them lacks counts as 0 there."""
    from accelerate.utils import gather_object

    found: list[dict[str, float]] = gather_object([losses])
    names = dict.fromkeys(name for one in found for name in one)
    return {name: sum(one.get(name, 0.0) for one in found) / len(found) for name in names}


def finished(folder: Path, settings: StageSettings) -> bool:
    """Whether a stage's folder holds a checkpoint of its last step."""
    path = folder / CHECKPOINT / "step.json"
    return path.is_file() and int(read_json(path)["step"]) >= settings.steps


def load_means(folder: Path, parameters: dict[str, nn.Parameter]) -> None:
    """Put the running means of a stage's checkpoint into its parameters.

    Raises:
        BadInput: no checkpoint, or one of another model.
    """
    import torch

    means = _weights(folder / CHECKPOINT / "means.safetensors", parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(means[name])


def _step(
    stage: Stage, learner: Any, optimiser: Any, accelerator: Any, source: Iterator[list[Any]],
    step: int,
) -> dict[str, float]:  # fmt: skip
    import torch

    settings = stage.settings
    for group in optimiser.param_groups:
        group["lr"] = group["speed"] * learning_rate(settings, step)
    totals: dict[str, float] = {}
    for part in range(settings.accumulate):
        number = (step * settings.accumulate + part) * accelerator.num_processes
        seed = (stage.seed * 1_000_003 + number + accelerator.process_index) % 2**63
        generator = torch.Generator().manual_seed(seed)
        alone = part + 1 < settings.accumulate
        with accelerator.no_sync(learner) if alone else nullcontext():
            with accelerator.autocast():
                losses = learner(stage.prepare(next(source)), generator)
            accelerator.backward(losses["loss"] / settings.accumulate)
        for name, value in losses.items():
            share = float(value.detach()) / settings.accumulate
            totals[name] = totals.get(name, 0.0) + share
    accelerator.clip_grad_norm_(list(stage.parameters.values()), settings.clip)
    optimiser.step()
    optimiser.zero_grad()
    return _mean(totals)


def learning_rate(settings: StageSettings, step: int) -> float:
    """Return the learning rate of a step: a rise, then a cosine down to a twentieth."""
    if step < settings.warmup:
        return settings.learning_rate * (step + 1) / settings.warmup
    way = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    falling = LEAST_RATE + (1 - LEAST_RATE) * (1 + math.cos(math.pi * way)) / 2
    return settings.learning_rate * falling


def _optimiser(stage: Stage) -> torch.optim.Optimizer:
    import torch

    groups = [
        {"params": list(group.values()), "speed": speed} for group, speed in stage.groups if group
    ]
    rate = stage.settings.learning_rate
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), weight_decay=1e-4)


def _keep(stage: Stage, optimiser: Any, mean: RunningMean, step: int, where: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with new_folder(where) as folder:
        weights = {name: one.detach().cpu().contiguous() for name, one in stage.parameters.items()}
        save_file(weights, folder / "weights.safetensors")
        means = {name: one.cpu().contiguous() for name, one in mean.means.items()}
        save_file(means, folder / "means.safetensors")
        torch.save(optimiser.state_dict(), folder / "optimiser.pt")
        write_json(folder / "step.json", {"step": step})


def _resume(stage: Stage, optimiser: torch.optim.Optimizer, mean: RunningMean, where: Path) -> int:
    import torch

    if not (where / "step.json").is_file():
        return 0
    weights = _weights(where / "weights.safetensors", stage.parameters)
    with torch.no_grad():
        for name, parameter in stage.parameters.items():
            parameter.copy_(weights[name])
    mean.load(_weights(where / "means.safetensors", stage.parameters))
    state = torch.load(where / "optimiser.pt", map_location="cpu", weights_only=True)
    optimiser.load_state_dict(state)
    return int(read_json(where / "step.json")["step"])


def _weights(path: Path, parameters: dict[str, nn.Parameter]) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found: dict[str, Any] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: expected a checkpoint's weights, got {error}") from error
    ours = {name: tuple(one.shape) for name, one in parameters.items()}
    theirs = {name: tuple(one.shape) for name, one in found.items()}
    if ours != theirs:
        unlike = min(name for name, _ in ours.items() ^ theirs.items())
        raise BadInput(
            f"{path}: expected the {len(ours)} weights of this model, got {len(theirs)}, unlike "
            f"at {unlike}; train into another folder"
        )
    return found
