"""``outputs:DIR``: finished pictures of a method that lives elsewhere, one for each task."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mild_bench.erasers.one_by_one import OneByOne
from mild_bench.erasers.settings import switch
from mild_bench.erasure import EraserCard
from mild_bench.errors import BadInput
from mild_bench.images import Rgb, read_rgb
from mild_bench.store import inside, read_json, sha256_file
from mild_bench.task import Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
HASH_FILES = ("hashes.json", "sha256sums.txt")
CARD = "card.json"
_CARD_FIELDS: dict[str, type] = {
    "name": str,
    "version": str,
    "licence": str,
    "paper": str,
    "trained_on": list,
}
_SUM_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def outputs(folder: str = "", convert: bool = False) -> OneByOne:
    """Return the eraser that hands in ``folder/<task_id>.png`` (or ``.jpg``, ``.webp``).

    ``hashes.json`` (``{file name: sha256}``) or ``sha256sums.txt`` in the folder, where there,
    must hold for every picture. ``card.json`` may say ``name``, ``version``, ``licence``,
    ``paper`` and ``trained_on`` (a list). ``convert`` accepts pictures that are not upright 8-bit
    RGB and converts them. A task without a fitting picture fails with the reason.

    Raises:
        BadInput: no such folder, or a broken card or list of hashes.
    """
    root = Path(folder)
    if not folder or not root.is_dir():
        raise BadInput(
            f"outputs: expected outputs:DIR with an existing folder, got {folder!r}; "
            "put one finished picture in it for each task, named <task_id>.png"
        )
    convert = switch("outputs", "convert", convert)
    hashes = _read_hashes(root)

    def fill(task: Task, seed: int) -> Rgb:
        path = _find(root, task.task_id)
        _check_hash(path, hashes)
        return read_rgb(path, convert=convert)

    return OneByOne(_card(root, convert), fill)


def _find(root: Path, task_id: str) -> Path:
    for suffix in SUFFIXES:
        path = inside(root, task_id + suffix)
        if path.is_file():
            return path
    names = sorted(path.name for path in root.iterdir() if path.suffix.lower() in SUFFIXES)
    near = difflib.get_close_matches(f"{task_id}.png", names, n=3, cutoff=0.5) or names[:3]
    hint = f"near names there: {', '.join(near)}" if near else "no pictures are there"
    raise BadInput(
        f"outputs: expected {task_id}.png, .jpg or .webp in {root.name}, found none; {hint}"
    )


def _check_hash(path: Path, hashes: Mapping[str, str] | None) -> None:
    if hashes is None:
        return
    want = hashes.get(path.name)
    if want is None:
        raise BadInput(f"outputs: {path.name} is not in the folder's list of hashes; list it")
    if want.lower() != sha256_file(path):
        raise BadInput(
            f"outputs: {path.name} is not the picture whose SHA-256 the folder lists; "
            "fetch it again, or list its new hash"
        )


def _read_hashes(root: Path) -> dict[str, str] | None:
    path = next((root / name for name in HASH_FILES if (root / name).is_file()), None)
    if path is None:
        return None
    if path.suffix == ".json":
        values = read_json(path)
        if not isinstance(values, dict) or not all(isinstance(v, str) for v in values.values()):
            raise BadInput(f"{path}: expected {{file name: sha256}}, got something else")
        return values
    lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]
    matches = [_SUM_LINE.fullmatch(line) for line in lines]
    broken = [line for line, match in zip(lines, matches, strict=True) if match is None]
    if broken:
        raise BadInput(f"{path}: expected '<sha256>  <file name>' lines, got {broken[0]!r}")
    return {match[2].removeprefix("./"): match[1] for match in matches if match}


def _card(root: Path, convert: bool) -> EraserCard:
    values: dict[str, Any] = read_json(root / CARD) if (root / CARD).is_file() else {}
    if not isinstance(values, dict) or any(
        key not in _CARD_FIELDS or not isinstance(value, _CARD_FIELDS[key])
        for key, value in values.items()
    ):
        raise BadInput(
            f"{root / CARD}: expected {', '.join(_CARD_FIELDS)} (text; trained_on a list), "
            f"got {values!r}"
        )
    return EraserCard(
        name=values.get("name", f"outputs:{root.resolve().name}"),
        version=values.get("version", "unknown"),
        licence=values.get("licence", "unknown"),
        paper=values.get("paper", ""),
        trained_on=tuple(str(name) for name in values.get("trained_on", [])),
        settings={"convert": convert} if convert else {},
    )
