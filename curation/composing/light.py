"""Make a cut-out look as if the plate's camera had taken it: colour, blur, grain, shadow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from mild_bench.curation.composing.frame import Camera
from mild_bench.curation.composing.placed import Placed
from mild_bench.images import Rgb, Rgba

Floats = npt.NDArray[np.float32]
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
RIM = 0.6  # how much of the light behind reaches the very edge of a silhouette
JPEG_QUALITY = 92  # what the plates were saved with


@dataclass(frozen=True)
class Look:
    """What the plate looks like, in [0, 1] sRGB units."""

    black: float
    gain: tuple[float, float, float]
    saturation: float
    grain: float
    blur_px: float


def measure_look(plate: Rgb, blur_px: float) -> Look:
    """Measure exposure, tint, black level and grain of the plate as the scene shows it."""
    values = plate.astype(np.float32) / np.float32(255)
    luma = np.asarray(values @ LUMA, np.float32)
    middle = (luma > 0.08) & (luma < 0.94)
    mean = values[middle].mean(axis=0) if middle.sum() > 100 else np.full(3, 0.45, np.float32)
    level = float(mean @ LUMA)
    tint = (mean / max(level, 1e-3)) ** 0.3
    exposure = float(np.clip((level / 0.42) ** 0.55, 0.5, 1.18))
    gain = np.clip(tint * exposure, 0.5, 1.3)
    spread = (
        float((values.max(axis=2) - values.min(axis=2))[middle].mean()) if middle.any() else 0.2
    )
    return Look(
        black=float(np.clip(np.quantile(luma, 0.005) * 0.6, 0, 0.08)),
        gain=(float(gain[0]), float(gain[1]), float(gain[2])),
        saturation=float(np.clip(0.74 + spread, 0.8, 1.0)),
        grain=float(np.clip(_grain(luma), 0, 0.03)),
        blur_px=blur_px,
    )


def _grain(luma: Floats) -> float:
    """Standard deviation of the noise: median absolute response to Immerkaer's mask (1996).

    The mask blurs away edges; the median ignores the texture that is left. J. Immerkaer, Fast
    noise variance estimation, CVIU 64(2), 1996.
    """
    rows = luma[:-2] - 2 * luma[1:-1] + luma[2:]
    both = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return float(np.median(np.abs(both))) / 0.6745 / 6


def grade(rgb: Floats, look: Look) -> Floats:
    """Give colours in [0, 1] the plate's exposure, tint, saturation and black level."""
    grey = (rgb @ LUMA)[..., None]
    toned = (grey + (rgb - grey) * look.saturation) * np.array(look.gain, np.float32)
    return np.asarray(look.black + toned * (1 - look.black), np.float32).clip(0, 1)


def photograph(image: Image.Image, behind: Rgb, look: Look, rng: np.random.Generator) -> Rgba:
    """Blur, grain and compress a graded RGBA cut-out like the plate, which stays as it is.

    The JPEG history is made on the cut-out over the plate and taken back into the cut-out's own
    colours, so that every scene is still an exact blend of whole layers.
    """
    soft = (
        image.convert("RGBa").filter(ImageFilter.GaussianBlur(float(look.blur_px))).convert("RGBA")
    )
    values = np.asarray(soft).astype(np.float32) / np.float32(255)
    rgb, alpha = values[..., :3], values[..., 3:]
    grain = rng.normal(0, look.grain, rgb.shape[:2]).astype(np.float32)[..., None]
    rgb = (_wrap(rgb, alpha, behind) + grain).clip(0, 1)
    under = behind.astype(np.float32) / np.float32(255)
    saved = _jpeg(rgb * alpha + under * (1 - alpha))
    solid = alpha > 0.5
    back = np.where(solid, (saved - under * (1 - alpha)) / np.maximum(alpha, 0.5), rgb)
    out = np.concatenate([back.clip(0, 1), alpha], axis=2)
    return np.asarray(np.floor(out * 255 + np.float32(0.5)).astype(np.uint8))


