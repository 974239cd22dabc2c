"""MildPipeline: a picture and masks in, a clean background and complete people out."""

# mypy: disallow-untyped-calls=False
# diffusers' own methods carry no types.

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from diffusers import DiffusionPipeline, UNet2DConditionModel
from huggingface_hub import snapshot_download
from torch import Tensor

from mild_bench.errors import BadInput
from mild_bench.images import Rgb, Rgba, from_bchw, to_bchw
from mild_bench.mild.adapters import AdapterSettings
from mild_bench.mild.alpha_head import AlphaHead
from mild_bench.mild.branches import BACKGROUND, FILLS, Branch, continued
from mild_bench.mild.checkpoint import FOLDER, load_component, load_parts, save_parts
from mild_bench.mild.hmg import HumanMorphologyGuidance, Mode
from mild_bench.mild.latents import Codec
from mild_bench.mild.layers import layer_of
from mild_bench.mild.network import MildNetwork, Text
from mild_bench.mild.picture import MildInput, branches_of, picture_layout
from mild_bench.mild.recompose import MildOutput, without_contradictions
from mild_bench.mild.sampling import Group, start_groups, step_group
from mild_bench.mild.text import encode_prompts
from mild_bench.store import read_json

CHUNK = 8
FAVOUR = 0.5  # nats: where the biases of spatial attention start
TEXT_PARTS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
SAFE = ("*.json", "*.txt", "*.model", "*.safetensors")
StepEnd = Callable[[Any, int, Tensor, dict[str, Any]], dict[str, Any]]


