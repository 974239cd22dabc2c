"""Laws of the size policies: nothing is lost, moved or touched that should not be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from mild_bench.erasers.diffusion.fit import (
    SIZE_POLICIES,
    SizePolicy,
    dilate,
    dilate_cells,
    fit,
)
from mild_bench.images import Mask, Rgb

CASES = {
    "policy": st.sampled_from(SIZE_POLICIES),
    "shape": st.tuples(st.integers(1, 70), st.integers(1, 70)),
    "side": st.sampled_from([16, 48, 96]),
    "multiple": st.sampled_from([1, 8, 16]),
    "margin": st.sampled_from([0.0, 0.5, 3.0]),
    "seed": st.integers(0, 99),
}


def draw(shape: tuple[int, int], seed: int) -> tuple[Rgb, Mask]:
    """A random picture and a random box as the hole; a box may be one pixel or touch the frame."""
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    mask = np.zeros(shape, bool)
    (top, bottom), (left, right) = (np.sort(rng.integers(0, length, 2)) for length in shape)
    mask[top : bottom + 1, left : right + 1] = True
    return source, mask


@settings(max_examples=150, deadline=None)
@given(**CASES)
def test_a_fit_holds_its_laws(
    policy: SizePolicy,
    shape: tuple[int, int],
    side: int,
    multiple: int,
    margin: float,
    seed: int,
) -> None:
    source, mask = draw(shape, seed)
    placed = fit(mask, policy, side=side, multiple=multiple, margin=margin)
    top, left, bottom, right = placed.box
    seen, hole = placed.picture(source), placed.mask(mask)
    assert seen.shape == (*placed.frame, 3)
    assert hole.shape == placed.padding().shape == placed.frame
    assert all(length % multiple == 0 for length in placed.frame)
    assert 0 <= top < bottom <= shape[0]
    assert 0 <= left < right <= shape[1]
    assert mask[top:bottom, left:right].sum() == mask.sum(), "the hole is cut"
    assert hole.any()
    assert not hole[placed.padding()].any()
    assert not (placed.area(mask) & ~hole).any()
    back = placed.back(seen, source)
    assert back.shape == source.shape
    outside = np.ones(shape, bool)
    outside[top:bottom, left:right] = False
    np.testing.assert_array_equal(back[outside], source[outside])
    if policy == "pad":
        np.testing.assert_array_equal(back, source)
        np.testing.assert_array_equal(hole[: shape[0], : shape[1]], mask)
    else:
        assert max(placed.frame) == max(round(side / multiple), 1) * multiple


@pytest.mark.parametrize("policy", SIZE_POLICIES)
def test_what_is_painted_under_the_mask_lands_on_the_hole(policy: SizePolicy) -> None:
    source = np.zeros((90, 130, 3), np.uint8)
    mask = np.zeros((90, 130), bool)
    mask[30:60, 80:100] = True
    placed = fit(mask, policy, side=256, multiple=8, margin=0.5)
    answer = np.zeros((*placed.frame, 3), np.uint8)
    answer[placed.mask(mask)] = 255
    lit = placed.back(answer, source)[..., 0]
    assert lit[mask].min() > 120
    assert lit[~dilate(mask, 2)].max() < 40  # what resizing rings


def test_an_area_mask_keeps_the_area() -> None:
    mask = np.zeros((200, 300), bool)
    mask[40:160, 90:150] = True
    placed = fit(mask, "resize", side=96, multiple=8, margin=0)
    share = placed.area(mask).mean() / mask.mean()
    assert share == pytest.approx(1, abs=0.05)


def test_a_crop_has_its_margin_and_slides_inward_at_the_frame() -> None:
    mask = np.zeros((400, 400), bool)
    mask[100:180, 200:240] = True
    assert fit(mask, "crop", side=64, multiple=8, margin=0.5).box == (60, 160, 220, 280)
    corner = np.zeros((400, 400), bool)
    corner[0, 0] = True
    assert fit(corner, "crop", side=256, multiple=8, margin=0.5).box == (0, 0, 64, 64)


@settings(max_examples=60, deadline=None)
@given(CASES["shape"], st.integers(0, 6), st.integers(0, 99))
def test_dilation_is_the_euclidean_distance(shape: tuple[int, int], pixels: int, seed: int) -> None:
    _, mask = draw(shape, seed)
    far = ndimage.distance_transform_edt(~mask)
    np.testing.assert_array_equal(dilate(mask, pixels), far <= pixels)


@pytest.mark.parametrize("cells", [1, 2])
def test_cells_grow_by_whole_cells(cells: int) -> None:
    mask = np.zeros((64, 96), bool)
    mask[17, 41] = True
    grown = dilate_cells(mask, cells, cell=8)
    wanted = np.zeros((64, 96), bool)
    wanted[max(16 - 8 * cells, 0) : 24 + 8 * cells, 40 - 8 * cells : 48 + 8 * cells] = True
    np.testing.assert_array_equal(grown, wanted)
    np.testing.assert_array_equal(dilate_cells(mask, 0, cell=8), mask)
