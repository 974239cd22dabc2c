"""The settings of the eraser ``mild``, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from mild_bench.erasers.settings import choice, given, number, switch, text, whole
from mild_bench.erasure import Setting
from mild_bench.errors import BadInput

if TYPE_CHECKING:
    from mild_bench.mild.degrading import Degradation

ERASER = "mild"
HMG = ("none", "pose", "parsing", "both")
PRIORS = ("annotated", "seen", "detected")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class MildSettings:
    """What can be chosen; docs/mild.md says what each does.

    ``steps``, ``strength``, ``side`` None: those that the weights ask for. ``folder`` None: the
    weights of the package.

    Raises:
        BadInput: a value that is not allowed.
    """

    sma: bool = True
    hmg: Literal["none", "pose", "parsing", "both"] = "both"
    layers: bool = True
    complete: bool = True
    refine: bool = True
    steps: int | None = None
    strength: float | None = None
    priors: str = "annotated"
    pose_model: str | None = None
    parsing_model: str | None = None
    drop: float = 0.0
    jitter: float = 0.0
    swap: float = 0.0
    side: int | None = None
    chunk: int = 8
    dilate: int = 2
    composite: bool = True
    device: str = "auto"
    folder: str | None = None

    def __post_init__(self) -> None:
        for name in ("sma", "layers", "complete", "refine", "composite"):
            switch(ERASER, name, getattr(self, name))
        choice(ERASER, "hmg", self.hmg, HMG)
        choice(ERASER, "priors", self.priors, PRIORS)
        choice(ERASER, "device", self.device, DEVICES)
        if self.steps is not None:
            whole(ERASER, "steps", self.steps, 1, 1000)
        if self.strength is not None:
            number(ERASER, "strength", self.strength, 0.01, 1)
        for name in ("drop", "swap"):
            number(ERASER, name, getattr(self, name), 0, 1)
        number(ERASER, "jitter", self.jitter, 0, 1000)
        if self.side is not None:
            whole(ERASER, "side", self.side, 32, 8192)
        whole(ERASER, "chunk", self.chunk, 1, 64)
        whole(ERASER, "dilate", self.dilate, 0, 512)
        for name in ("folder", "pose_model", "parsing_model"):
            if getattr(self, name) is not None:
                text(ERASER, name, getattr(self, name))
        networks = self.pose_model is not None or self.parsing_model is not None
        if networks != (self.priors == "detected"):
            raise BadInput(
                f"{ERASER}: priors=detected and a pose_model or parsing_model go together; write "
                f"{ERASER}[priors=detected,pose_model=DIR]"
            )

    @property
    def degradation(self) -> Degradation:
        """What is done to the priors."""
        from mild_bench.mild.degrading import Degradation

        return Degradation(self.drop, self.jitter, self.swap, seen_only=self.priors == "seen")


def from_spec(chosen: Mapping[str, Setting]) -> MildSettings:
    """Return the settings of a spec; ``hmg=none`` is a word there.

    Raises:
        BadInput: an unknown name or a value that is not allowed.
    """
    known = [field.name for field in fields(MildSettings)]
    return MildSettings(
        **given(
            ERASER, chosen, known, numbers=("strength", "drop", "jitter", "swap"), words=("hmg",)
        )
    )
