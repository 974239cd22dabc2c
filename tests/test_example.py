"""The example: one person leaves the photo, another stands elsewhere, the rest stays."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_mild import make_mild

from mild_bench.erasers.diffusion.fit import dilate
from mild_bench.images import Mask, Rgb, decode_png, encode_png, mask_to_grey, read_mask, read_rgb
from mild_bench.mild.picture import MildInput, with_rim

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PEOPLE = ("p1", "p2")
SHIFT = (-120, 40)  # of the documented command: to the left and down


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("weights")
    mild = make_mild(base / "base")
    mild.register_to_config(steps=2)
    mild.save_pretrained(base / "tiny")
    return base / "tiny"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    run("sample_photo.py", folder)
    return folder


def run(script: str, *arguments: object) -> None:
    before = sys.argv
    sys.argv = [script, *map(str, arguments)]
    try:
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    finally:
        sys.argv = before


def documented() -> list[str]:
    """The arguments of the command in the docs, but for the pictures and the folder."""
    text = (ROOT / "docs" / "mild.md").read_text().replace("\\\n", " ")
    (found,) = re.findall(r"erase_and_move.py sample/photo.png.*?(--erase .*?) --out", text)
    words = str(found).split()
    assert tuple(int(one) for one in words[words.index("--shift") + 1 :][:2]) == SHIFT
    return words


def make(sample: Path, weights: Path, out: Path, *more: object) -> Path:
    pictures = [sample / name for name in ("photo.png", "p1.png", "p2.png")]
    run("erase_and_move.py", *pictures, *documented(), "--weights", weights, "--out", out, *more)
    return out


def picture(path: Path) -> Rgb:
    return decode_png(path.read_bytes())


def hole_of(sample: Path, *names: str) -> Mask:
    return with_rim(np.any([read_mask(sample / f"{name}.png") for name in names], axis=0), 8)


def test_who_is_erased_goes_who_is_moved_comes_and_the_rest_stays(
    sample: Path, weights: Path, tmp_path: Path
) -> None:
    out = make(sample, weights, tmp_path, "--also", sample / "shadows.png", "--scale", 1)
    photo, result, background, layer = (
        picture(path)
        for path in (
            sample / "photo.png", out / "picture.png", out / "background.png",
            out / "layers" / "p1.png",
        )
    )  # fmt: skip
    hole = hole_of(sample, *PEOPLE, "shadows")
    assert np.array_equal(background[~hole], photo[~hole])
    assert (background != photo).any(axis=2)[read_mask(sample / "p2.png")].mean() > 0.9
    right, down = SHIFT
    moved = np.roll(layer, (down, right), axis=(0, 1)).astype(float)
    moved[:down], moved[:, right:] = 0, 0  # what came in from the other side
    alpha = moved[..., 3:] / 255
    expected = background * (1 - alpha) + moved[..., :3] * alpha
    assert alpha.any() and np.abs(result - expected).max() <= 0.5 + 1e-3


def test_layers_are_complete_and_hold_what_shows(
    sample: Path, weights: Path, tmp_path: Path
) -> None:
    out = make(sample, weights, tmp_path)
    photo = picture(sample / "photo.png")
    assert {path.name for path in (out / "layers").iterdir()} == {"p1.png", "p2.png"}
    for name in PEOPLE:
        shows = read_mask(sample / f"{name}.png")
        layer = picture(out / "layers" / f"{name}.png")
        assert layer.shape == (*shows.shape, 4)
        assert (layer[shows, 3] == 255).all()
        assert np.array_equal(layer[shows, :3], photo[shows])


def test_nothing_of_the_erased_person_is_left(sample: Path, weights: Path, tmp_path: Path) -> None:
    """Another person in the same place: the same background and the same picture, to the bit."""
    other = tmp_path / "other"
    other.mkdir()
    photo = picture(sample / "photo.png").copy()
    gone = read_mask(sample / "p2.png")
    photo[gone] = 255 - photo[gone]
    (other / "photo.png").write_bytes(encode_png(photo))
    for name in PEOPLE:
        (other / f"{name}.png").write_bytes((sample / f"{name}.png").read_bytes())
    made = [make(one, weights, tmp_path / one.name) for one in (sample, other)]
    for name in ("background.png", "picture.png", "layers/p1.png"):
        assert (made[0] / name).read_bytes() == (made[1] / name).read_bytes(), name
    assert (made[0] / "layers/p2.png").read_bytes() != (made[1] / "layers/p2.png").read_bytes()


def test_refining_changes_the_hole_only(sample: Path, weights: Path, tmp_path: Path) -> None:
    plain = make(sample, weights, tmp_path / "plain")
    fine = make(sample, weights, tmp_path / "fine", "--refine")
    hole = hole_of(sample, *PEOPLE)
    one, other = (picture(out / "background.png") for out in (plain, fine))
    assert np.array_equal(one[~hole], other[~hole])
    assert not np.array_equal(one, other)
    known = read_rgb(sample / "photo.png")[~hole]
    assert (other[hole] >= known.min(axis=0)).all() and (other[hole] <= known.max(axis=0)).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--erase", "p9"], "erase: expected ids among p1, p2, got p9"),
        (["--erase", "p1"], "expected two people, one to erase and one to move"),
        (["--scale", "0"], "scale of p1: expected above 0 and below 100, got 0.0"),
        (["--also", "small.png"], "expected the picture's size 512 x 512, got 9 x 9"),
        (["--also", "none.png"], "none.png: no such file"),
        (["--weights", "empty"], "without model_index.json"),
        (["--shift", "left", "3"], "argument --shift: invalid int value: 'left'"),
    ],
)
def test_a_mistake_is_one_line(
    sample: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changes: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small.png").write_bytes(encode_png(mask_to_grey(np.eye(9, dtype=bool))))
    Path("empty").mkdir()
    with pytest.raises(SystemExit) as stopped:
        make(sample, weights, tmp_path / "out", *changes)
    assert stopped.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1] and said[-1].startswith("erase_and_move.py: error: ")
    assert not any("Traceback" in line for line in said)
    assert not (tmp_path / "out").exists()


def test_from_masks_lays_later_people_over_earlier_ones() -> None:
    photo = np.zeros((40, 40, 3), np.uint8)
    back, front, shadow = np.zeros((3, 40, 40), bool)
    back[5:20, 5:20], front[10:25, 10:25], shadow[30:33, 5:25] = True, True, True
    given = MildInput.from_masks(photo, {"a": back, "b": front}, erase=("a",), also=shadow, grow=0)
    assert np.array_equal(given.visible("b"), front)
    assert np.array_equal(given.visible("a"), back & ~front)
    assert np.array_equal(given.hole, back | shadow)
    whole = MildInput.from_masks(photo, {"a": back, "b": front}, erase=("a", "b"))
    assert np.array_equal(whole.hole, dilate(back | front, 6))
    assert (dilate(back | front, 7) <= whole.unseen()).all()  # grown twice, rounder than once
    assert (whole.unseen() <= dilate(back | front, 8)).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), pixels=st.integers(0, 12))
def test_the_rim_is_the_erasers(seed: int, pixels: int) -> None:
    mask = np.random.default_rng(seed).random((30, 40)) > 0.995
    wide = dilate(mask, pixels)
    assert np.array_equal(with_rim(mask, pixels), mask if wide.all() else wide)
