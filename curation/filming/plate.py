"""The empty place behind a fixed camera: its picture, its noise, and how the light drifts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb

Floats = npt.NDArray[np.float32]

SAMPLES = 41  # frames the median is taken over; odd, so that it is a value that was seen
MIN_FRAMES = 20
MOVED_PIXELS = 1.0  # a fixed camera's wind and compression stay under half a pixel
MOVED_SHARE = 0.2
MISSING_SHARE = 0.05  # containers round their frame count; a cut file lacks far more
FIT_STEP = 5  # every fifth pixel of every fifth row is enough for two numbers
FIELD_SIGMA = 5.0  # in cells of FIELD_CELL pixels: wider than a person
FIELD_CELL = 8
FIELD_LIMIT = 6.0  # grey levels


@dataclass(frozen=True)
class Drift:
    """How a frame's light differs from the plate's: ``frame = gain * plate + offset + field``.

    Attributes:
        gain, offset: per channel.
        field: what is left at low frequency (clouds, vignetting), float32 height x width x 3,
            grey levels.
    """

    gain: tuple[float, float, float]
    offset: tuple[float, float, float]
    field: Floats

    def apply(self, plate: Floats) -> Floats:
        """Return the plate in the light of the frame, float32 grey levels."""
        gain, offset = np.array(self.gain, np.float32), np.array(self.offset, np.float32)
        return np.asarray(plate * gain + offset + self.field, np.float32)

    def undo(self, frame: Floats) -> Floats:
        """Return the frame in the light of the plate."""
        gain, offset = np.array(self.gain, np.float32), np.array(self.offset, np.float32)
        return np.asarray((frame - offset - self.field) / gain, np.float32)


@dataclass(frozen=True)
class Place:
    """What a fixed camera sees when nobody is there.

    Attributes:
        plate: temporal median, float32 height x width x 3 in grey levels 0-255.
        noise: robust standard deviation of a pixel over time, float32 height x width.
        frames: how many frames the video has.
        motion: the largest shift of any sampled frame in pixels.
    """

    plate: Floats
    noise: Floats
    frames: int
    motion: float


def read_frames(
    path: Path, *, every: int = 1, wanted: frozenset[int] | None = None
) -> Iterator[tuple[int, Rgb]]:
    """Yield (number, frame) of every ``every``-th frame, or of the ``wanted`` ones; one in memory.

    Raises:
        BadInput: not a video that OpenCV reads, or cut off.
    """
    import cv2

    if not path.exists():
        raise BadInput(f"{path}: no such file")
    if not path.is_file():
        raise BadInput(f"{path}: expected a video file, got a folder; name one file")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    video = cv2.VideoCapture(str(path))
    try:
        if not video.isOpened():
            raise BadInput(
                f"{path}: expected a video (AVI, MP4, MKV, WebM), got something OpenCV cannot "
                "decode; convert it, for example with 'ffmpeg -i FILE out.mp4'"
            )
        declared = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        number = 0
        while video.grab():
            if number in wanted if wanted is not None else number % every == 0:
                good, frame = video.retrieve()
                if not good:
                    break
                yield number, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            number += 1
    finally:
        video.release()
    if number < declared * (1 - MISSING_SHARE):
        raise BadInput(
            f"{path}: the file promises {declared} frames but ends after {number}; "
            "it is cut off: fetch it again, or re-encode what is left with ffmpeg"
        )


def count_frames(path: Path) -> int:
    """Return how many frames can be decoded.

    Raises:
        BadInput: not a video, cut off, or too short for a median.
    """
    count = 0
    for _number, _frame in read_frames(path):
        count += 1
    if count < MIN_FRAMES:
        raise BadInput(
            f"{path}: expected a video of at least {MIN_FRAMES} frames, got {count}; "
            "a plate needs every spot to be empty in most of them: use a longer recording"
        )
    return count


def learn_place(path: Path) -> Place:
    """Return plate and noise of a fixed-camera video from a drift-corrected temporal median.

    Raises:
        BadInput: not a video, too short, or the camera moves.
    """
    count = count_frames(path)
    numbers = np.unique(np.linspace(0, count - 1, SAMPLES).round().astype(int))
    samples = [frame for _, frame in read_frames(path, wanted=frozenset(numbers.tolist()))]
    first = _median(samples)
    motion = _check_fixed(path, samples, first)
    levelled = [_level(frame, first) for frame in samples]
    plate = _median(levelled)
    return Place(plate, _noise(levelled, plate), count, motion)


def fit_drift(frame: Rgb, plate: Floats, noise: Floats | None = None) -> Drift:
    """Fit per-channel gain and offset, then a smooth field, on pixels that look like background.

    People are outliers: the fit is repeated on pixels within three robust deviations.
    """
    now = frame.astype(np.float32)
    gain, offset = np.ones(3), np.zeros(3)
    for channel in range(3):
        x = plate[::FIT_STEP, ::FIT_STEP, channel].ravel().astype(np.float64)
        y = now[::FIT_STEP, ::FIT_STEP, channel].ravel().astype(np.float64)
        gain[channel], offset[channel] = _robust_line(x, y)
    rough = plate * gain.astype(np.float32) + offset.astype(np.float32)
    return Drift(_triple(gain), _triple(offset), _smooth_field(now - rough, noise))


def outside_difference(frame: Rgb, expected: Floats, keep: Mask) -> tuple[float, float]:
    """Return mean absolute and 95th-percentile difference in grey levels where ``keep``."""
    difference = np.abs(frame.astype(np.float32) - expected)[keep]
    return round(float(difference.mean()), 3), round(float(np.percentile(difference, 95)), 3)


def strongest(difference: Floats) -> Floats:
    """Return the largest absolute value of the three channels, height x width."""
    away = np.abs(difference)  # numpy reduces an axis of three slowly
    return np.maximum(np.maximum(away[..., 0], away[..., 1]), away[..., 2])


def _robust_line(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[float, float]:
    gain, offset = 1.0, float(np.median(y - x))
    for _ in range(6):
        residual = y - gain * x - offset
        spread = max(1.4826 * float(np.median(np.abs(residual - np.median(residual)))), 1.0)
        near = np.abs(residual) < 3 * spread
        centre = x[near].mean()
        variance = float(((x[near] - centre) ** 2).mean())
        if variance < 1.0:  # a flat plate says nothing about gain
            return 1.0, float(np.median(y[near] - x[near]))
        gain = float(((x[near] - centre) * y[near]).mean()) / variance
        offset = float(y[near].mean() - gain * centre)
    return gain, offset


def _smooth_field(residual: Floats, noise: Floats | None) -> Floats:
    import cv2

    height, width = residual.shape[:2]
    allowed = 12.0 if noise is None else np.maximum(12.0, 3 * noise)
    seen = (strongest(residual) < allowed).astype(np.uint8)
    seen = cv2.erode(seen, np.ones((5, 5), np.uint8)).astype(np.float32)
    cells = (max(1, width // FIELD_CELL), max(1, height // FIELD_CELL))
    weight = cv2.resize(seen, cells, interpolation=cv2.INTER_AREA)
    total = cv2.resize(residual * seen[..., None], cells, interpolation=cv2.INTER_AREA)
    weight = cv2.GaussianBlur(weight, (0, 0), FIELD_SIGMA)
    total = cv2.GaussianBlur(total, (0, 0), FIELD_SIGMA)
    field = cv2.resize(total / (weight[..., None] + 0.02), (width, height))
    return np.asarray(field.clip(-FIELD_LIMIT, FIELD_LIMIT), np.float32)


def _level(frame: Rgb, plate: Floats) -> Rgb:
    levelled = fit_drift(frame, plate).undo(frame.astype(np.float32))
    return np.asarray(np.rint(levelled).clip(0, 255).astype(np.uint8))


def _median(samples: list[Rgb]) -> Floats:
    bands = [
        np.median(np.stack([frame[top : top + 64] for frame in samples]), axis=0)
        for top in range(0, samples[0].shape[0], 64)
    ]
    return np.concatenate(bands).astype(np.float32)


def _noise(samples: list[Rgb], plate: Floats) -> Floats:
    import cv2

    bands = []
    for top in range(0, plate.shape[0], 64):
        part = plate[top : top + 64]
        away = [strongest(frame[top : top + 64] - part) for frame in samples]
        bands.append(np.median(np.stack(away), axis=0))
    noise = np.concatenate(bands).astype(np.float32) * np.float32(1.4826)
    return np.asarray(cv2.GaussianBlur(cv2.dilate(noise, np.ones((3, 3))), (0, 0), 1.0))


def _check_fixed(path: Path, samples: list[Rgb], plate: Floats) -> float:
    still = np.rint(plate).astype(np.uint8)
    shifts = [_shift(still, frame) for frame in samples]
    moved = sum(shift > MOVED_PIXELS for shift in shifts)
    if moved > MOVED_SHARE * len(shifts):
        raise BadInput(
            f"{path}: expected a fixed camera, but the view shifts by {np.median(shifts):.1f} "
            f"pixels (median; {moved} of {len(shifts)} sampled frames over {MOVED_PIXELS:g}); "
            "cut a part where it stands still, or stabilise the video first"
        )
    return round(float(max(shifts)), 3)


def _shift(still: Rgb, frame: Rgb) -> float:
    """Return the median length of the tiles' shifts, so that people in some do not count."""
    import cv2

    one = cv2.cvtColor(still, cv2.COLOR_RGB2GRAY).astype(np.float32)
    two = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
    tall, wide = one.shape[0] // 3, one.shape[1] // 3
    window = cv2.createHanningWindow((wide, tall), cv2.CV_32F)
    lengths = []
    for row in range(3):
        for column in range(3):
            tile = np.s_[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide]
            if one[tile].std() > 4:  # a flat tile has no shift to measure
                (x, y), _ = cv2.phaseCorrelate(
                    np.ascontiguousarray(one[tile]), np.ascontiguousarray(two[tile]), window
                )
                lengths.append(float(np.hypot(x, y)))
    return float(np.median(lengths)) if lengths else 0.0


def _triple(values: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])
