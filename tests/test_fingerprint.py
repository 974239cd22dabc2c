"""Fingerprints: the same bytes, proven within one grey level, or different."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from make_release import draw_scene
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.releasing.fingerprint import check, fingerprint
from mild_bench.curation.releasing.fingerprint_file import (
    check_workspace,
    read_fingerprints,
    write_fingerprints,
)
from mild_bench.curation.releasing.tile_sums import step_back, tile_sums
from mild_bench.curation.scene_folder import write_scene
from mild_bench.errors import BadInput
from mild_bench.images import Rgb
from mild_bench.scene import Scene

SCENE = draw_scene(1, size=(64, 64), seed=2)  # 96 x 64
KNOWN = fingerprint(SCENE)


def nudge(picture: Rgb, number: int, rng: np.random.Generator, by: int = 1) -> Rgb:
    """Move some values of a picture by one level (or ``by``), up or down."""
    values = picture.astype(np.int16).reshape(-1)
    inside = np.flatnonzero((values >= by) & (values <= 255 - by))
    chosen = rng.choice(inside, number, replace=False)
    values[chosen] += by * rng.choice(np.array([-1, 1], np.int16), number)
    return values.astype(np.uint8).reshape(picture.shape)


def with_plate(plate: Rgb) -> Scene:
    return replace(SCENE, plate=plate)


def test_the_same_scene_is_the_same_bytes() -> None:
    assert check(draw_scene(1, size=(64, 64), seed=2), KNOWN).verdict == "same bytes"


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(0, 2**32))
def test_few_values_off_by_one_are_proven(number: int, seed: int) -> None:
    sparse = nudge(SCENE.plate, number, np.random.default_rng(seed))
    agreement = check(with_plate(sparse), KNOWN)
    changed = (sparse != SCENE.plate).reshape(2, 32, 3, 32, 3).sum(axis=(1, 3))  # by tile
    crowded = changed.max() > 3
    assert agreement.verdict == ("differs" if crowded else "within one grey level")


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(2, 90), st.integers(0, 2**32))
def test_two_levels_never_pass_for_one(number: int, by: int, seed: int) -> None:
    plate = nudge(SCENE.plate, number, np.random.default_rng(seed), by)
    agreement = check(with_plate(plate), KNOWN)
    assert agreement.verdict == "differs" and "plate: not proven" in agreement.detail


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(0, 4), st.integers(0, 2**32),
    st.sampled_from([16, 32]),
)  # fmt: skip
def test_steps_are_taken_back_exactly(
    height: int, width: int, changes: int, seed: int, side: int
) -> None:
    rng = np.random.default_rng(seed)
    picture = rng.integers(1, 255, (height, width, 3)).astype(np.uint8)
    most = min(changes if side == 16 else min(changes, 3), height * width)
    changed = nudge(picture, most, rng)
    back = step_back(changed, tile_sums(picture, side), side)
    assert back is not None
    np.testing.assert_array_equal(back, picture)


def test_steps_leave_no_grey_value_out_of_range() -> None:
    white = np.full((16, 16, 3), 255, np.uint8)
    beyond = tile_sums(white, 16)
    one_less = white.copy()
    one_less[3, 4, 1] = 254
    np.testing.assert_array_equal(step_back(one_less, beyond, 16), white)


def test_pictures_of_another_size_are_no_match() -> None:
    small = np.zeros((16, 16, 3), np.uint8)
    with pytest.raises(BadInput, match="another size"):
        step_back(small, tile_sums(np.zeros((40, 40, 3), np.uint8), 16), 16)
    assert check(draw_scene(1, size=(32, 32), seed=2), KNOWN).verdict == "differs"


def test_labels_may_flip_on_outlines_only() -> None:
    person = SCENE.layers[-1]
    rim = person.rgba.copy()
    alpha = rim[..., 3].astype(int)
    edge = (alpha >= 128) & (alpha < 255)
    y, x = np.argwhere(edge)[0]
    rim[y, x, 3] = 127  # the label flips; the input moves more than a level there
    flipped = replace(SCENE, layers=(*SCENE.layers[:-1], replace(person, rgba=rim)))
    assert (flipped.label_map() != SCENE.label_map()).sum() == 1
    assert "labels" not in check(flipped, KNOWN).detail
    hole = person.rgba.copy()
    inner = np.argwhere(alpha == 255)
    y, x = inner[len(inner) // 2]
    hole[y, x, 3] = 0
    holed = replace(SCENE, layers=(*SCENE.layers[:-1], replace(person, rgba=hole)))
    assert "labels: 1 pixels differ away from any outline" in check(holed, KNOWN).detail


def test_hidden_parts_count_for_the_same_bytes() -> None:
    far = SCENE.layers[0]
    covered = far.amodal & (SCENE.layers[1].rgba[..., 3] == 255)
    assert covered.any()
    rgba = far.rgba.copy()
    rgba[covered, 0] ^= 255
    agreement = check(replace(SCENE, layers=(replace(far, rgba=rgba), *SCENE.layers[1:])), KNOWN)
    assert agreement.verdict == "within one grey level"
    assert agreement.detail == "not the same bytes: layers"


def test_another_scene_is_refused() -> None:
    with pytest.raises(BadInput, match="expected that of scene-002, got that of scene-001"):
        check(draw_scene(2, size=(64, 64), seed=2), KNOWN)


def test_compressed_files_say_the_same(tmp_path: Path) -> None:
    write_scene(tmp_path / "w", SCENE, annotate(SCENE))
    for name in ("one.gz", "two.gz", "plain.jsonl"):
        write_fingerprints(tmp_path / "w", tmp_path / name)
        assert read_fingerprints(tmp_path / name) == {"scene-001": KNOWN}
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "two.gz").read_bytes()
    assert (tmp_path / "one.gz").stat().st_size < (tmp_path / "plain.jsonl").stat().st_size


def test_a_full_size_fingerprint_is_small(tmp_path: Path) -> None:
    scene = draw_scene(0, size=(512, 512), seed=2)
    write_scene(tmp_path / "w", scene, annotate(scene))
    write_fingerprints(tmp_path / "w", tmp_path / "prints.jsonl")
    assert (tmp_path / "prints.jsonl").stat().st_size < 33_000  # 60 scenes: under 2 MB


def test_workspaces_are_checked_from_the_command_line(tmp_path: Path) -> None:
    workspace, file = tmp_path / "w", tmp_path / "prints.jsonl"
    for number in range(3):
        scene = draw_scene(number, size=(64, 64), seed=2)
        write_scene(workspace, scene, annotate(scene))
    run = CliRunner().invoke
    assert run(app, ["curate", "fingerprint", str(workspace), "--out", str(file)]).exit_code == 0
    assert read_fingerprints(file)["scene-001"] == KNOWN
    first = file.read_bytes()
    assert write_fingerprints(workspace, file) == 3 and file.read_bytes() == first
    done = run(app, ["curate", "check", str(workspace), str(file)])
    assert done.exit_code == 0 and "3 same bytes, 0 within one grey level, 0 differ" in done.output

    rng = np.random.default_rng(0)
    scene = with_plate(nudge(SCENE.plate, 3, rng))
    write_scene(workspace, scene, annotate(scene))
    assert check_workspace(workspace, file).counts == {"same bytes": 2, "within one grey level": 1}
    scene = with_plate(nudge(SCENE.plate, 3, rng, by=40))
    write_scene(workspace, scene, annotate(scene))
    done = run(app, ["curate", "check", str(workspace), str(file)])
    assert isinstance(done.exception, BadInput) and "scene-001 differs: " in done.output


def test_broken_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file; make it with"):
        read_fingerprints(tmp_path / "none.jsonl")
    for line in ("{}", "[]", "no", '{"scene_id": "x", "size": [1, 2]}', '{"size": 3}'):
        (tmp_path / "bad.jsonl").write_text(line)
        with pytest.raises(BadInput, match="line 1 is no fingerprint"):
            read_fingerprints(tmp_path / "bad.jsonl")
    (tmp_path / "bad.gz").write_bytes(b"no gzip")
    with pytest.raises(BadInput, match=r"bad\.gz: expected fingerprints, got a broken file"):
        read_fingerprints(tmp_path / "bad.gz")
    broken = replace(KNOWN, plate_sums="~~~~~~")
    with pytest.raises(BadInput, match="fingerprint: broken base 85"):
        check(with_plate(255 - SCENE.plate), broken)
