"""What CLIP sees: likeness to the truth, and whether there is a person.

References:
    Radford et al., Learning Transferable Visual Models From Natural Language Supervision,
    ICML 2021, arXiv 2103.00020. Networks and preprocessing are open_clip's own.
"""

from __future__ import annotations

import difflib
import pickle
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mild_bench.errors import BadInput, MissingPart
from mild_bench.images import Rgb
from mild_bench.metrics.regions import square_around
from mild_bench.metrics.view import Measure, Settings, Values, View
from mild_bench.protocol import Protocol
from mild_bench.score import Region
from mild_bench.store import canonical_json, sha256, sha256_file

if TYPE_CHECKING:
    from torch import Tensor

WITH_PERSON = ("a photo of a person", "a photo of people", "a photo of somebody standing there")
WITHOUT_PERSON = (
    "a photo of an empty place", "a photo of a scene without people", "a photo of a background",
)  # fmt: skip
MARGIN = 0.1  # of the mask's longer side, around the hole


@dataclass(frozen=True)
class Source:
    """Which network, and the file or folder of its weights.

    Attributes:
        tag: the open_clip tag whose preprocessing counts; empty for a checkpoint of one's own.
    """

    model: str
    path: Path
    text: str
    quick_gelu: bool = False
    tag: str = ""


@dataclass(frozen=True)
class Clip:
    """An open_clip network that is ready to embed.

    Attributes:
        prompts: 2 x dimension, unit rows: with a person, without.
        scale: the network's own logit scale.
    """

    model: Any
    transform: Callable[[Any], Tensor]
    prompts: Tensor
    scale: float
    weights: dict[str, object]

    def embed(self, picture: Rgb) -> Tensor:
        """Return the unit embedding of a uint8 height x width x 3 picture, float32 dimension."""
        import torch
        from PIL import Image

        with torch.inference_mode():
            pixels = self.transform(Image.fromarray(np.ascontiguousarray(picture)))[None]
            features: Tensor = self.model.encode_image(pixels, normalize=True)
            return features[0].float()

    def person_probability(self, embedding: Tensor) -> float:
        """Return the share of a person, against none, in a softmax over the two prompts."""
        import torch

        with torch.inference_mode():
            logits = self.scale * (self.prompts @ embedding)
            return float(logits.softmax(dim=0)[0])


def similarity(one: Tensor, other: Tensor) -> float:
    """Return the cosine of two unit embeddings, in [-1, 1]; higher is more alike."""
    return min(1.0, max(-1.0, float(one.double() @ other.double())))


def load_clip(settings: Settings) -> Clip:
    """Load the protocol's network from a local checkpoint or the caches; once per checkpoint.

    Raises:
        BadInput: no such model name, or a checkpoint that does not fit it.
        MissingPart: the weights are not on this machine.
    """
    with _LOADING:  # two metrics share one network
        return _load(_locate(settings))


def similarity_measure(settings: Settings) -> Measure:
    """Return CLIP similarity as the scorer uses it."""
    clip = load_clip(settings)

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        truth = _embeddings(clip, view, view.truth)
        return [
            {name: similarity(found, truth[name]) for name, found in each.items()}
            for each in (_embeddings(clip, view, picture) for picture in pictures)
        ]

    return Measure(measure, clip.weights)


def person_measure(settings: Settings) -> Measure:
    """Return the CLIP person gap as the scorer uses it.

    The value is ``|P(person | result) - P(person | truth)|``: people who were to stay are in both.
    """
    clip = load_clip(settings)

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        def chances(picture: Rgb) -> dict[Region, float]:
            found = _embeddings(clip, view, picture)
            return {name: clip.person_probability(one) for name, one in found.items()}

        expected = chances(view.truth)
        return [
            {name: abs(chance - expected[name]) for name, chance in chances(picture).items()}
            for picture in pictures
        ]

    return Measure(measure, clip.weights)


def _embeddings(clip: Clip, view: View, picture: Rgb) -> dict[Region, Tensor]:
    """Embed the whole picture and the square about the hole, once per picture and view."""
    key = ("clip", sha256(picture.tobytes()))
    if key not in view.memo:
        rows, columns = square_around(view.task.mask, margin=MARGIN)
        parts: dict[Region, Rgb] = {"whole": picture, "hole": picture[rows, columns]}
        view.memo[key] = {name: clip.embed(part) for name, part in parts.items()}
    embeddings: dict[Region, Tensor] = view.memo[key]
    return embeddings


_LOADING = threading.Lock()
_PRESET = (Protocol("").clip_model, Protocol("").clip_weights)
_MEND = (
    "give a local open_clip checkpoint with --clip-weights FILE, or let it be fetched with "
    "--allow-download"
)


