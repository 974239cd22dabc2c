"""The only place where layout, range, polarity or file format of pictures changes.

Pictures on disk and between stages are upright 8-bit sRGB, ``uint8`` height x width x 3. Torch
sees float RGB in [0, 1], batch x 3 x height x width. Masks are ``bool`` height x width, True =
erase; on disk 8-bit grey, 255 = erase.
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from mild_bench.errors import BadInput

if TYPE_CHECKING:
    import torch

Rgb = npt.NDArray[np.uint8]  # height x width x 3
Rgba = npt.NDArray[np.uint8]  # height x width x 4, straight alpha
Grey = npt.NDArray[np.uint8]  # height x width
Mask = npt.NDArray[np.bool_]  # height x width, True = erase

MAX_PIXELS = 100_000_000
ORIENTATION_TAG = 0x0112
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # none that runs a program or prints to stderr
BROKEN = (SyntaxError, ValueError, EOFError, IndexError, OverflowError, struct.error, zlib.error)
DEEP = "more than 8 bits a channel"
TURN = "orientation"


def read_rgb(path: Path, *, convert: bool = False) -> Rgb:
    """Read a picture as upright 8-bit RGB, height x width x 3.

    ``convert=False`` accepts only files that already are that, so that no precision, colour or
    orientation is lost unseen; ``convert=True`` turns grey, palette, alpha, CMYK, 16-bit and
    EXIF-rotated pictures into it.

    Raises:
        BadInput: anything else, with what arrived and what to do next.
    """
    image = _open(path)
    if not convert:
        _refuse(path, image, allowed=("RGB",), what="an upright 8-bit RGB picture")
        return np.asarray(image)
    return np.asarray(_to_rgb(image, _name(path), behind="white"))


def read_mask(path: Path, *, convert: bool = False) -> Mask:
    """Read an erase mask: bool height x width, True where the grey value is above 127.

    Raises:
        BadInput: not an upright 8-bit grey or 1-bit picture (unless ``convert``).
    """
    image = _open(path)
    if convert:
        # On a transparent ground only what is painted white is to be erased.
        return decode_mask_array(
            np.asarray(_to_rgb(image, _name(path), behind="black").convert("L"))
        )
    _refuse(path, image, allowed=("L", "1"), what="an upright 8-bit grey or 1-bit mask")
    return decode_mask_array(np.asarray(image.convert("L")))


def read_icc(path: Path) -> bytes | None:
    """Return the colour profile of an RGB picture, or None: other modes' profiles do not fit."""
    image = _open(path)
    profile = image.info.get("icc_profile")
    return profile if profile and image.mode in ("RGB", "RGBA", "P") else None


def check_mask(mask: Mask, shape: tuple[int, int], *, name: str) -> Mask:
    """Refuse a mask that no eraser can work with.

    Raises:
        BadInput: another shape than the picture, nothing to erase, or nothing left to look at.
    """
    if mask.shape != shape:
        raise BadInput(
            f"{name}: expected the picture's size {shape[1]} x {shape[0]}, got "
            f"{mask.shape[1]} x {mask.shape[0]}; make the mask from this picture"
        )
    if not mask.any():
        raise BadInput(f"{name}: expected white where to erase, got an all-black mask; paint it")
    if mask.all():
        raise BadInput(
            f"{name}: expected some of the picture to be kept, got a mask that covers everything; "
            "if the mask is inverted, invert it (white = erase)"
        )
    return mask


def decode_mask_array(grey: Grey) -> Mask:
    """Turn 8-bit grey into a mask: True above 127."""
    return np.asarray(grey > 127)


def mask_to_grey(mask: Mask) -> Grey:
    """Turn a mask into its picture: 255 = erase."""
    return np.where(mask, np.uint8(255), np.uint8(0))


