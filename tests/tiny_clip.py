"""A small open_clip network, made from a seed and saved to disk: real code, small weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "tiny-clip-for-tests"
CONFIG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16},
    "text_cfg": {
        "context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2,
    },
}  # fmt: skip


def save_tiny_clip(folder: Path) -> Any:
    """Register the model with open_clip, save ``tiny.safetensors`` and return the network."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{NAME}.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / f"{NAME}.json")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(NAME)
        torch.nn.init.normal_(model.visual.proj, std=1.0)
        model.logit_scale.data.fill_(2.0)
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        folder / "tiny.safetensors",
    )
    return model.eval()
