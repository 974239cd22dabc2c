"""What a pipeline's networks ask of a picture."""

from __future__ import annotations

from typing import Any

from mild_bench.erasers.diffusion.settings import ERASER
from mild_bench.errors import BadInput

LEAST_MULTIPLE = 8  # some pipelines ask for it whatever their autoencoder


def find_denoiser(pipeline: Any) -> Any:
    """Return the network that takes away the noise.

    Raises:
        BadInput: the pipeline has none that is known.
    """
    for name in ("unet", "transformer"):
        found = getattr(pipeline, name, None)
        if found is not None:
            return found
    raise BadInput(
        f"{ERASER}: a {type(pipeline).__name__} has neither a unet nor a transformer; "
        "choose an inpainting pipeline"
    )


def latent_cell(pipeline: Any) -> int:
    """Return the side of one latent, in pixels (1 where there is no autoencoder)."""
    for name in ("vae_scale_factor", "movq_scale_factor"):
        found = getattr(getattr(pipeline, "decoder_pipe", pipeline), name, None)
        if found:
            return int(found)
    return 1


def picture_multiple(pipeline: Any) -> int:
    """Return what the sides of a pipeline's picture are multiples of, in pixels."""
    cell = latent_cell(pipeline)
    if hasattr(pipeline, "movq"):
        return cell * cell  # Kandinsky rounds its latents up to multiples of the scale factor
    processor = getattr(pipeline, "image_processor", None)
    step = processor.config.vae_scale_factor if processor is not None else cell
    patch = getattr(find_denoiser(pipeline).config, "patch_size", None)
    return max(step, cell * (patch if isinstance(patch, int) else 1), LEAST_MULTIPLE)
