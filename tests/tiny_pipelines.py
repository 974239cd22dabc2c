"""Small real diffusers pipelines, made from a seed and saved to disk: real code, small weights.

    python tests/tiny_pipelines.py FOLDER FAMILY

saves one to try ``diffusers:FOLDER`` with; its weights are random, so are its pictures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAMILIES = (
    "sd",
    "sdxl",
    "sd3",
    "flux-fill",
    "kandinsky",
)  # each an inpainting pipeline of its own class
TEXT_TO_IMAGE = "sd-text"  # a StableDiffusionPipeline: its family has an inpainting class
WIDTH = 32  # of the text encoders
LATENTS = 4
SD3_LATENTS = 16  # the pipeline accepts no other
TOKENS = 77


def make_pipeline(folder: Path, family: str, *, seed: int = 0) -> Path:
    """Save a tiny pipeline of a family (safetensors) to ``folder`` and return ``folder``.

    A latent is 4 x 4 pixels; the UNets attend on grids of 1/4 and 1/8 of the picture, the
    transformers on one of 1/8. Same arguments, same weights.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        MAKERS[family](folder).save_pretrained(folder, safe_serialization=True)
    return folder


def _sd(folder: Path) -> Any:
    from diffusers import StableDiffusionInpaintPipeline

    return _stable_diffusion(StableDiffusionInpaintPipeline, folder, channels=2 * LATENTS + 1)


def _sd_text(folder: Path) -> Any:
    from diffusers import StableDiffusionPipeline

    return _stable_diffusion(StableDiffusionPipeline, folder, channels=LATENTS)


def _stable_diffusion(pipeline: Any, folder: Path, *, channels: int) -> Any:
    from transformers import CLIPTextModel

    tokenizer = _clip_tokenizer(folder / "tokenizer")
    return pipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config(tokenizer)),
        tokenizer=tokenizer,
        unet=_unet(channels, context=WIDTH),
        scheduler=_ddim(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _sdxl(folder: Path) -> Any:
    from diffusers import StableDiffusionXLInpaintPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    tokenizer = _clip_tokenizer(folder / "tokenizer")
    sizes = {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + WIDTH,
        "transformer_layers_per_block": (1, 2),
        "use_linear_projection": True,
    }
    return StableDiffusionXLInpaintPipeline(
        vae=_vae(),
        text_encoder=CLIPTextModel(_clip_config(tokenizer)),
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(tokenizer)),
        tokenizer=tokenizer,
        tokenizer_2=_clip_tokenizer(folder / "tokenizer_2"),
        unet=_unet(2 * LATENTS + 1, context=2 * WIDTH, **sizes),
        scheduler=_ddim(),
        add_watermarker=False,
    )


def _sd3(folder: Path) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3InpaintPipeline,
    )
    from transformers import CLIPTextModelWithProjection

    tokenizer = _clip_tokenizer(folder / "tokenizer")
    tokenizer_3 = _t5_tokenizer(folder / "tokenizer_3")
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=SD3_LATENTS,
        out_channels=SD3_LATENTS,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=32,
    )
    return StableDiffusion3InpaintPipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(SD3_LATENTS, shift_factor=0.0),
        text_encoder=CLIPTextModelWithProjection(_clip_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=CLIPTextModelWithProjection(_clip_config(tokenizer)),
        tokenizer_2=_clip_tokenizer(folder / "tokenizer_2"),
        text_encoder_3=_t5(tokenizer_3, width=2 * WIDTH),
        tokenizer_3=tokenizer_3,
    )


def _flux_fill(folder: Path) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    tokenizer = _clip_tokenizer(folder / "tokenizer")
    tokenizer_2 = _t5_tokenizer(folder / "tokenizer_2")
    packed = 4 * LATENTS  # 2 x 2 latents are one token; the mask adds its 8 x 8 pixels
    transformer = FluxTransformer2DModel(
        in_channels=2 * packed + 8 * 8,
        out_channels=packed,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    return FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(shift_factor=0.0),
        text_encoder=CLIPTextModel(_clip_config(tokenizer)),
        tokenizer=tokenizer,
        text_encoder_2=_t5(tokenizer_2, width=WIDTH),
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )


def _kandinsky(folder: Path) -> Any:
    import torch
    from diffusers import KandinskyV22InpaintCombinedPipeline, PriorTransformer, UnCLIPScheduler
    from transformers import (
        CLIPImageProcessor,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    tokenizer = _clip_tokenizer(folder / "prior_tokenizer")
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
    )
    prior = PriorTransformer(
        num_attention_heads=2, attention_head_dim=12, embedding_dim=WIDTH, num_layers=1
    )
    prior.clip_std = torch.nn.Parameter(torch.ones_like(prior.clip_std))
    return KandinskyV22InpaintCombinedPipeline(
        unet=_image_unet(),
        scheduler=_ddim(),
        movq=_movq(),
        prior_prior=prior,
        prior_image_encoder=CLIPVisionModelWithProjection(vision),
        prior_text_encoder=CLIPTextModelWithProjection(_clip_config(tokenizer)),
        prior_tokenizer=tokenizer,
        prior_scheduler=UnCLIPScheduler(
            variance_type="fixed_small_log",
            prediction_type="sample",
            clip_sample=True,
            clip_sample_range=5.0,
        ),
        prior_image_processor=CLIPImageProcessor(size=28, crop_size=28),
    )


MAKERS: dict[str, Callable[[Path], Any]] = {
    "sd": _sd,
    "sdxl": _sdxl,
    "sd3": _sd3,
    "flux-fill": _flux_fill,
    "kandinsky": _kandinsky,
    TEXT_TO_IMAGE: _sd_text,
}


def _unet(channels: int, *, context: int, **sizes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=channels,
        out_channels=LATENTS,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=2,
        cross_attention_dim=context,
        **sizes,
    )


def _image_unet() -> Any:
    """A UNet that is told what to paint by an image embedding, as Kandinsky's is."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        in_channels=2 * LATENTS + 1,
        out_channels=2 * LATENTS,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        norm_num_groups=8,
        attention_head_dim=8,
        cross_attention_dim=WIDTH,
        addition_embed_type="image",
        encoder_hid_dim=WIDTH,
        encoder_hid_dim_type="image_proj",
        resnet_time_scale_shift="scale_shift",
    )


def _movq() -> Any:
    from diffusers import VQModel

    return VQModel(
        block_out_channels=(32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENTS,
        norm_num_groups=4,
        num_vq_embeddings=12,
        vq_embed_dim=LATENTS,
        norm_type="spatial",
    )


def _vae(channels: int = LATENTS, **sizes: Any) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=4,
        sample_size=64,
        force_upcast=False,
        **sizes,
    )


def _ddim() -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def _clip_config(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        projection_dim=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _clip_tokenizer(folder: Path) -> Any:
    """A CLIP tokenizer without merges: every letter is a token."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,-'"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)


def _t5(tokenizer: Any, *, width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=2 * WIDTH,
        num_layers=1,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return T5EncoderModel(config)


def _t5_tokenizer(folder: Path) -> Any:
    """A T5 tokenizer whose pieces are single letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,-'"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "$A </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return T5TokenizerFast.from_pretrained(folder, extra_ids=0, model_max_length=TOKENS)


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[2] not in MAKERS:
        raise SystemExit(f"expected FOLDER and one of {', '.join(MAKERS)}, got {sys.argv[1:]}")
    print(make_pipeline(Path(sys.argv[1]), sys.argv[2]))
