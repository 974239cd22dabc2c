"""Laws that every eraser meets, and what sets each apart."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_release import ask, draw_scene
from PIL import Image

from mild_bench.erasure import Eraser, Erasure
from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb, encode_png
from mild_bench.plugins import ERASERS, load_eraser
from mild_bench.store import sha256
from mild_bench.task import Task

REAL = ("telea", "navier-stokes", "biharmonic", "patchmatch")
FILLERS = ("mean-fill", "blur", *REAL)
ALL = ("copy-input", "truth", *FILLERS)


def task(source: Rgb, mask: Mask, *, truth: Rgb | None = None, name: str = "t") -> Task:
    people = np.zeros(mask.shape, np.uint8)
    return Task(name, "s", "free", (), source, mask, truth, people, ())


def drawn(number: int) -> Task:
    return ask(draw_scene(number, size=(64, 64), seed=0), number)


def erase(eraser: Eraser, *tasks: Task, seed: int = 0) -> list[Erasure]:
    return list(eraser(tasks, seed=seed))


def hole_error(result: Rgb, of: Task) -> float:
    assert of.truth is not None
    difference = result[of.mask].astype(float) - of.truth[of.mask]
    return float(np.sqrt((difference**2).mean()))


def cases() -> Iterator[tuple[str, Rgb, Mask]]:
    rng = np.random.default_rng(3)
    for height, width in ((16, 16), (17, 40), (40, 9)):
        source = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        one = np.zeros((height, width), bool)
        one[height // 2, width // 2] = True
        frame = np.zeros((height, width), bool)
        frame[:, : width // 3] = True
        corner = np.zeros((height, width), bool)
        corner[0, 0] = True
        almost = np.ones((height, width), bool)
        almost[-1, -1] = False
        salt = rng.random((height, width)) < 0.4
        masks = {"one": one, "frame": frame, "corner": corner, "almost": almost, "salt": salt}
        for name, mask in masks.items():
            yield f"{width}x{height}-{name}", source, mask


CASES = {name: (source, mask) for name, source, mask in cases()}


def test_every_built_in_eraser_is_under_these_laws() -> None:
    assert set(ALL) | {"outputs", "diffusers", "mild"} == set(ERASERS)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("case", CASES)
def test_shape_type_and_outside_are_kept(name: str, case: str) -> None:
    source, mask = CASES[case]
    asked = task(source, mask, truth=source.copy())
    before = source.copy()
    (answer,) = erase(load_eraser(name), asked)
    assert answer.task_id == "t"
    assert answer.result.shape == source.shape
    assert answer.result.dtype == np.uint8
    np.testing.assert_array_equal(answer.result[~mask], source[~mask])
    np.testing.assert_array_equal(source, before, err_msg="the eraser changed its input")
    assert not np.shares_memory(answer.result, source)


@pytest.mark.parametrize("name", FILLERS)
def test_the_hole_changes(name: str) -> None:
    asked = drawn(0)
    (answer,) = erase(load_eraser(name), asked)
    changed = (answer.result != asked.input).any(axis=2)[asked.mask].mean()
    assert changed > 0.9


@pytest.mark.parametrize("name", ALL)
def test_order_batch_and_other_tasks_change_nothing(name: str) -> None:
    tasks = [drawn(number) for number in range(3)]
    alone = [erase(load_eraser(name), one)[0] for one in tasks]
    together = erase(load_eraser(name), *reversed(tasks))[::-1]
    for first, second in zip(alone, together, strict=True):
        assert first.task_id == second.task_id
        np.testing.assert_array_equal(first.result, second.result)


@pytest.mark.parametrize("name", [*ALL, "patchmatch[patch_size=2]"])
def test_the_same_seed_gives_the_same_bytes(name: str) -> None:
    asked = drawn(1)
    first, second = (erase(load_eraser(name), asked, seed=7)[0] for _ in range(2))
    np.testing.assert_array_equal(first.result, second.result)


def test_patchmatch_draws_from_the_seed_and_the_task() -> None:
    asked = drawn(0)
    results = {erase(load_eraser("patchmatch"), asked, seed=s)[0].result.tobytes() for s in (0, 1)}
    assert len(results) == 2


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("name", [*REAL, "blur", "mean-fill"])
def test_what_stood_in_the_hole_does_not_matter(name: str, number: int) -> None:
    """A filler looks at the kept pixels only; blur is the control that leaks on purpose."""
    asked = drawn(number)
    other = asked.input.copy()
    other[asked.mask] = 255 - other[asked.mask]
    eraser = load_eraser(name)
    first = erase(eraser, asked)[0].result
    second = erase(eraser, task(other, asked.mask, name=asked.task_id))[0].result
    assert np.array_equal(first, second) == (name != "blur")


@pytest.mark.parametrize("name", REAL)
def test_a_real_eraser_beats_leaving_the_people_there(name: str) -> None:
    tasks = [drawn(number) for number in range(6)]
    answers = erase(load_eraser(name), *tasks)
    errors = [hole_error(answer.result, one) for one, answer in zip(tasks, answers, strict=True)]
    left = [hole_error(one.input, one) for one in tasks]
    assert np.mean(errors) < np.mean(left)


def test_truth_is_exact_and_fails_without_one() -> None:
    asked = drawn(0)
    assert hole_error(erase(load_eraser("truth"), asked)[0].result, asked) == 0
    with pytest.raises(BadInput, match="no truth"):
        erase(load_eraser("truth"), task(asked.input, asked.mask))


def test_mean_fill_is_the_mean_of_what_is_kept() -> None:
    source = np.zeros((4, 4, 3), np.uint8)
    source[:2] = (10, 20, 31)
    source[2, :2] = (30, 41, 50)
    mask = np.zeros((4, 4), bool)
    mask[2:, 2:] = mask[3] = True
    result = erase(load_eraser("mean-fill"), task(source, mask))[0].result
    assert result[3, 0].tolist() == [14, 24, 35]  # (8 * 10 + 2 * 30) / 10, ...


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-2, 2)] * 2), st.integers(4, 12))
def test_biharmonic_continues_a_plane(slope: tuple[float, float], size: int) -> None:
    """A plane is biharmonic, so the filler must give it back to rounding."""
    y, x = np.mgrid[0:32, 0:32]
    plane = np.rint(128 + slope[0] * (x - 16) + slope[1] * (y - 16)).clip(0, 255)
    source = np.repeat(plane[..., None], 3, axis=2).astype(np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[10 : 10 + size, 12 : 12 + size] = True
    holed = source.copy()
    holed[mask] = 255
    result = erase(load_eraser("biharmonic"), task(holed, mask))[0].result
    assert np.abs(result.astype(int) - source)[mask].max() <= 3  # rounding of the rim grows inward


def test_biharmonic_on_a_smaller_copy_stays_near_the_full_solution() -> None:
    y, x = np.mgrid[0:120, 0:160]
    smooth = 128 + 60 * np.sin(x / 40) + 40 * np.cos(y / 30)
    source = np.repeat(smooth[..., None], 3, axis=2).astype(np.uint8)
    mask = np.zeros((120, 160), bool)
    mask[40:80, 50:110] = True
    asked = task(source, mask)
    full = erase(load_eraser("biharmonic"), asked)[0].result.astype(int)
    quick = erase(load_eraser("biharmonic[max_hole=1000]"), asked)[0].result.astype(int)
    assert np.abs(full - quick).mean(where=mask[..., None]) < 3


def test_two_holes_side_by_side_do_not_read_each_other() -> None:
    source = np.full((30, 40, 3), 100, np.uint8)
    mask = np.zeros((30, 40), bool)
    mask[8:20, 10:15] = mask[8:20, 17:22] = True  # two pixels apart: within the stencil's reach
    source[mask] = 255
    for name in REAL:
        result = erase(load_eraser(name), task(source, mask))[0].result
        assert np.abs(result.astype(int) - 100).max() <= 2, name  # Telea rounds as it marches


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("telea[radius=0]", "radius must be a number from 1 to 100, got 0"),
        ("navier-stokes[radius=wide]", "radius must be a number from 1 to 100, got 'wide'"),
        ("blur[sigma=nan]", "sigma must be a number from 0.5 to 200, got nan"),
        ("blur[sigma=1e9]", "sigma must be a number"),
        ("patchmatch[patch_size=0]", "patch_size must be a whole number from 1 to 32, got 0"),
        ("patchmatch[patch_size=2.5]", "patch_size must be a whole number"),
        ("patchmatch[patch_size=on]", "patch_size must be a whole number"),
        ("biharmonic[max_hole=3]", "max_hole must be a whole number"),
        ("patchmatch[speed=2]", "unexpected keyword argument 'speed'"),
        ("outputs", "expected outputs:DIR with an existing folder"),
        ("outputs:/no/such/folder", "expected outputs:DIR with an existing folder"),
        ("pachmatch", "did you mean patchmatch"),
        ("telea[radius]", "expected name, name:argument or name"),
        ("copy-input:x", "takes 0 positional arguments"),
    ],
)
def test_a_bad_spec_is_one_clear_line(spec: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        load_eraser(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_names_what_differs_from_the_defaults() -> None:
    assert load_eraser("patchmatch[patch_size=5]").card.name == "patchmatch"
    assert load_eraser("telea[radius=3]").card.name == "telea[radius=3]"
    hashes = {load_eraser(f"telea[radius={r}]").card.settings_hash for r in ("3", "3.0", "4")}
    assert len(hashes) == 2
    for name in ALL:
        json.dumps(load_eraser(name).card.as_json(), allow_nan=False)


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number in range(2):
        asked = drawn(number)
        (folder / f"{asked.task_id}.png").write_bytes(encode_png(asked.truth))
    return folder


def test_outputs_hands_in_the_pictures_of_a_folder(finished: Path) -> None:
    answers = erase(load_eraser(f"outputs:{finished}"), drawn(0), drawn(1))
    for number, answer in enumerate(answers):
        np.testing.assert_array_equal(answer.result, drawn(number).truth)
    assert load_eraser(f"outputs:{finished}").card.name == "outputs:theirs"


def test_outputs_takes_webp_and_jpeg(finished: Path) -> None:
    picture = Image.open(finished / "scene-000-all.png")
    (finished / "scene-000-all.png").unlink()
    picture.save(finished / "scene-000-all.webp", lossless=True)
    answer = erase(load_eraser(f"outputs:{finished}"), drawn(0))[0]
    np.testing.assert_array_equal(answer.result, drawn(0).truth)


def test_outputs_names_near_files_when_one_is_missing(finished: Path) -> None:
    (finished / "scene-000-all.png").rename(finished / "scene_000_all.png")
    with pytest.raises(BadInput, match=r"found none; near names there: scene_000_all\.png"):
        erase(load_eraser(f"outputs:{finished}"), drawn(0))


@pytest.mark.parametrize("kind", ["hashes.json", "sha256sums.txt"])
def test_outputs_checks_hashes_where_there_are_some(finished: Path, kind: str) -> None:
    names = sorted(path.name for path in finished.glob("*.png"))
    sums = {name: sha256((finished / name).read_bytes()) for name in names}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (finished / kind).write_text(json.dumps(sums) if kind.endswith("json") else lines)
    eraser = load_eraser(f"outputs:{finished}")
    erase(eraser, drawn(0), drawn(1))
    other = np.zeros((64, 64, 3), np.uint8)
    (finished / names[0]).write_bytes(encode_png(other))
    with pytest.raises(BadInput, match=f"{names[0]} is not the picture whose SHA-256"):
        erase(eraser, drawn(0))
    (finished / "scene-002-occluded.png").write_bytes(encode_png(other))
    with pytest.raises(BadInput, match="not in the folder's list of hashes"):
        erase(eraser, drawn(2))


def test_outputs_never_leaves_its_folder(finished: Path) -> None:
    outside = finished.parent / "secret.png"
    outside.write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    eraser = load_eraser(f"outputs:{finished}")
    asked = drawn(0)
    with pytest.raises(BadInput, match="leads out of its folder"):
        erase(eraser, task(asked.input, asked.mask, name="../secret"))
    (finished / "scene-002-occluded.png").symlink_to(outside)
    with pytest.raises(BadInput, match="leads out of its folder"):
        erase(eraser, drawn(2))


def test_outputs_converts_only_when_asked(finished: Path) -> None:
    path = finished / "scene-000-all.png"
    Image.open(path).convert("RGBA").save(path)
    with pytest.raises(BadInput, match="RGB with transparency"):
        erase(load_eraser(f"outputs:{finished}"), drawn(0))
    answer = erase(load_eraser(f"outputs:{finished}[convert=on]"), drawn(0))[0]
    np.testing.assert_array_equal(answer.result, drawn(0).truth)


def test_outputs_reads_a_card_and_refuses_a_wrong_one(finished: Path) -> None:
    card = {"name": "LaMa", "version": "big", "licence": "Apache-2.0", "trained_on": ["Places2"]}
    (finished / "card.json").write_text(json.dumps(card))
    read = load_eraser(f"outputs:{finished}").card
    assert (read.name, read.version, read.trained_on) == ("LaMa", "big", ("Places2",))
    (finished / "card.json").write_text(json.dumps({"nmae": "LaMa"}))
    with pytest.raises(BadInput, match=r"card\.json: expected name, version"):
        load_eraser(f"outputs:{finished}")


def test_the_docs_name_every_eraser_and_setting() -> None:
    text = (Path(__file__).parents[1] / "docs" / "erasers.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("| `")]
    for name, where in ERASERS.items():
        module, attribute = where.split(":")
        factory = getattr(importlib.import_module(module), attribute)
        row = next(line for line in table if line.startswith((f"| `{name}`", f"| `{name}:DIR`")))
        for setting in set(inspect.signature(factory).parameters) - {"folder", "chosen"}:
            assert f"`{setting}` (" in row, f"{name}: {setting} is not in docs/erasers.md"
