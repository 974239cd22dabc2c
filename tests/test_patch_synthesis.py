"""Patch synthesis: what is known stays, texture comes back, the coarse picture leads."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mild_bench.images import Mask, Rgb
from mild_bench.mild import patch_synthesis
from mild_bench.mild.patch_synthesis import synthesise


def texture(side: int = 128, period: int = 8) -> Rgb:
    """Diagonal stripes, warm on the left and cold on the right."""
    rows, columns = np.mgrid[:side, :side]
    stripes = 60 * np.sign(np.sin(2 * np.pi * (rows + columns) / period))
    tint = np.where(columns[..., None] < side // 2, [40, 0, -40], [-40, 0, 40])
    return (128 + stripes[..., None] + tint).clip(0, 255).astype(np.uint8)


def centre(side: int = 128, half: int = 18) -> Mask:
    hole = np.zeros((side, side), bool)
    hole[side // 2 - half : side // 2 + half, side // 2 - half : side // 2 + half] = True
    return hole


def error(one: Rgb, other: Rgb, hole: Mask) -> float:
    return float(np.abs(one.astype(float) - other)[hole].mean())


def test_outside_of_the_hole_nothing_changes_and_seeds_decide() -> None:
    truth, hole = texture(), centre()
    coarse = cv2.GaussianBlur(truth, (0, 0), 4)
    first = synthesise(truth, hole, coarse, seed=1)
    assert (first[~hole] == truth[~hole]).all()
    assert (synthesise(truth, hole, coarse, seed=1) == first).all()


def test_what_is_in_the_hole_is_not_looked_at() -> None:
    truth, hole = texture(), centre()
    other = np.where(hole[..., None], np.uint8(7), truth)
    coarse = cv2.GaussianBlur(truth, (0, 0), 4)
    assert (synthesise(truth, hole, coarse) == synthesise(other, hole, coarse)).all()


def test_nothing_is_taken_from_what_is_to_be_avoided() -> None:
    """Not even where it would fit best, and not at the edge either."""
    truth, hole = texture(), centre()
    avoid = np.zeros_like(hole)
    avoid[:, 90:] = avoid[30:98, 82:] = True  # it touches the hole
    green = np.where(avoid[..., None], np.uint8([0, 255, 0]), truth)
    coarse = np.full_like(truth, (0, 255, 0))  # all looks like what must not be taken
    coarse[avoid] = 128
    free, kept = synthesise(green, hole, coarse), synthesise(green, hole, coarse, avoid=avoid)
    pure = [(one[hole] == [0, 255, 0]).all(axis=1).mean() for one in (free, kept)]
    assert pure[0] > 0.5
    assert pure[1] == 0
    assert int(kept[hole][:, 1].max()) <= int(truth[..., 1].max()) + 20


def test_texture_comes_back() -> None:
    """Stripes that the coarse picture has lost are there again, in its colours."""
    truth, hole = texture(), centre()
    coarse = cv2.GaussianBlur(truth, (0, 0), 6)
    found = synthesise(truth, hole, coarse)
    contrast = [float(picture[hole].astype(float).std()) for picture in (coarse, found, truth)]
    assert contrast[0] < 0.8 * contrast[2] < contrast[1] * 1.1
    warm, cold = hole.copy(), hole.copy()
    warm[:, 60:], cold[:, :68] = False, False
    assert found[warm][:, 0].mean() > found[warm][:, 2].mean() + 40
    assert found[cold][:, 2].mean() > found[cold][:, 0].mean() + 40


@pytest.mark.parametrize("colour", [(200, 60, 60), (60, 60, 200)])
def test_the_coarse_picture_leads(colour: tuple[int, int, int]) -> None:
    """Of two grounds that both surround the hole, the one that it asks for is taken."""
    side = 128
    noise = np.random.default_rng(0).integers(-20, 20, (side, side, 1))
    picture = np.empty((side, side, 3), int)
    picture[: side // 2], picture[side // 2 :] = (200, 60, 60), (60, 60, 200)
    picture = (picture + noise).clip(0, 255).astype(np.uint8)
    hole = centre(half=20)
    coarse = np.where(hole[..., None], np.array(colour, np.uint8), picture)
    found = synthesise(picture, hole, coarse)
    assert np.abs(found[hole].mean(axis=0) - colour).max() < 25


def test_large_holes_are_searched_at_a_coarser_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """The finest level takes over what was found: known pixels only, and the texture is there."""
    truth, hole = texture(256, 16), centre(256, half=40)
    coarse = cv2.GaussianBlur(truth, (0, 0), 6)
    whole = synthesise(truth, hole, coarse)
    monkeypatch.setattr(patch_synthesis, "MOST_SEARCHED", 4000)
    found = synthesise(truth, hole, coarse)
    assert (found[~hole] == truth[~hole]).all()
    assert not (found == whole).all()
    contrast = [float(picture[hole].astype(float).std()) for picture in (coarse, found, truth)]
    assert contrast[0] < 0.8 * contrast[2] < contrast[1] * 1.1


def test_no_seam_where_the_coarse_picture_is_too_dark() -> None:
    """Next to the edge the filling takes the level of what is known there, deeper the guide's."""
    rows, columns = np.mgrid[:128, :128]
    stripes = 12 * np.sign(np.sin(2 * np.pi * columns / 8))
    truth = np.repeat((60 + 0.8 * rows + stripes)[..., None], 3, axis=2).astype(np.uint8)
    hole = centre()
    coarse = (0.8 * cv2.GaussianBlur(truth, (0, 0), 4)).astype(np.uint8)
    found = synthesise(truth, hole, coarse)
    inner = cv2.erode(hole.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    rim, deep = hole & ~inner, cv2.erode(hole.astype(np.uint8), np.ones((21, 21), np.uint8)) > 0
    assert error(found, truth, rim) < 0.5 * error(coarse, truth, rim)
    assert error(found, truth, rim) < error(found, truth, deep)


def test_without_patches_the_coarse_picture_stays() -> None:
    truth = texture(96)
    hole = np.ones((96, 96), bool)
    hole[0, 0] = False
    coarse = np.full_like(truth, 90)
    found = synthesise(truth, hole, coarse)
    assert (found[hole] == 90).all() and (found[0, 0] == truth[0, 0]).all()


def test_a_good_coarse_picture_is_better_than_none() -> None:
    truth, hole = texture(128, 16), centre(half=22)
    good = synthesise(truth, hole, cv2.GaussianBlur(truth, (0, 0), 3))
    none = synthesise(truth, hole, np.full_like(truth, 128))
    assert error(good, truth, hole) < error(none, truth, hole)
