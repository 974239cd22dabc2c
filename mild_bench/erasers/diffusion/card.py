"""What a reader of a board must know of a diffusion eraser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mild_bench.erasers.diffusion.folder import fingerprint
from mild_bench.erasers.diffusion.settings import ERASER, DiffusionSettings
from mild_bench.erasers.settings import board_name
from mild_bench.erasure import EraserCard, Setting

HIDDEN = ("device", "offload", "download")  # where it runs is on the card, not in the name


def diffusion_card(
    where: str,
    folder: Path,
    pipeline_class: type,
    settings: DiffusionSettings,
    chosen: Mapping[str, Setting],
    arguments: Mapping[str, Any],
    device: str,
) -> EraserCard:
    """Return the card: what was asked for, and what the pipeline makes of it.

    ``chosen`` are the settings of the spec, ``arguments`` those of the pipeline's call.
    """
    import diffusers
    import transformers

    name = folder.resolve().name if Path(where).expanduser().is_dir() else where
    shown = {key: asdict(settings)[key] for key in chosen if key not in HIDDEN}
    effective: dict[str, Setting] = {
        **settings.as_settings(),
        "prompt": arguments.get("prompt"),
        "negative_prompt": arguments.get("negative_prompt"),
        "guidance": arguments.get("guidance_scale"),
        "strength": arguments.get("strength"),
        "device": device,
        "pipeline": pipeline_class.__name__,
        "weights": fingerprint(folder),
    }
    licence, data_sets = model_card(folder)
    return EraserCard(
        name=board_name(f"{ERASER}:{name}", shown, asdict(DiffusionSettings())),
        version=f"diffusers {diffusers.__version__}, transformers {transformers.__version__}",
        licence=licence,
        trained_on=data_sets,
        supports_attention_probe=True,
        settings=effective,
    )


def model_card(folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return the licence and the training data that the pipeline's README.md declares."""
    from huggingface_hub import ModelCard

    path = folder / "README.md"
    if not path.is_file():
        return "of the weights: unknown", ()
    try:
        data = ModelCard.load(path, ignore_metadata_errors=True).data
    except Exception:  # a README is free text; a broken header is no reason to fail
        return "of the weights: unknown", ()
    named = data.get("license_name") if data.license == "other" else None
    data_sets = [data.datasets] if isinstance(data.datasets, str) else data.datasets or []
    return str(named or data.license or "of the weights: unknown"), tuple(
        str(name) for name in data_sets
    )
