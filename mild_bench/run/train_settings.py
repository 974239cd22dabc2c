"""What a training does: read from YAML, refused with every fault in one line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mild_bench.errors import BadInput
from mild_bench.store import canonical_json, sha256

PRESETS = Path(__file__).parent / "presets"
Precision = Literal["no", "bf16", "fp16"]
StageName = Literal["autoencoder", "base", "layers"]
WHAT_WENT_BEFORE: dict[StageName, StageName | None] = {
    "autoencoder": None, "base": "autoencoder", "layers": "base",
}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataSettings(_Part):
    """Where pictures come from.

    Attributes:
        recipe: of the composed scenes: a file, or a name in the package; of the train part.
        scenes: how many to compose.
        workspace: instead of both, a folder with scenes of the split ``train``.
        size: side of the scenes in pixels, 128 to 768; of others' scenes the shorter one at most.
        colour: strength of random gain, gamma, tint, hue and saturation, 0 to 3.
        zoom: the smallest part of a scene's side that is shown, in (0, 1].
        flip: whether half of the pictures are mirrored.
        people: most person branches of one scene in a batch.
    """

    recipe: str = "mild-mini-train"
    scenes: int = Field(default=1500, ge=1, le=200_000)
    workspace: str | None = None
    size: int = Field(default=320, ge=128, le=768)
    colour: float = Field(default=1.0, ge=0, le=3)
    zoom: float = Field(default=0.6, gt=0, le=1)
    flip: bool = True
    people: int = Field(default=2, ge=0, le=8)

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        if self.workspace is None:
            return self
        given = [
            name
            for name in ("recipe", "scenes")
            if getattr(self, name) != type(self).model_fields[name].default
        ]
        if given:
            raise ValueError(
                f"a workspace's scenes are there already; leave out {' and '.join(given)}"
            )
        return self


class ModelSettings(_Part):
    """The sizes of what is trained.

    Attributes:
        start: folder or hub id of an inpainting pipeline of diffusers; None builds one from
            ``autoencoder``, ``unet`` and ``scheduler``.
        autoencoder, unet, scheduler: arguments of diffusers' AutoencoderKL,
            UNet2DConditionModel and DDIMScheduler.
        frame, crop: pixels of the frame and of a person's square as the network sees them.
        margin: about what shows of a person, as a share of its longer side.
        rank, rank_alpha, targets: of the adapters.
        prompt, person_prompt: for pipelines with text encoders.
    """

    start: str | None = None
    autoencoder: dict[str, Any] = {}
    unet: dict[str, Any] = {}
    scheduler: dict[str, Any] = {}
    frame: int = Field(default=256, ge=32, le=2048)
    crop: int = Field(default=128, ge=16, le=2048)
    margin: float = Field(default=0.35, ge=0, le=2)
    rank: int = Field(default=16, ge=1, le=512)
    rank_alpha: float = Field(default=16.0, gt=0)
    targets: Literal["attention", "everything"] = "attention"
    prompt: str = ""
    person_prompt: str = ""


class StageSettings(_Part):
    """One stage of a training.

    Attributes:
        stage: ``autoencoder``; ``base``: an inpainting UNet from nothing; ``layers``: adapters,
            guidance, spatial attention and alpha over the frozen base.
        steps: of the optimiser.
        batch: scenes in one forward pass of one process.
        accumulate: forward passes for one step.
        distinct: so many examples, again and again: they and their latents are made once and kept
            in memory (about 1.3 MB each at 256 pixels), which is most of the work on a CPU. 0:
            every example is another.
        learning_rate: at its highest; it rises over ``warmup`` steps and falls along a cosine to
            a twentieth.
        spatial_rate: how much faster the biases of spatial attention learn (``layers``).
        decay: of the running mean of weights that is kept, in [0, 1).
        clip: longest gradient.
        crop: pixels of the pictures (``autoencoder``).
        min_snr: gamma of min-SNR weighting, 0 for none.
        outside: weight of what is known already, next to 1 in the hole.
        fill: what the hole holds in the background's picture: ``grey``, as inpainting models know
            it, or ``smooth``, its surroundings continued into it (``base``, ``layers``).
        sma_off: share of steps without biases (``layers``).
        checkpoint_every, probe_every, log_every: steps; 0 never probes attention.
    """

    stage: StageName
    steps: int = Field(ge=1)
    batch: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    distinct: int = Field(default=0, ge=0)
    learning_rate: float = Field(default=3e-4, gt=0, le=1)
    warmup: int = Field(default=100, ge=0)
    spatial_rate: float = Field(default=10.0, gt=0)
    decay: float = Field(default=0.999, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0)
    crop: int = Field(default=128, ge=64, le=1024)
    min_snr: float = Field(default=5.0, ge=0)
    outside: float = Field(default=0.2, ge=0, le=1)
    fill: Literal["grey", "smooth"] = "grey"
    sma_off: float = Field(default=0.1, ge=0, lt=1)
    checkpoint_every: int = Field(default=500, ge=1)
    probe_every: int = Field(default=500, ge=0)
    log_every: int = Field(default=10, ge=1)


class TrainSettings(_Part):
    """A whole training: data, model, and stages in order.

    Attributes:
        precision: of the forward passes.
        weights: type of the numbers in the finished pipeline's files.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    seed: int = Field(default=0, ge=0, lt=2**63)
    precision: Precision = "no"
    weights: Literal["float32", "float16"] = "float32"
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    stages: tuple[StageSettings, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> TrainSettings:
        names = [stage.stage for stage in self.stages]
        if self.model.start is not None:
            if names != ["layers"]:
                raise ValueError(
                    f"stages: from a finished base (model.start) only layers train, got {names}"
                )
            return self
        for before, stage in zip([None, *names], names, strict=False):
            if WHAT_WENT_BEFORE[stage] != before:
                raise ValueError(
                    f"stages: expected autoencoder, base, layers in this order, got {names}; "
                    "or name a finished base in model.start"
                )
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of everything but what may change on the way: lengths, rhythm, ``weights``.

        A workspace has a hash of its own, of what is in it.
        """
        values = self.model_dump(mode="json")
        del values["weights"], values["data"]["workspace"]
        for stage in values["stages"]:
            for name in ("steps", "checkpoint_every", "probe_every", "log_every"):
                del stage[name]
        return sha256(canonical_json(values))


def read_settings(where: str) -> TrainSettings:
    """Read a config: a file, or the name of a preset.

    Raises:
        BadInput: no such file or preset, not YAML, unknown keys or values out of range.
    """
    path = _find(where)
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: expected a config file, got none ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: expected YAML, got {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected keys and values, got {type(values).__name__}")
    try:
        return TrainSettings(**values)
    except (ValidationError, TypeError) as error:
        raise BadInput(f"{path}: {_faults(error)}; docs/training.md lists the keys") from error


def _find(where: str) -> Path:
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if where in names:
        return PRESETS / f"{where}.yaml"
    if not Path(where).exists():
        near = difflib.get_close_matches(where, names, n=1)
        raise BadInput(
            f"{where}: no such config file; presets: {', '.join(names)}"
            + (f" (did you mean {near[0]}?)" if near else "")
        )
    return Path(where)


def _faults(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            faults.append(f"{where}: no such key{_near(fault['loc'])}")
            continue
        got = "" if fault["type"] in ("missing", "value_error") else f", got {fault['input']!r}"
        faults.append(f"{where}: {fault['msg']}{got}" if where else str(fault["msg"]))
    return "; ".join(faults)


def _near(loc: tuple[int | str, ...]) -> str:
    parts: dict[str, type[BaseModel]] = {
        "data": DataSettings, "model": ModelSettings, "stages": StageSettings,
    }  # fmt: skip
    known = parts.get(str(loc[0]), TrainSettings) if len(loc) > 1 else TrainSettings
    near = difflib.get_close_matches(str(loc[-1]), known.model_fields, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
