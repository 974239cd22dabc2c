"""``mild``: the layered diffusion eraser, with a clean background and a layer for each person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mild_bench import __version__
from mild_bench.erasers.diffusion.card import model_card
from mild_bench.erasers.diffusion.eraser import PreparedTask
from mild_bench.erasers.diffusion.fit import fit
from mild_bench.erasers.diffusion.folder import fingerprint
from mild_bench.erasers.diffusion.quiet import quiet
from mild_bench.erasers.mild_settings import ERASER, MildSettings, from_spec
from mild_bench.erasers.settings import board_name
from mild_bench.erasure import EraserCard, Erasure, Setting, TaskHook
from mild_bench.errors import BadInput, MissingPart
from mild_bench.store import read_json
from mild_bench.task import Task, task_seed

if TYPE_CHECKING:
    from mild_bench.mild.detecting import ParsingDetector, PoseDetector
    from mild_bench.mild.picture import MildInput
    from mild_bench.mild.pipeline import MildPipeline
    from mild_bench.mild.recompose import MildOutput

WEIGHTS = Path(__file__).parents[1] / "mild" / "weights"
PAPER = "https://arxiv.org/abs/2508.06543"
HIDDEN = ("device", "chunk")  # how it runs is on the card, not in the name


@dataclass
class MildEraser:
    """Runs a MildPipeline on one task at a time.

    Attributes:
        pipeline: the loaded pipeline.
        pose, parsing: networks for ``priors=detected``.
        on_task: set it to watch: called with each task before the pipeline is, and what it
            returns is entered around the pipeline's call (and around nothing else).
    """

    card: EraserCard
    pipeline: MildPipeline
    settings: MildSettings
    pose: PoseDetector | None = None
    parsing: ParsingDetector | None = None
    on_task: TaskHook | None = None

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        """Erase in the order of ``tasks``."""
        for task in tasks:
            output = self.take_apart(task, task_seed(seed, task.task_id))
            result = output.background if self.settings.composite else output.frame()
            yield Erasure(task.task_id, result, output.layers)

    def take_apart(self, task: Task, seed: int) -> MildOutput:
        """Return background and layers of a task."""
        import torch

        chosen = self.settings
        watch = self.on_task(self.prepare(task)) if self.on_task else nullcontext()
        with quiet(), watch:
            output: MildOutput = self.pipeline(
                self._input(task, seed),
                num_inference_steps=chosen.steps,
                strength=chosen.strength,
                hmg=chosen.hmg,
                sma=chosen.sma,
                layers=chosen.layers,
                complete=chosen.complete,
                side=chosen.side,
                chunk=chosen.chunk,
                generator=torch.Generator().manual_seed(seed),
            )
        return output.refined(seed=seed) if chosen.refine else output

    def prepare(self, task: Task) -> PreparedTask:
        """Return the task as the background branch sees it."""
        pipeline = self.pipeline
        side = self.settings.side or int(pipeline.config.side)
        given = self._seen(task)
        if self.settings.layers and self.settings.complete:
            given = given.with_staying()
        wide = given.unseen()
        placed = fit(wide, "resize", side=side, multiple=pipeline.multiple, margin=0)
        return PreparedTask(
            task=task,
            fit=placed,
            picture=placed.picture(task.input),
            mask=placed.mask(wide),
            hole=placed.mask(task.mask),
            people={
                name: placed.area(task.people == number)
                for number, name in enumerate(task.person_ids, start=1)
            },
            padding=placed.padding(),
        )

    def _input(self, task: Task, seed: int) -> MildInput:
        from mild_bench.mild.degrading import degraded
        from mild_bench.mild.detecting import detected

        given = self._seen(task)
        if self.settings.priors == "detected":
            given = detected(given, self.pose, self.parsing)
        return degraded(given, self.settings.degradation, np.random.default_rng(seed))

    def _seen(self, task: Task) -> MildInput:
        from mild_bench.mild.picture import EDGE, MildInput, with_rim

        rim = min(self.settings.dilate, EDGE)
        return MildInput(
            picture=task.input,
            hole=with_rim(task.mask, self.settings.dilate - rim),
            people=task.people,
            person_ids=task.person_ids,
            erase=task.erase,
            keypoints=task.keypoints,
            parts=task.parts,
            rim=rim,
        )


def mild(**chosen: Setting) -> MildEraser:
    """Return the reference MILD, with the package's own weights or those of a folder.

    ``chosen`` are fields of ``MildSettings``.

    Raises:
        BadInput: a setting that is not allowed, or weights that do not fit.
        MissingPart: there are no weights, or no such device.
    """
    settings = from_spec(chosen)
    folder = weights_folder(settings.folder)
    from mild_bench.mild.detecting import ParsingDetector, PoseDetector
    from mild_bench.mild.pipeline import MildPipeline

    with quiet():
        pipeline = MildPipeline.from_pretrained(folder, local_files_only=True)
        pipeline.to(_device(settings.device))
        pose = None if settings.pose_model is None else PoseDetector(settings.pose_model)
        where = settings.parsing_model
        parsing = None if where is None else ParsingDetector(where)
    pipeline.set_progress_bar_config(disable=True)
    return MildEraser(_card(settings, chosen, folder), pipeline, settings, pose, parsing)


def package_card() -> EraserCard:
    """Return the card of ``mild`` with the package's weights, without loading them.

    Raises:
        MissingPart: there are no weights.
    """
    settings = MildSettings()
    return _card(settings, {}, weights_folder(settings.folder))


def _card(settings: MildSettings, chosen: Mapping[str, Setting], folder: Path) -> EraserCard:
    values: dict[str, Setting] = asdict(settings)
    if settings.folder is not None:
        values["folder"] = folder.resolve().name
    shown = {name: values[name] for name in chosen if name not in HIDDEN}
    licence, data_sets = model_card(folder)
    config = read_json(folder / "model_index.json")
    name = board_name(ERASER, shown, asdict(MildSettings()))
    return EraserCard(
        name=name.replace('hmg="none"', "hmg=none"),  # a word in a spec, as ``from_spec`` reads it
        version=__version__,
        licence=licence,
        trained_on=data_sets,
        supports_attention_probe=True,
        settings={
            **values,
            "steps": settings.steps or int(config["steps"]),
            "strength": settings.strength or float(config.get("strength", 1)),
            "side": settings.side or int(config["side"]),
            "crop_side": int(config["crop_side"]),
            "margin": float(config["margin"]),
            "scheduler": str(config["scheduler"][1]),
            "weights": fingerprint(folder),
        },
        paper=PAPER,
    )


def weights_folder(named: str | None = None) -> Path:
    """Return the folder of a saved MildPipeline: the named one, or the package's own.

    Raises:
        BadInput: none is there.
        MissingPart: the package comes without.
    """
    folder = WEIGHTS if named is None else Path(named).expanduser()
    if (folder / "model_index.json").is_file():
        return folder
    if named is None:
        raise MissingPart(
            f"{ERASER}: this installation comes without weights; train some with "
            f"'mild-bench train' and name their folder: {ERASER}[folder=DIR]"
        )
    raise BadInput(
        f"{ERASER}: expected folder to hold a saved MildPipeline, got {folder} without "
        "model_index.json; save one with pipeline.save_pretrained(DIR)"
    )


def _device(name: str) -> str:
    from torch import cuda

    if name == "auto":
        return "cuda" if cuda.is_available() else "cpu"
    if name == "cuda" and not cuda.is_available():
        raise MissingPart(f"{ERASER}: there is no cuda device here; write device=cpu")
    return name
