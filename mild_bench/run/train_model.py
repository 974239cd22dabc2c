"""The parts that train: built from a config or taken from a finished base, and their learners."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mild_bench.errors import BadInput, MissingPart
from mild_bench.images import Rgb
from mild_bench.run.train_data import Examples, validation_scenes
from mild_bench.run.train_loop import Stage
from mild_bench.run.train_settings import ModelSettings, StageSettings, TrainSettings
from mild_bench.scene import Scene

if TYPE_CHECKING:
    import torch

    from mild_bench.mild.branches import Fill
    from mild_bench.mild.latents import Codec
    from mild_bench.mild.pipeline import MildPipeline

SEEDS = {"autoencoder": 101, "base": 202, "layers": 303}
READ = 6  # scenes on which attention is read


@dataclass
class Parts:
    """The model while it is trained.

    Attributes:
        settings: of the model.
        vae, unet, scheduler: diffusers' classes.
        base: the pipeline they came from, None when built here.
        mild: the pipeline around them, made when the layers' stage begins.
    """

    settings: ModelSettings
    vae: Any
    unet: Any
    scheduler: Any
    base: Any = None
    mild: MildPipeline | None = None

    @classmethod
    def start(cls, settings: TrainSettings, device: torch.device) -> Parts:
        """Build them, or load the base that the config names.

        Raises:
            BadInput: arguments that diffusers does not take, or a base that is none.
        """
        import torch

        model = settings.model
        if model.start is not None:
            base = _load_base(model.start)
            parts = cls(model, base.vae, base.unet, base.scheduler, base)
        else:
            with torch.random.fork_rng():
                torch.manual_seed(settings.seed)
                parts = cls(model, *_built(model))
        for module in (parts.vae, parts.unet):
            module.to(device).requires_grad_(False)
        return parts

    def pipeline(self, fill: Fill = "grey") -> MildPipeline:
        """Return MILD around the parts; the first call says what its hole holds."""
        from mild_bench.mild.pipeline import MildPipeline

        if self.mild is None:
            sizes = self.settings
            given: Any = self.base if self.base is not None else self
            self.mild = MildPipeline.from_base(
                given, side=sizes.frame, crop_side=sizes.crop, margin=sizes.margin,
                rank=sizes.rank, rank_alpha=sizes.rank_alpha, targets=sizes.targets, fill=fill,
            )  # fmt: skip
        return self.mild

    def measure_latents(self, scenes: Sequence[Scene]) -> None:
        """Set the factor that gives the latents of these scenes a standard deviation of 1."""
        import torch

        from mild_bench.mild.train.autoencoder import latent_scale

        side = self.settings.frame
        pictures = torch.stack([as_tensor(_resized(one.recompose(), side)) for one in scenes])
        scale = latent_scale(self.vae, pictures.to(self.vae.device))
        self.vae.register_to_config(scaling_factor=round(scale, 5))


def make_stage(
    settings: TrainSettings,
    stage: StageSettings,
    parts: Parts,
    files: tuple[Path, ...],
    device: torch.device,
) -> Stage:
    """Return a stage ready to run."""
    examples = Examples(files, stage, settings.data, settings.model, settings.seed)
    make = {"autoencoder": _autoencoder, "base": _base, "layers": _layers}[stage.stage]
    return make(settings, stage, parts, examples, device)


def _autoencoder(
    settings: TrainSettings, stage: StageSettings, parts: Parts, examples: Examples,
    device: torch.device,
) -> Stage:  # fmt: skip
    import torch

    from mild_bench.mild.train.autoencoder import AutoencoderLearner
    from mild_bench.run.train_perceptual import PerceptualDistance

    parts.vae.requires_grad_(True)

    def prepare(pictures: list[Rgb]) -> torch.Tensor:
        return torch.stack([as_tensor(one) for one in pictures]).to(device)

    return Stage(
        settings=stage,
        learner=AutoencoderLearner(parts.vae, PerceptualDistance(device)),
        groups=[(dict(parts.vae.named_parameters()), 1.0)],
        examples=examples,
        prepare=prepare,
        probe=None,
        seed=settings.seed + SEEDS[stage.stage],
    )


def _base(
    settings: TrainSettings, stage: StageSettings, parts: Parts, examples: Examples,
    device: torch.device,
) -> Stage:  # fmt: skip
    from mild_bench.mild.train.base import BaseLearner

    parts.vae.requires_grad_(False)
    parts.unet.requires_grad_(True)
    return Stage(
        settings=stage,
        learner=BaseLearner(parts.unet, _codec(stage, parts.vae), _denoising(stage, parts)),
        groups=[(dict(parts.unet.named_parameters()), 1.0)],
        examples=examples,
        prepare=_joined,
        probe=None,
        seed=settings.seed + SEEDS[stage.stage],
    )


def _layers(
    settings: TrainSettings, stage: StageSettings, parts: Parts, examples: Examples,
    device: torch.device,
) -> Stage:  # fmt: skip
    import torch

    from mild_bench.mild.text import encode_prompts
    from mild_bench.mild.train.layered import LayeredLearner
    from mild_bench.mild.train.samples import Sizes
    from mild_bench.run.train_probe import AttentionReadings, samples_to_read

    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        mild = parts.pipeline(stage.fill).to(device)
    encoders = [
        (tokenizer, encoder)
        for tokenizer, encoder in (
            (mild.tokenizer, mild.text_encoder), (mild.tokenizer_2, mild.text_encoder_2),
        )
        if tokenizer is not None and encoder is not None
    ]  # fmt: skip
    text = encode_prompts(encoders, (parts.settings.prompt, parts.settings.person_prompt))
    network, codec, denoising = mild.network, _codec(stage, mild.vae), _denoising(stage, parts)
    learner = LayeredLearner(network, codec, denoising, text=text, sma_off=stage.sma_off)
    trained = network.trainable()
    biases = {name: one for name, one in trained.items() if name.startswith("sma.")}
    rest = {name: one for name, one in trained.items() if name not in biases}
    sizes = Sizes(settings.model.frame, settings.model.crop, settings.model.margin, stage.fill)
    to_read = samples_to_read(validation_scenes(examples.files, READ), sizes)
    row = None if text is None else text.row(0)
    return Stage(
        settings=stage,
        learner=learner,
        groups=[(rest, 1.0), (biases, stage.spatial_rate)],
        examples=examples,
        prepare=_joined,
        probe=AttentionReadings(network, codec, denoising, to_read, row) if to_read else None,
        seed=settings.seed + SEEDS[stage.stage],
    )


def _codec(stage: StageSettings, vae: Any) -> Codec:
    from mild_bench.mild.train.codec import BatchCodec, RememberingCodec

    return RememberingCodec(vae) if stage.distinct else BatchCodec(vae)


def _denoising(stage: StageSettings, parts: Parts) -> Any:
    from mild_bench.mild.train.objective import Denoising

    return Denoising(parts.scheduler, gamma=stage.min_snr, outside=stage.outside)


def _built(model: ModelSettings) -> tuple[Any, Any, Any]:
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    latents = model.autoencoder.get("latent_channels", 4)
    channels = {"in_channels": 2 * latents + 1, "out_channels": latents}
    return (
        _constructed(AutoencoderKL, "autoencoder", model.autoencoder),
        _constructed(UNet2DConditionModel, "unet", {**model.unet, **channels}),
        _constructed(DDIMScheduler, "scheduler", model.scheduler),
    )


def _constructed(what: Any, name: str, arguments: dict[str, Any]) -> Any:
    lists = {key: tuple(v) if isinstance(v, list) else v for key, v in arguments.items()}
    try:
        return what(**lists)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(
            f"model.{name}: {what.__name__} of diffusers does not take this: {error}"
        ) from error


def _load_base(start: str) -> Any:
    from diffusers import AutoPipelineForInpainting

    folder = Path(start)
    if folder.exists() and not (folder / "model_index.json").is_file():
        raise BadInput(
            f"{start}: expected the folder of an inpainting pipeline of diffusers, got one without "
            "model_index.json; name the folder that save_pretrained wrote"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return AutoPipelineForInpainting.from_pretrained(start, use_safetensors=True)
    except OSError as error:
        reason = " ".join(str(error).split())[:200]
        raise MissingPart(
            f"model.start: {start} is not on this machine and could not be fetched ({reason}); "
            "name a folder, or fetch it where there is a network"
        ) from error
    except ValueError as error:
        raise BadInput(f"model.start: {start} is no inpainting pipeline: {error}") from error


def _joined(examples: list[Any]) -> list[Any]:
    return [sample.unpacked() for samples in examples for sample in samples]


def as_tensor(picture: Rgb) -> torch.Tensor:
    """Return uint8 height x width x 3 as float 3 x height x width in [0, 1]."""
    from mild_bench.images import to_bchw

    return to_bchw(picture)[0]


def _resized(picture: Rgb, side: int) -> Rgb:
    import cv2

    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