def _locate(settings: Settings) -> Source:
    """Return which network and which file, without touching the network unless allowed."""
    model, tag = settings.protocol.clip_model, settings.protocol.clip_weights
    wanted = settings.clip_checkpoint is not None or settings.allow_download
    if not wanted and (model, tag) == _PRESET and not _any_cache():
        # importing open_clip takes seconds: not for a known name that can be nowhere
        raise MissingPart(f"no CLIP weights for {model} {tag} in the caches; {_MEND}")
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    if settings.clip_checkpoint is not None:
        return _local(model, settings.clip_checkpoint)
    _check_model(model, open_clip.list_models())
    config = get_pretrained_cfg(model, tag)
    if not config:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(model))
        raise BadInput(f"clip_weights: expected one of {tags} for {model}, got {tag!r}")
    path = _cached(config)
    if path is None and settings.allow_download:
        try:
            path = Path(download_pretrained(config))
        except (OSError, RuntimeError) as error:
            raise MissingPart(
                f"no CLIP weights for {model} {tag}: the download gave {error}; {_MEND}"
            ) from error
    if path is None:
        raise MissingPart(f"no CLIP weights for {model} {tag} in the caches; {_MEND}")
    return Source(model, path, f"cache: {model} {tag}", bool(config.get("quick_gelu")), tag)


def _local(model: str, path: Path) -> Source:
    import open_clip

    if path.is_dir():
        if not (path / "open_clip_config.json").is_file():
            raise BadInput(
                f"{path}: expected a folder with open_clip_config.json and its weights, got none"
            )
        return Source(f"local-dir:{path}", path, f"folder: {path.name}")
    if not path.is_file():
        raise BadInput(f"{path}: expected an open_clip checkpoint file, got no such file")
    if path.suffix not in (".safetensors", ".pt", ".pth", ".bin"):
        raise BadInput(f"{path}: expected .safetensors, .pt, .pth or .bin, got {path.suffix!r}")
    _check_model(model, open_clip.list_models())
    return Source(model, path, f"file: {path.name} as {model}")


def cached_checkpoint(model: str, tag: str) -> Path | None:
    """Return the file of open_clip's weights ``tag`` for ``model``, None if not in the caches."""
    from open_clip.pretrained import get_pretrained_cfg

    return _cached(get_pretrained_cfg(model, tag))


def _check_model(model: str, known: list[str]) -> None:
    if model not in known:
        near = difflib.get_close_matches(model, known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "see open_clip.list_models()"
        raise BadInput(f"clip_model: open_clip has no model called {model!r}; {hint}")


def _any_cache() -> bool:
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE)
    return any(hub.glob("models--*")) or (Path.home() / ".cache" / "clip").is_dir()


def _cached(config: dict[str, Any]) -> Path | None:
    if repository := config.get("hf_hub"):
        from huggingface_hub import try_to_load_from_cache

        owner, _, name = repository.rpartition("/")
        names = [name] if name else []
        for file in (*names, "open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
            found = try_to_load_from_cache(owner, file)
            if isinstance(found, str):
                return Path(found)
    if url := config.get("url"):
        path = Path.home() / ".cache" / "clip" / url.rsplit("/", 1)[-1]
        return path if path.is_file() else None
    return None


@lru_cache(maxsize=2)
def _load(source: Source) -> Clip:
    import open_clip
    import torch
    from open_clip.pretrained import get_pretrained_cfg

    config = get_pretrained_cfg(source.model, source.tag) if source.tag else {}
    whole = source.path.is_dir()
    try:
        model, transform = open_clip.create_model_from_pretrained(
            source.model,
            pretrained=None if whole else str(source.path),
            force_quick_gelu=source.quick_gelu,
            image_mean=config.get("mean"),
            image_std=config.get("std"),
            image_interpolation=config.get("interpolation"),
            image_resize_mode=config.get("resize_mode"),
        )
    except (OSError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise BadInput(
            f"{source.path.name}: expected open_clip weights for {source.model}, got a file that "
            f"does not load ({str(error)[:200]}); name its model with --clip-model"
        ) from error
    model.eval()
    tokenize = open_clip.get_tokenizer(source.model)
    with torch.inference_mode():
        groups = [
            model.encode_text(tokenize(list(prompts)), normalize=True).float().mean(dim=0)
            for prompts in (WITH_PERSON, WITHOUT_PERSON)
        ]
        prompts = torch.nn.functional.normalize(torch.stack(groups), dim=1)
        scale = float(model.logit_scale.exp())
    digest = checkpoint_digest(source.path)
    return Clip(model, transform, prompts, scale, {"source": source.text, "sha256": digest})


def checkpoint_digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint file, or of the names and files of a folder."""
    if path.is_file():
        return sha256_file(path)
    files = {file.name: sha256_file(file) for file in sorted(path.iterdir()) if file.is_file()}
    return sha256(canonical_json(files))
