"""CLIP scores on a small saved open_clip network against open_clip itself."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_pictures import damaged, example
from tiny_clip import CONFIG, NAME, save_tiny_clip

from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.metrics.scorer import Scorer
from mild_bench.metrics.semantic import WITH_PERSON, WITHOUT_PERSON
from mild_bench.protocol import Protocol, find_protocol
from mild_bench.store import canonical_json, sha256_file

METRICS = ["clip-similarity", "clip-person"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    save_tiny_clip(folder)
    return folder / "tiny.safetensors"


def protocol() -> Protocol:
    return replace(find_protocol("mild"), clip_model=NAME)


def direct(saved: Path) -> tuple[Any, Any, Any]:
    import open_clip

    model, _, transform = open_clip.create_model_and_transforms(NAME, pretrained=str(saved))
    return model.eval(), transform, open_clip.get_tokenizer(NAME)


@pytest.mark.parity
def test_scores_equal_direct_open_clip_calls(saved: Path) -> None:
    """open_clip 3.3, to 1e-5."""
    import torch
    from PIL import Image

    task = example()
    assert task.truth is not None
    result = damaged(task, 0.7)
    model, transform, tokenize = direct(saved)

    def embed(picture: Rgb) -> Any:
        return model.encode_image(transform(Image.fromarray(picture))[None], normalize=True)[0]

    with torch.no_grad():
        groups = [
            model.encode_text(tokenize(list(prompts)), normalize=True).mean(dim=0)
            for prompts in (WITH_PERSON, WITHOUT_PERSON)
        ]
        text = torch.stack([group / group.norm() for group in groups])
        one, two = embed(result), embed(task.truth)
        chances = [(model.logit_scale.exp() * text @ e).softmax(0)[0] for e in (one, two)]
    scorer = Scorer(protocol(), clip_checkpoint=saved, metrics=METRICS)
    found = {score.key: score.value for score in scorer.score(task, [result])[0]}
    assert found["clip-similarity/whole/raw"] == pytest.approx((one @ two).item(), abs=1e-5)
    gap = abs(chances[0] - chances[1]).item()
    assert found["clip-person/whole/raw"] == pytest.approx(gap, abs=1e-5)
    assert gap > 1e-4


def test_a_folder_with_a_config_needs_no_model_name(saved: Path, tmp_path: Path) -> None:
    shutil.copy(saved, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_bytes(canonical_json({"model_cfg": CONFIG}))
    task = example()
    by_file = Scorer(protocol(), clip_checkpoint=saved, metrics=METRICS)
    by_folder = Scorer(find_protocol("mild"), clip_checkpoint=tmp_path, metrics=METRICS)
    values = [
        [score.value for score in scorer.score(task, [task.input])[0]]
        for scorer in (by_file, by_folder)
    ]
    assert values[0] == values[1] and not np.isnan(values[0]).any()


def test_the_checkpoint_is_part_of_the_protocol_by_its_hash(saved: Path) -> None:
    scorer = Scorer(protocol(), clip_checkpoint=saved, metrics=METRICS)
    assert scorer.protocol.clip_weights == f"sha256:{sha256_file(saved)}"
    assert scorer.weights["clip-person"]["sha256"] == sha256_file(saved)
    assert str(saved.parent) not in str(scorer.weights)


def test_without_weights_scores_are_nan_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    scorer = Scorer(replace(find_protocol("mild"), clip_weights="openai"), metrics=METRICS)
    scores = scorer.score(example(), [example().input])[0]
    assert all(math.isnan(score.value) for score in scores)
    assert all("--clip-weights FILE" in (score.reason or "") for score in scores)


@pytest.mark.parametrize(("change", "message"), [
    ({"clip_model": "ViT-B-23"}, "did you mean ViT-B-32"),
    ({"clip_weights": "laion3b"}, "clip_weights: expected one of openai"),
])  # fmt: skip
def test_unknown_names_are_one_clear_line(change: dict[str, str], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Scorer(replace(find_protocol("mild"), **change), metrics=METRICS)  # type: ignore[arg-type]


def test_a_checkpoint_that_does_not_fit_is_refused(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(saved)
    tensors.pop("visual.proj")
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(BadInput, match="expected open_clip weights for tiny-clip-for-tests"):
        Scorer(protocol(), clip_checkpoint=tmp_path / "other.safetensors", metrics=METRICS)
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    for name, message in (
        ("broken.pt", "does not load"),
        ("none.pt", "no such file"),
        ("", "expected a folder with open_clip_config.json"),
    ):
        with pytest.raises(BadInput, match=message):
            Scorer(protocol(), clip_checkpoint=tmp_path / name, metrics=METRICS)
