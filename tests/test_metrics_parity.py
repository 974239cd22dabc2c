"""Our PSNR, SSIM and LPIPS against the references; versions are those in constraints.txt."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from metric_pictures import damaged, example, texture

from mild_bench.images import Rgb, to_bchw
from mild_bench.metrics.delta_network import difference_boxes
from mild_bench.metrics.perceptual import Lpips, Net, Share, load_lpips
from mild_bench.metrics.pixel import psnr, squared_error_map, ssim_map
from mild_bench.metrics.scorer import Scorer
from mild_bench.metrics.view import Settings, to_float
from mild_bench.protocol import find_protocol

pytestmark = pytest.mark.parity
SETTINGS = Settings(find_protocol("mild"))
LPIPS_IMAGES = "lpips project's imgs/ex_ref.png, ex_p0.png, ex_p1.png: not in its pip package"


def pair(height: int = 80, width: int = 101) -> tuple[Rgb, Rgb]:
    task = example(height, width)
    assert task.truth is not None
    return task.truth, damaged(task, 0.4)


def test_psnr_equals_scikit_image_and_torchmetrics() -> None:
    """scikit-image 0.26 and torchmetrics 1.9, to 1e-4 dB."""
    from skimage.metrics import peak_signal_noise_ratio
    from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr

    truth, result = pair()
    ours = psnr(float(squared_error_map(to_float(result), to_float(truth)).mean()))
    theirs = peak_signal_noise_ratio(to_float(truth), to_float(result), data_range=1)
    assert ours == pytest.approx(theirs, abs=1e-9)
    other = torch_psnr(to_bchw(result), to_bchw(truth), data_range=1.0).item()
    assert ours == pytest.approx(other, abs=1e-4)


def test_ssim_map_equals_scikit_image_inside_its_border() -> None:
    """scikit-image 0.26 leaves out a border of 5, to 1e-9."""
    from skimage.metrics import structural_similarity

    truth, result = (to_float(one) for one in pair())
    theirs, full = structural_similarity(
        truth, result, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1, channel_axis=2, full=True,
    )  # fmt: skip
    inside = ssim_map(result, truth)[5:-5, 5:-5]
    assert np.abs(inside - full.mean(axis=2)[5:-5, 5:-5]).max() < 1e-9
    assert inside.mean() == pytest.approx(theirs, abs=1e-9)


def test_ssim_of_the_whole_equals_torchmetrics() -> None:
    """torchmetrics 1.9 works in float32: to 1e-5."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    truth, result = pair()
    theirs = structural_similarity_index_measure(to_bchw(result), to_bchw(truth), data_range=1.0)
    ours = ssim_map(to_float(result), to_float(truth)).mean()
    assert ours == pytest.approx(theirs.item(), abs=1e-5)


@pytest.mark.parametrize("part", [(30, 60, 20, 50), (0, 7, 90, 101), (79, 80, 0, 1)])
def test_ssim_where_it_can_differ_equals_ssim_everywhere(part: tuple[int, int, int, int]) -> None:
    truth, other = pair()
    result = truth.copy()
    top, bottom, left, right = part
    result[top:bottom, left:right] = other[top:bottom, left:right]
    task = replace(example(80, 101), truth=truth)
    score = Scorer(find_protocol("mild"), metrics=["ssim"]).score(task, [result])[0][0]
    expected = ssim_map(to_float(result), to_float(truth)).mean()
    assert (score.key, score.value) == ("ssim/whole/raw", pytest.approx(expected, abs=1e-12))


@pytest.fixture(scope="module", params=["alex", "vgg"])
def networks(request: pytest.FixtureRequest) -> tuple[Lpips, Any, Any]:
    """Ours, and ``lpips.LPIPS`` with spatial off and on, on the same weights."""
    net: Net = request.param
    ours, _ = load_lpips(net, SETTINGS)
    return ours, lpips_package(net, ours, spatial=False), lpips_package(net, ours, spatial=True)