def _wrap(rgb: Floats, alpha: Floats, behind: Rgb) -> Floats:
    """Let light from behind spill over the rim, as it does around everything in a photograph."""
    reach = max(1.5, behind.shape[0] / 170)
    whole = Image.fromarray((alpha[..., 0] * 255).astype(np.uint8))
    inner = np.asarray(whole.filter(ImageFilter.GaussianBlur(reach)), np.float32)[..., None]
    rim = (1 - inner / np.float32(255)) * np.float32(RIM)
    glow = Image.fromarray(behind).filter(ImageFilter.GaussianBlur(behind.shape[0] / 36))
    return np.asarray(rgb + (np.asarray(glow, np.float32) / np.float32(255) - rgb) * rim)


def shadow(
    item: Placed, alpha: Floats, camera: Camera, light: dict[str, Any]
) -> npt.NDArray[np.uint8]:
    """Return light lost on the ground, uint8 height x width x 2: cast and contact shadow.

    ``alpha`` is the placed cut-out's coverage on the whole scene, also where the frame cuts it.
    """
    contact = _contact(item, camera, float(light["ambient"]))
    strength = float(light["cast"])
    if item.attached or item.relation == "held":
        contact = np.zeros_like(contact)
    cast = _cast(item, alpha, camera, light) * strength if strength else np.zeros_like(contact)
    both = np.stack([cast, contact], axis=2).clip(0, 0.92)
    return np.asarray(np.floor(both * 255 + 0.5).astype(np.uint8))


def _contact(item: Placed, camera: Camera, ambient: float) -> Floats:
    size = camera.size
    scale = item.asset.px_per_m * item.scale
    squash = max(camera.squash(item.y), 0.12)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    kept = np.ones((size, size), np.float32)
    spots = [(*item.at(foot), 0.13, 0.5) for foot in item.asset.feet]
    middle = np.mean([item.at(foot) for foot in item.asset.feet], axis=0)
    width = 0.3 if item.asset.is_person else 0.5 * _width_m(item)
    spots += [(float(middle[0]), float(middle[1]), width, ambient * 0.5)]
    for x, y, radius, strength in spots:
        across = (columns - np.float32(x)) / np.float32(max(radius * scale, 0.8))
        along = (rows - np.float32(y)) / np.float32(max(radius * scale * squash, 0.7))
        # Like a Gaussian, but zero from 2.4 standard deviations on: a shadow has an end.
        kept *= 1 - np.float32(strength) * np.maximum(0, 1 - (across**2 + along**2) / 5.76) ** 3
    return np.asarray(1 - kept)


def _width_m(item: Placed) -> float:
    xs = [foot[0] for foot in item.asset.feet]
    return max((max(xs) - min(xs)) / item.asset.px_per_m, 0.2)


def _cast(item: Placed, alpha: Floats, camera: Camera, light: dict[str, Any]) -> Floats:
    x, up, out = (float(value) for value in light["direction"])
    side = float(np.clip(-x / max(up, 0.2), -2, 2))
    along = float(np.clip(-out / max(up, 0.2), -2, 2)) * max(camera.squash(item.y), 0.12)
    if abs(along) < 0.1:
        along = 0.1 if along >= 0 else -0.1
    foot = item.y
    matrix = (1, -side / along, foot * side / along, 0, -1 / along, foot + foot / along)
    image = Image.fromarray((alpha * 255).astype(np.uint8))
    lying = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    scale = item.asset.px_per_m * item.scale
    near = np.asarray(
        lying.filter(ImageFilter.GaussianBlur(float(max(0.8, 0.02 * scale)))), np.float32
    )
    far = np.asarray(
        lying.filter(ImageFilter.GaussianBlur(float(max(1.5, 0.09 * scale)))), np.float32
    )
    rows = np.arange(camera.size, dtype=np.float32)[:, None]
    height = np.clip((rows - foot) / np.float32(along) / np.float32(scale), 0, 2) / 2
    return np.asarray((near * (1 - height) + far * height) / 255 * (1 - 0.45 * height), np.float32)


def _jpeg(values: Floats) -> Floats:
    buffer = io.BytesIO()
    whole = np.floor(values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(whole).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=2)
    return np.asarray(Image.open(buffer).convert("RGB"), np.float32) / np.float32(255)