def encode_png(array: Rgb | Rgba | Grey) -> bytes:
    """Return ``array`` as PNG bytes; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(array)).save(buffer, format="PNG", compress_level=4)
    return buffer.getvalue()


def decode_png(data: bytes, *, name: str = "picture") -> npt.NDArray[np.uint8]:
    """Return the array of an encoded picture, in the layout it was stored in.

    Raises:
        BadInput: broken bytes.
    """
    try:
        with _quiet(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            image.load()
            return np.asarray(image)
    except (*BROKEN, OSError, Image.DecompressionBombError) as error:
        raise BadInput(f"{name}: expected a whole picture, got broken data ({error})") from error


def to_bchw(rgb: Rgb) -> torch.Tensor:
    """Turn uint8 height x width x 3 into float32 1 x 3 x height x width in [0, 1]."""
    import torch

    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)[None].float().div(255)


def from_bchw(batch: torch.Tensor) -> Rgb:
    """Turn float 1 x 3 x height x width in [0, 1] into uint8 height x width x 3, rounded."""
    values = batch[0].detach().float().cpu().permute(1, 2, 0).clamp(0, 1).mul(255).round()
    return np.asarray(values.numpy().astype(np.uint8))


def composite(result: Rgb, source: Rgb, mask: Mask) -> Rgb:
    """Keep ``result`` inside the mask and ``source`` outside of it."""
    return np.where(mask[..., None], result, source)


def _name(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow: what it warns of is refused or mended here, with one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _open(path: Path) -> Image.Image:
    name = _name(path)
    try:
        with _quiet():
            return _load(path, name)
    except BadInput:
        raise
    except UnidentifiedImageError as error:
        raise BadInput(
            f"{name}: expected a PNG, JPEG or WebP picture, got something else; save it as PNG"
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    except OSError as error:
        if error.errno is None:
            raise _broken(name, error) from error
        raise BadInput(f"{name}: could not be read ({error.strerror}); check the name") from error
    except BROKEN as error:
        raise _broken(name, error) from error


def _load(path: Path, name: str) -> Image.Image:
    if path.is_dir():
        raise BadInput(f"{name}: expected a picture file, got a folder; name one file")
    if not path.exists():
        raise BadInput(f"{name}: no such file; check the name")
    if path.stat().st_size == 0:
        raise BadInput(f"{name}: expected a picture, got an empty file (0 bytes); fetch it again")
    with Image.open(path, formats=FORMATS) as image:
        if image.width * image.height > MAX_PIXELS:
            raise _too_large(name)
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # in a phone's MPO the picture comes first
            raise BadInput(
                f"{name}: expected a still picture, got an animation of {frames} frames; "
                "save one frame"
            )
        if _has_deep_colour(image):
            image.info[DEEP] = True
        image.load()
        image.info[TURN] = image.getexif().get(ORIENTATION_TAG, 1)
    return image


def _too_large(name: str) -> BadInput:
    return BadInput(f"{name}: expected at most {MAX_PIXELS} pixels, got more; scale it down")


def _broken(name: str, error: Exception) -> BadInput:
    return BadInput(f"{name}: expected a whole picture, got a broken one ({error}); fetch it again")


def _has_deep_colour(image: Image.Image) -> bool:
    """Whether colour channels hold 16 bits, which Pillow cuts to 8 without a word."""
    tiles = getattr(image, "tile", None) or ()
    modes = [str(tile[3][0] if isinstance(tile[3], tuple) else tile[3]) for tile in tiles]
    return image.mode != "I;16" and any(";16" in mode for mode in modes)


def _refuse(path: Path, image: Image.Image, *, allowed: tuple[str, ...], what: str) -> None:
    orientation = image.info[TURN]
    got = None
    if orientation not in (0, 1):
        got = f"one turned by its EXIF orientation tag ({orientation})"
    elif image.info.get(DEEP):
        got = "16-bit colour"
    elif image.mode not in allowed:
        got = _MODES.get(image.mode, f"mode {image.mode}")
    elif "transparency" in image.info:
        got = "one with a transparent colour"
    if got:
        raise BadInput(
            f"{_name(path)}: expected {what}, got {got}; "
            "save it as that, or have it converted (--convert; convert=on for outputs:)"
        )


_MODES = {
    "1": "1-bit black and white", "L": "8-bit grey", "LA": "grey with transparency",
    "P": "a colour palette", "PA": "a palette with transparency", "RGB": "RGB colour",
    "RGBA": "RGB with transparency", "CMYK": "CMYK (print) colour", "YCbCr": "YCbCr colour",
    "I;16": "16-bit grey", "I": "16-bit grey",
}  # fmt: skip


def _to_rgb(image: Image.Image, name: str, *, behind: str) -> Image.Image:
    try:
        with _quiet():
            upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I"):
            upright = _to_eight_bits(upright)
        if upright.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in upright.info:
            backdrop = Image.new("RGBA", upright.size, behind)
            upright = Image.alpha_composite(backdrop, upright.convert("RGBA"))
        return upright.convert("RGB")
    except (*BROKEN, OSError) as error:
        raise BadInput(f"{name}: cannot be converted ({error}); save it as an RGB PNG") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.floor(values / 65535 * 255 + 0.5).astype(np.uint8))
