"""PSNR and SSIM, over the whole picture and over regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask, Rgb
from mild_bench.metrics.regions import bounding_box, mean_over
from mild_bench.metrics.view import FloatRgb, Measure, Settings, Value, Values, View, to_float

PSNR_CEILING = 100.0
C1, C2 = 0.01**2, 0.03**2
SIGMA, RADIUS = 1.5, 5

Map = npt.NDArray[np.float64]  # height x width


def squared_error_map(result: FloatRgb, truth: FloatRgb) -> Map:
    """Return the squared error of each pixel, averaged over channels, height x width."""
    return np.asarray(np.square(result - truth).mean(axis=2))


def psnr(error: float) -> float:
    """Return the peak signal-to-noise ratio in dB of a mean squared error of pictures in [0, 1].

    Higher is better. No error has no finite PSNR: it gets the ceiling of 100 dB, so that means
    stay finite; one grey level in one of 39,000 values already lies below.
    """
    if error <= 0:
        return PSNR_CEILING
    return min(-10 * math.log10(error), PSNR_CEILING)


def ssim_map(result: FloatRgb, truth: FloatRgb) -> Map:
    """Return SSIM at each pixel, averaged over channels, height x width, in [-1, 1].

    Gaussian window of 11 x 11, sigma 1.5, K1 = .01, K2 = .03, biased variances, edges mirrored
    without repeating the last pixel. Its mean over the picture is what torchmetrics calls SSIM;
    its mean without a border of 5 is scikit-image's. Symmetric in its arguments.

    References:
        Wang et al., Image quality assessment, IEEE TIP 13(4), 2004, doi:10.1109/TIP.2003.819861.
    """
    return _ssim_against(Reference.of(truth), result)


@dataclass(frozen=True)
class Reference:
    """A truth with the local means that every comparison needs."""

    picture: FloatRgb
    mean: FloatRgb
    square: FloatRgb

    @classmethod
    def of(cls, picture: FloatRgb) -> Reference:
        """Compute them."""
        return cls(picture, _blur(picture), _blur(picture * picture))

    def cut(self, rows: slice, columns: slice) -> Reference:
        """Return a part of it."""
        part = (rows, columns)
        return Reference(self.picture[part], self.mean[part], self.square[part])


def _ssim_against(reference: Reference, result: FloatRgb) -> Map:
    mean, square = _blur(result), _blur(result * result)
    product = _blur(result * reference.picture)
    means = mean * reference.mean
    powers = mean * mean + reference.mean * reference.mean
    covariance = product - means
    variances = np.maximum(square + reference.square - powers, 0)
    values = (2 * means + C1) * (2 * covariance + C2) / ((powers + C1) * (variances + C2))
    return np.asarray(values.mean(axis=2))


def _blur(values: FloatRgb) -> FloatRgb:
    import cv2

    at = np.arange(-RADIUS, RADIUS + 1)
    kernel = np.exp(-0.5 * (at / SIGMA) ** 2)
    kernel /= kernel.sum()
    return np.asarray(
        cv2.sepFilter2D(values, -1, kernel, kernel, borderType=cv2.BORDER_REFLECT_101)
    )


def psnr_measure(settings: Settings) -> Measure:
    """Return PSNR as the scorer uses it."""

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        return [_psnr_regions(view, picture) for picture in pictures]

    return Measure(measure)


def ssim_measure(settings: Settings) -> Measure:
    """Return SSIM as the scorer uses it: computed only where the picture can differ."""

    def measure(view: View, pictures: Sequence[Rgb]) -> list[Values]:
        reference = Reference.of(view.truth_float)
        return [_ssim_regions(view, reference, picture) for picture in pictures]

    return Measure(measure)


def _psnr_regions(view: View, picture: Rgb) -> Values:
    errors = squared_error_map(to_float(picture), view.truth_float)
    return {name: _over(errors, region, psnr) for name, region in view.regions.items()}


def _ssim_regions(view: View, reference: Reference, picture: Rgb) -> Values:
    values = np.ones(picture.shape[:2])
    differs = (picture != view.truth).any(axis=2)
    if differs.any():
        top, left, bottom, right = bounding_box(differs)
        # windows that see a difference reach RADIUS beyond it, and need RADIUS more to be whole
        rows = slice(max(0, top - 2 * RADIUS), bottom + 2 * RADIUS)
        columns = slice(max(0, left - 2 * RADIUS), right + 2 * RADIUS)
        part = _ssim_against(reference.cut(rows, columns), to_float(picture[rows, columns]))
        seen = np.zeros_like(differs)
        seen[max(0, top - RADIUS) : bottom + RADIUS, max(0, left - RADIUS) : right + RADIUS] = True
        values[rows, columns][seen[rows, columns]] = part[seen[rows, columns]]
    return {name: _over(values, region, float) for name, region in view.regions.items()}


def _over(values: Map, region: Mask, turn: Callable[[float], float]) -> Value:
    return turn(mean_over(values, region)) if region.any() else "the region is empty"
