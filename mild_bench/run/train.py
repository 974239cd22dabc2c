"""`mild-bench train`: composes scenes, trains stage after stage, and saves a pipeline."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mild_bench.errors import BadInput
from mild_bench.run.train_settings import StageSettings, TrainSettings, read_settings
from mild_bench.store import read_json, write_json

if TYPE_CHECKING:
    from mild_bench.curation.composing.pool_workspace import TrainScenes
    from mild_bench.run.train_model import Parts

PIPELINE = "pipeline"
POOL = "scenes"
STATE = "train.json"
COMPOSING = timedelta(hours=12)  # that the first process may take for scenes while others wait


@dataclass(frozen=True)
class TrainSummary:
    """What was trained.

    Attributes:
        pipeline: folder of the finished pipeline, None before the last stage has ended.
        stage: the stage that was trained last.
        steps: how far it is.
        of: how many steps it has.
    """

    pipeline: Path | None
    stage: str
    steps: int
    of: int

    def lines(self) -> list[str]:
        """Return it in words; nothing but in the first of several processes."""
        from accelerate import PartialState

        if not PartialState().is_main_process:
            return []
        where = [] if self.pipeline is None else [str(self.pipeline)]
        return [f"{self.stage}: {self.steps} of {self.of} steps", *where]


def train(
    config: str,
    out: Path,
    *,
    start: str | None = None,
    minutes: float | None = None,
    workers: int = 0,
    pool: Path | None = None,
    cpu: bool = False,
) -> TrainSummary:
    """Train what a config says; go on where an earlier call was stopped.

    Args:
        config: a file, or ``tiny``, ``sd15``, ``sdxl``.
        out: folder for scenes, stages and the pipeline.
        start: instead of the config's ``model.start``.
        minutes: stop after so many, with a checkpoint.
        workers: processes that compose scenes and make examples; 0 uses this one.
        pool: folder of composed scenes to share between trainings; ``out/scenes`` when None.
        cpu: leave a GPU alone.

    Raises:
        BadInput: a config that is none, or a folder with another training.
    """
    settings = _started(read_settings(config), start)
    if minutes is not None and minutes <= 0:
        raise BadInput(f"--minutes: expected more than 0, got {minutes:g}; leave it out for all")
    if workers < 0:
        raise BadInput(f"--workers: expected 0 or more processes, got {workers}")
    from mild_bench.run.train_data import own_scenes

    own = own_scenes(settings.data)
    accelerator = _accelerator(settings, cpu=cpu)
    with accelerator.main_process_first():
        _claim(out, settings, own, main=accelerator.is_main_process)
    until = None if minutes is None else time.monotonic() + 60 * minutes
    files = _scenes(settings, pool or out / POOL, accelerator, workers, own)
    return _train(settings, out, accelerator, files, own, workers=workers, until=until)


def _started(settings: TrainSettings, start: str | None) -> TrainSettings:
    if start is None:
        return settings
    values = settings.model_dump()
    values["model"]["start"] = start
    values["stages"] = [stage for stage in values["stages"] if stage["stage"] == "layers"]
    return TrainSettings(**values)


def _claim(out: Path, settings: TrainSettings, own: TrainScenes | None, *, main: bool) -> None:
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: expected a folder to train in, got a file; name another")
    state = out / STATE
    if state.exists():
        before = read_json(state)
        if before.get("hash") != settings.hash:
            raise BadInput(f"{out}: holds a training of another config; name another folder")
        if before.get("scenes") != (own and own.hash):
            raise BadInput(f"{out}: holds a training on other scenes; name another folder")
    elif out.exists() and any(out.iterdir()):
        raise BadInput(f"{out}: expected a new folder or a training to go on with; name another")
    about = {"hash": settings.hash, "settings": settings.model_dump(mode="json")}
    if main:
        write_json(state, about if own is None else {**about, "scenes": own.hash})


def _accelerator(settings: TrainSettings, *, cpu: bool) -> Any:
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    if settings.precision == "fp16" and (cpu or not torch.cuda.is_available()):
        raise BadInput("precision: fp16 needs a GPU; use bf16 or no")
    AcceleratorState._reset_state()  # of a training before this one in the same process
    # A step without guidance, or without people, leaves parameters unused.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    patient = InitProcessGroupKwargs(timeout=COMPOSING)
    handlers = [unused, patient]
    return Accelerator(mixed_precision=settings.precision, cpu=cpu, kwargs_handlers=handlers)


def _scenes(
    settings: TrainSettings, pool: Path, accelerator: Any, workers: int, own: TrainScenes | None
) -> tuple[Path, ...]:
    from mild_bench.run.train_data import find_scenes

    with accelerator.main_process_first():
        files = find_scenes(settings.data, pool, seed=settings.seed, workers=workers, own=own)
    return tuple(files)


def _train(
    settings: TrainSettings,
    out: Path,
    accelerator: Any,
    files: Sequence[Path],
    own: TrainScenes | None,
    *,
    workers: int,
    until: float | None,
) -> TrainSummary:
    from mild_bench.mild.train.ema import RunningMean
    from mild_bench.run.train_card import write_card
    from mild_bench.run.train_loop import any_process, finished, load_means, run_stage
    from mild_bench.run.train_model import Parts, make_stage

    parts = Parts.start(settings, accelerator.device)
    summary: TrainSummary | None = None
    for stage in settings.stages:
        folder = out / stage.stage
        ready = make_stage(settings, stage, parts, tuple(files), accelerator.device)
        steps = stage.steps
        if not finished(folder, stage):
            if any_process(until is not None and time.monotonic() >= until):
                return summary or TrainSummary(None, stage.stage, 0, stage.steps)
            mean = RunningMean(ready.parameters, stage.decay)
            outcome = run_stage(ready, folder, accelerator, workers=workers, until=until, mean=mean)
            steps = outcome.steps
            if not outcome.finished:
                return TrainSummary(None, stage.stage, steps, stage.steps)
        load_means(folder, ready.parameters)
        _end_stage(parts, stage, settings, files)
        summary = TrainSummary(None, stage.stage, steps, stage.steps)
    assert summary is not None
    if settings.stages[-1].stage != "layers":
        return summary
    if accelerator.is_main_process:
        import torch

        dtype = getattr(torch, settings.weights)
        parts.pipeline().to(dtype=dtype).save_pretrained(out / PIPELINE)
        write_card(settings, out, out / PIPELINE, own, processes=accelerator.num_processes)
    return TrainSummary(out / PIPELINE, summary.stage, summary.steps, summary.of)


def _end_stage(
    parts: Parts, stage: StageSettings, settings: TrainSettings, files: Sequence[Path]
) -> None:
    if stage.stage == "autoencoder":
        from mild_bench.run.train_data import validation_scenes

        parts.measure_latents(validation_scenes(files, 64))
