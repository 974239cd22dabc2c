"""Erase from one picture of the user's own, at its own size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mild_bench.erasure import Eraser
from mild_bench.errors import BadInput, MildBenchError, explain
from mild_bench.images import Mask, Rgb, check_mask, encode_png, read_icc, read_mask, read_rgb
from mild_bench.plugins import load_eraser
from mild_bench.run.erase import problem
from mild_bench.store import write_bytes
from mild_bench.task import Task

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
OPTIONS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"lossless": True},
}
TASK_ID = "picture"


def erase_picture(
    image: Path, mask: Path, spec: str, out: Path, *, seed: int = 0, convert: bool = False
) -> Path:
    """Write ``image`` without what ``mask`` covers (white = erase) to ``out``; returns ``out``.

    The result is as large as the picture and keeps its colour profile. ``convert`` accepts
    16-bit, grey, CMYK, palette and EXIF-rotated files and turns them into upright 8-bit RGB.

    Raises:
        BadInput: a file that cannot be used, or an ``out`` that would overwrite an input;
            nothing is written then.
        MissingPart: the eraser lacks a part on this machine.
    """
    _check_out(out, image, mask)
    eraser = load_eraser(spec)
    if eraser.card.needs_truth:
        raise BadInput(f"{spec}: needs the truth, which your own picture has not; see 'erasers'")
    picture = read_rgb(image, convert=convert)
    hole = check_mask(
        read_mask(mask, convert=convert), (picture.shape[0], picture.shape[1]), name=mask.name
    )
    result = _erase(eraser, spec, _task(picture, hole), seed)
    write_bytes(out, _encode(result, out, read_icc(image)))
    return out


def _check_out(out: Path, image: Path, mask: Path) -> None:
    ending = out.suffix.lower()
    if ending not in FORMATS:
        raise BadInput(f"{out}: expected --out to end in {', '.join(FORMATS)}, got {ending!r}")
    try:
        if out.is_dir():
            raise BadInput(f"{out}: expected --out to name a file, got a folder; add a file name")
        if out.exists() and any(path.exists() and out.samefile(path) for path in (image, mask)):
            raise BadInput(f"{out}: --out would overwrite an input; name another file")
    except OSError as error:
        raise BadInput(f"{out}: could not be written ({error.strerror}); name another") from error


def _task(picture: Rgb, hole: Mask) -> Task:
    return Task(
        task_id=TASK_ID,
        scene_id=TASK_ID,
        kind="free",
        erase=(),
        input=picture,
        mask=hole,
        truth=None,
        people=np.zeros(hole.shape, np.uint8),
        person_ids=(),
    )


def _erase(eraser: Eraser, spec: str, task: Task, seed: int) -> Rgb:
    try:
        answers = list(eraser([task], seed=seed))
    except MildBenchError:
        raise
    except Exception as error:  # a stranger's code: one line, as in a run
        raise BadInput(f"eraser {spec!r} failed: {explain(error)}") from error
    fault = problem(answers[0], task) if answers else "expected a result, got none"
    if fault:
        raise BadInput(f"eraser {spec!r} failed: {fault}")
    return answers[0].result


def _encode(result: Rgb, out: Path, icc: bytes | None) -> bytes:
    kind = FORMATS[out.suffix.lower()]
    if kind == "PNG" and icc is None:
        return encode_png(result)
    buffer = io.BytesIO()
    try:
        Image.fromarray(result).save(buffer, format=kind, icc_profile=icc, **OPTIONS[kind])
    except (OSError, ValueError) as error:
        raise BadInput(f"{out}: cannot hold this picture ({error}); save it as .png") from error
    return buffer.getvalue()