def lpips_package(net: Net, ours: Lpips, *, spatial: bool) -> Any:
    import lpips
    import torch

    with pytest.warns(UserWarning):  # torchvision: 'pretrained' is deprecated
        package = lpips.LPIPS(net=net, pnet_rand=True, verbose=False, spatial=spatial)
    modules = [m for m in package.net.modules() if isinstance(m, torch.nn.Conv2d)]
    convs = [layer for layer in ours.layers if hasattr(layer, "weight")]
    for module, conv in zip(modules, convs, strict=True):
        module.weight.data, module.bias.data = conv.weight, conv.bias
    return package


def patched(truth: Rgb, other: Rgb, *parts: tuple[slice, slice]) -> Rgb:
    result = truth.copy()
    for part in parts:
        result[part] = other[part]
    return result


@pytest.mark.parametrize("size", [(96, 96), (77, 131), (160, 64)])
def test_lpips_equals_the_lpips_package(
    networks: tuple[Lpips, Any, Any], size: tuple[int, int]
) -> None:
    """lpips 0.1.4, whole and map, to 1e-5: changed everywhere, in places, at edges, nowhere."""
    import torch

    ours, package, spatial = networks
    truth, other = texture(*size, 1), texture(*size, 2)
    corner, far = (slice(0, 9), slice(0, 5)), (slice(-6, None), slice(-20, None))
    middle = (slice(30, 50), slice(20, 44))
    pictures = [
        other, patched(truth, other, middle), patched(truth, other, corner, far),
        patched(truth, other, (slice(40, 41), slice(33, 34))), truth,
    ]  # fmt: skip
    for picture, found in zip(pictures, ours.compare(truth, pictures), strict=True):
        with torch.inference_mode():
            one, two = to_bchw(picture), to_bchw(truth)
            whole = package(one, two, normalize=True).item()
            full = spatial(one, two, normalize=True)[0, 0].numpy()
        assert found.whole == pytest.approx(whole, abs=1e-5)
        assert np.abs(found.spatial(*size) - full).max() < 1e-5


def test_lpips_of_a_region_is_the_mean_of_the_packages_map(
    networks: tuple[Lpips, Any, Any],
) -> None:
    """lpips 0.1.4 with spatial=True, to 1e-5."""
    import torch

    ours, _, spatial = networks
    task = example()
    assert task.truth is not None
    result = damaged(task, 0.6)
    with torch.inference_mode():
        full = spatial(to_bchw(result), to_bchw(task.truth), normalize=True)[0, 0].numpy()
    found = ours.compare(task.truth, [result])[0]
    assert Share(task.mask).mean(found) == pytest.approx(full[task.mask].mean(), abs=1e-5)


def test_lpips_gives_the_figures_of_the_lpips_project() -> None:
    """README of richzhang/PerceptualSimilarity: ex_ref with ex_p0 .722, with ex_p1 .138 (alex)."""
    spec = importlib.util.find_spec("lpips")
    assert spec is not None and spec.origin is not None
    folder = Path(spec.origin).parent / "imgs"
    if not (folder / "ex_ref.png").is_file():
        pytest.skip(LPIPS_IMAGES)
    from mild_bench.images import read_rgb

    ref, *others = (read_rgb(folder / f"{name}.png") for name in ("ex_ref", "ex_p0", "ex_p1"))
    ours, _ = load_lpips("alex", SETTINGS)
    values = [distance.whole for distance in ours.compare(ref, others)]
    assert values == pytest.approx([0.7219, 0.1376], abs=1e-4)


def test_boxes_hold_every_difference_and_do_not_overlap() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        differs = np.zeros((90, 130), bool)
        for top, left in rng.integers(0, (85, 125), (5, 2)):
            differs[top : top + 5, left : left + 5] = rng.random((5, 5)) < 0.5
        covered = np.zeros(differs.shape, int)
        for box in difference_boxes(differs):
            covered[box.top : box.bottom, box.left : box.right] += 1
        assert covered.max() <= 1 and (covered[differs] == 1).all()
