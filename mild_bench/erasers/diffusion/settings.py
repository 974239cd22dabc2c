"""The settings of a diffusion eraser, checked, and what they mean to a pipeline's call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from mild_bench.erasers.diffusion.fit import SIZE_POLICIES, SizePolicy
from mild_bench.erasers.settings import choice, given, number, switch, text, whole
from mild_bench.erasure import Setting
from mild_bench.errors import BadInput

ERASER = "diffusers"
PROMPT = "background"
NEGATIVE_PROMPT = "person, people, human, body, face, shadow"
DTYPES = ("float32", "bfloat16", "float16")
OFFLOADS = ("none", "model", "sequential")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class DiffusionSettings:
    """What can be chosen; docs/diffusion.md says what each does.

    ``guidance`` and ``strength`` None: what the pipeline's own call does by default.
    ``negative_prompt`` None: ``NEGATIVE_PROMPT`` where the pipeline takes one.

    Raises:
        BadInput: a value that is not allowed.
    """

    prompt: str = PROMPT
    negative_prompt: str | None = None
    steps: int = 20
    guidance: float | None = None
    strength: float = 1.0
    dtype: str = "float32"
    device: str = "auto"
    dilate: int = 8
    latent_dilate: int = 1
    size: SizePolicy = "resize"
    side: int = 512
    margin: float = 0.5
    offload: str = "none"
    composite: bool = True
    download: bool = False

    def __post_init__(self) -> None:
        text(ERASER, "prompt", self.prompt)
        if self.negative_prompt is not None:
            text(ERASER, "negative_prompt", self.negative_prompt)
        whole(ERASER, "steps", self.steps, 1, 1000)
        if self.guidance is not None:
            number(ERASER, "guidance", self.guidance, 0, 100)
        number(ERASER, "strength", self.strength, 0.01, 1)
        choice(ERASER, "dtype", self.dtype, DTYPES)
        choice(ERASER, "device", self.device, DEVICES)
        whole(ERASER, "dilate", self.dilate, 0, 512)
        whole(ERASER, "latent_dilate", self.latent_dilate, 0, 32)
        choice(ERASER, "size", self.size, SIZE_POLICIES)
        whole(ERASER, "side", self.side, 16, 8192)
        number(ERASER, "margin", self.margin, 0, 10)
        choice(ERASER, "offload", self.offload, OFFLOADS)
        switch(ERASER, "composite", self.composite)
        switch(ERASER, "download", self.download)
        if int(self.steps * self.strength) < 1:
            raise BadInput(
                f"{ERASER}: steps x strength must be at least 1 (that many steps are taken), got "
                f"{self.steps} x {self.strength:g}; raise one of them"
            )

    def as_settings(self) -> dict[str, Setting]:
        """Return every setting that can change a result (``download`` cannot)."""
        return {key: value for key, value in asdict(self).items() if key != "download"}


def from_spec(chosen: Mapping[str, Setting]) -> DiffusionSettings:
    """Return the settings of a spec; ``offload=none`` and ``guidance=none`` are words there.

    Raises:
        BadInput: an unknown name or a value that is not allowed.
    """
    known = [field.name for field in fields(DiffusionSettings)]
    return DiffusionSettings(
        **given(
            ERASER, chosen, known, numbers=("strength", "margin", "guidance"), words=("offload",)
        )
    )


def call_arguments(pipeline_class: type, settings: DiffusionSettings) -> dict[str, Any]:
    """Return the arguments that every call of a pipeline gets, only such as it accepts.

    Raises:
        BadInput: a setting was chosen that this pipeline has no use for.
    """
    accepted = inspect.signature(pipeline_class.__call__).parameters
    negative = settings.negative_prompt
    # The name in the call, its value, and whether it was chosen rather than left alone.
    wanted: dict[str, tuple[object, bool]] = {
        "prompt": (settings.prompt, settings.prompt != PROMPT),
        "negative_prompt": (NEGATIVE_PROMPT if negative is None else negative, bool(negative)),
        "num_inference_steps": (settings.steps, False),
        "strength": (settings.strength, settings.strength != 1),
        "guidance_scale": (settings.guidance, settings.guidance is not None),
    }
    refused = [name for name, (_, chosen) in wanted.items() if chosen and name not in accepted]
    if refused:
        raise BadInput(
            f"{ERASER}: a {pipeline_class.__name__} takes no {refused[0]}; leave that setting out"
        )
    arguments = {name: value for name, (value, _) in wanted.items() if name in accepted}
    if settings.guidance is None and "guidance_scale" in accepted:
        arguments["guidance_scale"] = accepted["guidance_scale"].default
    return arguments