class MildPipeline(DiffusionPipeline):  # type: ignore[misc]
    """The layered eraser of arXiv 2508.06543 around an inpainting UNet of diffusers.

    ``save_pretrained``, ``from_pretrained``, ``to``, the progress bar and callbacks work as in
    diffusers. ``attention_parts`` names, during each call of the UNet, the parts of its batch for
    an attention probe: ``background`` sees the whole frame, people in crops have no name.
    """

    _optional_components: ClassVar[list[str]] = list(TEXT_PARTS)

    def __init__(
        self,
        unet: Any,
        vae: Any,
        scheduler: Any,
        hmg: HumanMorphologyGuidance,
        alpha_head: AlphaHead,
        text_encoder: Any = None,
        tokenizer: Any = None,
        text_encoder_2: Any = None,
        tokenizer_2: Any = None,
        side: int = 512,
        crop_side: int = 256,
        margin: float = 0.15,
        rank: int = 16,
        rank_alpha: float = 16.0,
        targets: str = "attention",
        steps: int = 20,
        fill: str = "grey",
        strength: float = 1.0,
    ) -> None:
        """Put MILD's parts on the UNet; ``from_base`` makes untrained ones.

        Args:
            unet: a UNet2DConditionModel for inpainting; it gets adapters and is frozen.
            vae: AutoencoderKL, AutoencoderTiny or alike.
            scheduler: of diffusers.
            hmg, alpha_head: made for this UNet.
            text_encoder, tokenizer, text_encoder_2, tokenizer_2: for prompts; may be left out.
            side: pixels of the frame's longer side as the network sees it.
            crop_side: pixels of a person's square as the network sees it.
            margin: about what shows of a person, as a share of its longer side.
            rank, rank_alpha, targets: of the adapters.
            steps: of the scheduler, unless a call says otherwise.
            fill: what the hole holds in the background's picture (``branches.FILLS``); with
                ``smooth`` the result is a smooth filling at the picture's size and what the model
                changed of it.
            strength: share of the steps that the background takes, unless a call says otherwise.

        Raises:
            BadInput: parts that do not fit each other.
        """
        super().__init__()
        if fill not in FILLS:
            raise BadInput(f"pipeline: fill must be one of {', '.join(FILLS)}, got {fill!r}")
        self.register_modules(
            unet=unet, vae=vae, scheduler=scheduler, hmg=hmg, alpha_head=alpha_head,
            text_encoder=text_encoder, tokenizer=tokenizer,
            text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2,
        )  # fmt: skip
        self.register_to_config(
            side=side, crop_side=crop_side, margin=margin,
            rank=rank, rank_alpha=rank_alpha, targets=targets, steps=steps,
            fill=fill, strength=strength,
        )  # fmt: skip
        self.codec = Codec(vae)
        self.network = MildNetwork(
            unet, hmg, alpha_head, AdapterSettings(rank, rank_alpha, targets)
        )
        self.attention_parts: tuple[str, ...] = ()

    @classmethod
    def from_base(cls, pipeline: Any, **settings: Any) -> MildPipeline:
        """Return an untrained MILD around an inpainting pipeline (SD 1.5, 2, SDXL or alike).

        Args:
            pipeline: has ``unet``, ``vae`` and ``scheduler``, and text encoders if it has some.
            settings: those of ``__init__`` that are no parts.
        """
        optional: dict[str, Any] = {name: getattr(pipeline, name, None) for name in TEXT_PARTS}
        made = cls(
            unet=pipeline.unet,
            vae=pipeline.vae,
            scheduler=pipeline.scheduler,
            hmg=HumanMorphologyGuidance.of(pipeline.unet),
            alpha_head=AlphaHead.of(pipeline.unet, Codec(pipeline.vae).scale),
            **optional,
            **settings,
        )
        made.network.sma.favour_background(FAVOUR)
        return made

    @property
    def multiple(self) -> int:
        """What the sides of the network's pictures are multiples of, in pixels."""
        return int(self.codec.scale * 2 ** (len(self.unet.config.down_block_types) - 1))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> None:
        """Write the pipeline to a folder, all weights as safetensors."""
        with self.network.adapters.hidden():
            super().save_pretrained(save_directory, safe_serialization=True, **options)
        save_parts(self.network, Path(save_directory) / FOLDER)

    @classmethod
    def from_pretrained(cls, where: str | Path, **options: Any) -> MildPipeline:
        """Return a saved pipeline, every weight of it from safetensors.

        Args:
            where: a folder, or a hub id (fetched into the cache unless ``local_files_only``).
            options: of diffusers' ``from_pretrained``.

        Raises:
            BadInput: parts that are missing or do not fit, and which.
        """
        folder = Path(where)
        if not folder.is_dir():
            offline = bool(options.get("local_files_only"))
            patterns = [*SAFE, *(f"*/{pattern}" for pattern in SAFE)]
            found = snapshot_download(str(where), allow_patterns=patterns, local_files_only=offline)
            folder = Path(found)
        dtype = options.get("torch_dtype")
        index = read_json(folder / "model_index.json")
        if index.get("_class_name") != cls.__name__:
            raise BadInput(
                f"{folder}: expected a saved {cls.__name__}, got a {index.get('_class_name')}; "
                "make one of an inpainting pipeline with from_base"
            )
        classes = {
            "unet": UNet2DConditionModel,
            "vae": getattr(diffusers, str(index["vae"][1])),
            "hmg": HumanMorphologyGuidance,
            "alpha_head": AlphaHead,
        }
        parts = {
            name: options.pop(name, None) or load_component(part, folder / name, dtype)
            for name, part in classes.items()
        }
        pipeline: MildPipeline = super().from_pretrained(folder, **parts, **options)
        load_parts(pipeline.network, folder / FOLDER)
        return pipeline

    def to(self, *args: Any, **options: Any) -> MildPipeline:
        """Move everything, as in diffusers."""
        moved: MildPipeline = super().to(*args, **options)
        self.network.sma.to(self.network.device)
        return moved

    @torch.no_grad()
    def __call__(
        self,
        given: MildInput,
        *,
        num_inference_steps: int | None = None,
        strength: float | None = None,
        hmg: Mode = "both",
        sma: bool = True,
        layers: bool = True,
        complete: bool = True,
        prompt: str = "",
        person_prompt: str = "",
        side: int | None = None,
        crop_side: int | None = None,
        chunk: int = CHUNK,
        generator: torch.Generator | None = None,
        callback_on_step_end: StepEnd | None = None,
    ) -> MildOutput:
        """Take a picture apart.

        Args:
            given: picture, hole and people.
            num_inference_steps: of the scheduler; the model's own number when None.
            strength: share of these that the background takes, in (0, 1]; below 1 it begins with
                the filled hole. The model's own when None.
            hmg: which guidance; what ``given`` does not tell is replaced by null tokens.
            sma: whether spatially-modulated attention is on.
            layers: whether to paint the people; off is one background branch in one pass.
            complete: whether people who stay and show at the hole are taken apart, too: they go
                on behind those who go, and the background is not painted in their colours. Off
                without ``layers``.
            prompt, person_prompt: for models with text encoders.
            side, crop_side: other sizes than the model was trained for, in pixels.
            chunk: branches in one call of the UNet at most; bounds memory, not what comes out.
            generator: where noise comes from; one seeded with 0 when None.
            callback_on_step_end: called with the pipeline, the step, the timestep and
                ``{"latents": {branch: 1 x channels x height x width}}``; what it returns may hold
                other ``latents``.

        Raises:
            BadInput: a setting out of range, or a prompt without a text encoder.
        """
        steps = int(self.config.steps) if num_inference_steps is None else num_inference_steps
        share = float(self.config.strength) if strength is None else strength
        if not 0 < share <= 1:
            raise BadInput(f"pipeline: strength must be above 0 and at most 1, got {share:g}")
        if steps < 1 or chunk < 1:
            raise BadInput(
                f"pipeline: num_inference_steps and chunk must be at least 1, got {steps} and "
                f"{chunk}"
            )
        layout = picture_layout(
            given.picture.shape[:2], side or self.config.side,
            crop_side or self.config.crop_side, self.config.margin, self.multiple,
            self.config.fill,
        )  # fmt: skip
        complete = complete and layers
        wide = given.with_staying() if complete else given
        branches = branches_of(wide, layout, layers=layers)
        groups = start_groups(
            self.network, self.codec, self.scheduler, branches,
            steps=steps, mode=hmg,
            texts=self._texts(branches, prompt, person_prompt),
            generator=generator or torch.Generator().manual_seed(0),
            strength=share,
        )  # fmt: skip
        self._denoise(groups, sma=sma, chunk=chunk, callback=callback_on_step_end)
        settings = {"steps": steps, "strength": share, "hmg": hmg, "sma": sma, "layers": layers}
        painted, people = self._output(wide, groups)
        return MildOutput(
            given=given,
            painted=painted,
            layers={name: layer for name, layer in people.items() if name in given.erase},
            staying={name: layer for name, layer in people.items() if name not in given.erase},
            metadata={**settings, "complete": complete, "branches": len(branches)},
        )

    def _denoise(
        self, groups: list[Group], *, sma: bool, chunk: int, callback: StepEnd | None
    ) -> None:
        steps = len(groups[0].scheduler.timesteps)
        with self.progress_bar(total=steps) as bar:
            for number in range(steps):
                for group in groups:
                    if number < group.first:
                        continue
                    step_group(
                        self.network, group, group.scheduler.timesteps[number],
                        sma=sma, chunk=chunk, last=number == steps - 1, announce=self._announce,
                    )  # fmt: skip
                if callback is not None:
                    self._call_back(callback, number, groups)
                bar.update()
        self.network.sma.set_sides(None)
        self.attention_parts = ()

    def _call_back(self, callback: StepEnd, number: int, groups: list[Group]) -> None:
        latents = {
            branch.name: group.latents[row : row + 1]
            for group in groups
            for row, branch in enumerate(group.branches)
        }
        answer = callback(self, number, groups[0].scheduler.timesteps[number], {"latents": latents})
        latents = (answer or {}).get("latents", latents)
        for group in groups:
            group.latents = torch.cat([latents[branch.name] for branch in group.branches])

    def _output(self, given: MildInput, groups: list[Group]) -> tuple[Rgb, dict[str, Rgba]]:
        """Return the painted frame without people, and the people."""
        painted: dict[str, Tensor] = {}
        alpha: dict[str, Tensor] = {}
        for group in groups:
            pictures = self.codec.decode(group.latents)
            if not bool(torch.isfinite(pictures).all()):
                raise BadInput(
                    "pipeline: the model returned values that are no numbers; load it with "
                    "torch_dtype=torch.float32 or torch.bfloat16"
                )
            painted |= {one.name: row for one, row in zip(group.branches, pictures, strict=True)}
            alpha |= group.alpha
        visible = {name: given.visible(name) for name in alpha}
        people = [one for group in groups for one in group.branches if one.box is not None]
        layers = {
            one.name: layer_of(
                painted[one.name], alpha[one.name], one.box, given.picture, visible[one.name]
            )
            for one in people
            if one.box is not None
        }
        whole = self._background(given, groups[0], painted[BACKGROUND])
        return whole, without_contradictions(layers, visible)

    def _background(self, given: MildInput, group: Group, painted: Tensor) -> Rgb:
        """Return the painted frame at the picture's size.

        A model that saw the hole filled has changed that filling: the changes are made to a
        filling at the picture's own size, so that neither the autoencoder's errors nor its
        resolution come with them.
        """
        if self.config.fill == "grey":
            return from_bchw(given.back(painted)[None])
        row = [branch.name for branch in group.branches].index(BACKGROUND)
        seen = self.codec.decode(group.condition.known[row : row + 1, 1:])[0]
        filling = continued(to_bchw(given.picture)[0], torch.from_numpy(given.unseen().copy()))
        return from_bchw((filling + given.back(painted - seen)).clamp(0, 1)[None])

    def _texts(self, branches: list[Branch], prompt: str, person_prompt: str) -> list[Text | None]:
        pairs = ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2))
        encoders = [pair for pair in pairs if None not in pair]
        text = encode_prompts(encoders, (prompt, person_prompt))
        return [None if text is None else text.row(int(one.kind == "fg")) for one in branches]

    def _announce(self, branches: tuple[Branch, ...]) -> None:
        self.attention_parts = tuple(one.name if one.kind == "bg" else "" for one in branches)
