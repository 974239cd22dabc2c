"""What an eraser is, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

from mild_bench.images import Mask, Rgb, Rgba
from mild_bench.store import canonical_json, sha256
from mild_bench.task import Task

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class EraserCard:
    """What a reader of a board must know of an eraser.

    Attributes:
        name: as on the board, with settings that differ from the defaults in brackets.
        trained_on: data sets it was trained on; overlap with a release is flagged.
        needs: parts beyond the packages (``cuda``, ``weights: ...``), empty when none.
        control: ``first`` when it must win on every metric, ``last`` when it must be among the
            losers, None for a real eraser.
        needs_truth: it looks at the answer (a control only).
        batch: how many tasks it likes to get at once.
        supports_attention_probe: it is a ``ProbedEraser``.
    """

    name: str
    version: str
    licence: str
    trained_on: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    deterministic: bool = True
    supports_attention_probe: bool = False
    control: str | None = None
    needs_truth: bool = False
    batch: int = 1
    settings: Mapping[str, Setting] = field(default_factory=dict)
    paper: str = ""

    @property
    def settings_hash(self) -> str:
        """Twelve hex digits that change with the name, version or any setting."""
        chosen = {"name": self.name, "version": self.version, "settings": dict(self.settings)}
        return sha256(canonical_json(chosen))[:12]

    def as_json(self) -> dict[str, object]:
        """Return the card as plain JSON values."""
        return {**asdict(self), "settings_hash": self.settings_hash}


@dataclass(frozen=True)
class Erasure:
    """An eraser's answer to one task.

    Attributes:
        result: the whole picture, uint8, as large as the task's input, as the eraser made it
            (not composited).
        layers: RGBA layers by person id, where the eraser makes them.
    """

    task_id: str
    result: Rgb
    layers: Mapping[str, Rgba] = field(default_factory=dict)


@runtime_checkable
class Eraser(Protocol):
    """Anything that turns tasks into erasures, one for each task, in order."""

    @property
    def card(self) -> EraserCard:
        """Who it is and what it needs."""

    def __call__(self, tasks: Sequence[Task], *, seed: int) -> Iterator[Erasure]:
        """Erase; draw randomness from ``task_seed(seed, task.task_id)`` only."""


class SeenTask(Protocol):
    """A task as an eraser's model sees it; all in the model's pixels, height x width."""

    @property
    def task(self) -> Task:
        """What was asked."""

    @property
    def picture(self) -> Rgb:
        """The input, uint8, resized, cropped or padded."""

    @property
    def hole(self) -> Mask:
        """The erase mask, without what the eraser adds to it."""

    @property
    def people(self) -> Mapping[str, Mask]:
        """Every visible person by id, erased or not; no pixel where out of the frame."""

    @property
    def padding(self) -> Mask:
        """Pixels that are no part of the input."""


TaskHook = Callable[[SeenTask], AbstractContextManager[Any]]


@runtime_checkable
class ProbedEraser(Eraser, Protocol):
    """An eraser whose attention can be read (``--probe cag``) and whose card says so.

    Attributes:
        pipeline: has a diffusers ``unet`` or ``transformer``. Where its batches have parts that
            are not guidance's two halves, it also has ``attention_parts``: their names in order,
            or a method that returns them while the model runs (``cond`` is the one that scores).
        on_task: None, or what to call with each task before the model runs; what that returns is
            to be entered around the model's runs for this task and nothing else.
    """

    pipeline: Any
    on_task: TaskHook | None
