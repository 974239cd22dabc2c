"""Composing: same bytes, exact truth, wishes kept, nothing shared between splits, nobody floats."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mild_bench.curation.composing.compose import compose, compose_scene, scene_id
from mild_bench.curation.composing.frame import Camera, choose_frame
from mild_bench.curation.composing.pack import cutout_picture, flip, load_pack
from mild_bench.curation.composing.place import SIT, Wishes, lay_out
from mild_bench.curation.composing.recipe import Recipe, find_recipe, read_recipe
from mild_bench.curation.scene_folder import read_scene, scene_folders
from mild_bench.errors import BadInput
from mild_bench.scene import Scene

RECIPE = """
name: little
split: test
scenes: 4
size: 160
seed: 11
people: [2, 4]
"""


def recipe(**changes: object) -> Recipe:
    values = {"name": "little", "split": "test", "scenes": 4, "size": 160, "people": (2, 4)}
    return Recipe(**{**values, "seed": 11, **changes})


def scenes(chosen: Recipe) -> list[tuple[Scene, dict[str, object]]]:
    pack = load_pack(chosen.split)
    return [compose_scene(chosen, number, pack) for number in range(chosen.scenes)]


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_recipe_gives_same_bytes_and_more_scenes_keep_the_first(tmp_path: Path) -> None:
    compose(recipe(scenes=2), tmp_path / "once")
    compose(recipe(scenes=1), tmp_path / "steps")
    assert compose(recipe(scenes=2), tmp_path / "steps").kept == 1
    assert digest(tmp_path / "once" / "scenes") == digest(tmp_path / "steps" / "scenes")


def test_another_seed_gives_other_scenes() -> None:
    pack = load_pack("test")
    one, _ = compose_scene(recipe(seed=1), 0, pack)
    other, _ = compose_scene(recipe(seed=2), 0, pack)
    assert not np.array_equal(one.recompose(), other.recompose())


def test_truth_is_the_plate_and_differs_from_the_input_only_where_something_was() -> None:
    for scene, _ in scenes(recipe(scenes=3)):
        everything = [layer.layer_id for layer in scene.layers]
        assert np.array_equal(scene.recompose(everything), scene.plate)
        touched = np.zeros(scene.plate.shape[:2], bool)
        for layer in scene.layers:
            touched |= layer.rgba[..., 3] > 0
            if layer.effect is not None:
                touched |= layer.effect.any(axis=2)
        assert np.array_equal(scene.recompose()[~touched], scene.plate[~touched])


@pytest.mark.parametrize("wish", ["none", "light", "moderate", "heavy"])
def test_the_occlusion_bin_is_the_one_asked_for(wish: str) -> None:
    for scene, notes in scenes(recipe(scenes=2, occlusion={wish: 1})):
        assert notes["occlusion_bin"] == wish
        assert 2 <= len(scene.people) <= 4


@pytest.mark.parametrize("wish", ["in-front", "held", "seat", "beside"])
def test_the_entanglement_is_the_one_asked_for(wish: str) -> None:
    for scene, _ in scenes(recipe(scenes=2, entanglement={wish: 1})):
        (prop,) = [layer for layer in scene.layers if layer.kind == "prop"]
        assert prop.relation == wish
        assert prop.person in [person.layer_id for person in scene.people]
        assert (prop.attached_to is not None) == (wish == "held")


def test_whoever_sits_has_a_seat_right_behind() -> None:
    pack = load_pack("train")
    rng = np.random.default_rng(5)
    plate = next(plate for plate in pack.plates if plate.plate_id == "bg_city_0")
    for wish in ("seat", "none", "held", "in-front"):
        frame = choose_frame(rng, plate, (720, 512), 512)
        placed = lay_out(rng, frame, pack, Wishes(3, "light", wish, False))
        assert placed is not None
        for index, item in enumerate(placed):
            if item.asset.is_person and item.asset.pose in SIT:
                assert placed[index - 1].relation == "seat"


def test_people_stand_on_the_ground_at_the_size_of_their_distance() -> None:
    pack = load_pack("train")
    rng = np.random.default_rng(6)
    plate = next(plate for plate in pack.plates if plate.plate_id == "bg_sunrise_0")
    frame = choose_frame(rng, plate, (720, 512), 512)
    placed = lay_out(rng, frame, pack, Wishes(4, "none", "none", False))
    assert placed is not None
    for item in placed:
        assert item.y > frame.camera.horizon
        wanted = frame.camera.px_per_m(item.y)
        assert item.asset.px_per_m * item.scale == pytest.approx(wanted)
        assert item.at(item.asset.ground) == pytest.approx((item.x, item.y))


def test_camera_rows_and_depths_are_inverse() -> None:
    camera = Camera(horizon=200, height_m=1.6, focal=400, size=512)
    for depth in (2.0, 5.0, 20.0):
        assert camera.depth(camera.row(depth)) == pytest.approx(depth)
    assert camera.px_per_m(360) == pytest.approx(100)


def test_the_splits_share_no_person_no_prop_picture_and_no_place() -> None:
    train, test = load_pack("train"), load_pack("test")
    for room in ("people", "props"):
        known = {asset.subject for asset in getattr(train, room)}
        assert not known & {asset.subject for asset in getattr(test, room)}
    assert not {p.group for p in train.plates} & {p.group for p in test.plates}
    assert len(train.people) > 80 and len(test.people) > 40


def test_flipping_twice_is_the_identity() -> None:
    for asset in load_pack("test").people[:5]:
        width = cutout_picture(asset).width
        twice = flip(flip(asset, width), width)
        assert twice.yaw == asset.yaw and twice.light == pytest.approx(asset.light)
        assert np.allclose(twice.keypoints, asset.keypoints)


def test_keypoints_outside_the_frame_are_0_and_hidden_ones_1() -> None:
    for scene, _ in scenes(recipe(scenes=3, occlusion={"heavy": 1}, truncation=1)):
        size = scene.plate.shape[0]
        for person in scene.people:
            visible = scene.visible(person.layer_id)
            for x, y, seen in person.keypoints:
                inside = 0 <= x < size and 0 <= y < size
                assert (seen > 0) == inside
                if seen == 2 and person.amodal[int(y), int(x)]:
                    assert visible[int(y), int(x)]


def test_each_scene_carries_the_licence_and_credit_of_its_plate() -> None:
    plates = {plate.plate_id: plate for plate in load_pack("test").plates}
    for scene, _ in scenes(recipe(scenes=3)):
        plate = plates[str(scene.provenance["plate"])]
        assert scene.licence == plate.licence and plate.credit in scene.credits


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("colour: red", "colour: no such key"),
        ("sceens: 3", "did you mean scenes"),
        ("scenes: 999999999999", "scenes: .*less than or equal to 200000"),
        ("scenes: 0", "scenes: .*greater than or equal to 1"),
        ("size: 100000", "size: .*less than or equal to 768"),
        ("people: [2, 900]", "within 2 to 8"),
        ("people: [5, 3]", "within 2 to 8"),
        ("split: holdout", "split: .*'train' or 'test'"),
        ("name: ../up", "name: .*pattern"),
        ("occlusion: {none: -1}", "expected shares of 0 or more"),
        ("occlusion: {sometimes: 1}", "occlusion.sometimes"),
        ("seed: -4", "seed: .*greater than or equal to 0"),
    ],
)
def test_a_bad_recipe_is_one_clear_line(tmp_path: Path, change: str, message: str) -> None:
    key = change.split(":")[0]
    kept = [line for line in RECIPE.splitlines() if not line.startswith(f"{key}:")]
    path = tmp_path / "bad.yaml"
    path.write_text("\n".join([*kept, change]))
    with pytest.raises(BadInput, match=message) as error:
        read_recipe(path)
    assert "keys: name, split, scenes" in str(error.value)


@pytest.mark.parametrize("text", ["", "- a\n- b", "a: [", "\x00"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(BadInput):
        read_recipe(path)


def test_an_unknown_recipe_name_lists_the_known_ones() -> None:
    with pytest.raises(BadInput, match="mild-mini-test"):
        find_recipe("mild-maxi")


def test_a_folder_of_another_recipe_is_not_touched(tmp_path: Path) -> None:
    compose(recipe(scenes=1), tmp_path / "scenes")
    before = digest(tmp_path)
    with pytest.raises(BadInput, match="another recipe"):
        compose(recipe(scenes=1, seed=12), tmp_path / "scenes")
    assert digest(tmp_path) == before


def test_a_folder_with_other_files_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(BadInput, match="empty or new folder"):
        compose(recipe(scenes=1), tmp_path)


def test_scenes_read_back_as_they_were_written(tmp_path: Path) -> None:
    compose(recipe(scenes=1), tmp_path / "scenes")
    made, notes = compose_scene(recipe(scenes=1), 0, load_pack("test"))
    read, read_notes = read_scene(scene_folders(tmp_path / "scenes")[0])
    assert np.array_equal(made.recompose(), read.recompose())
    assert made.scene_id == read.scene_id == scene_id(recipe(), 0)
    assert read_notes == notes
    for one, other in zip(made.layers, read.layers, strict=True):
        assert np.array_equal(one.rgba, other.rgba) and one.keypoints == other.keypoints


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "little.yaml"
    path.write_text(RECIPE.replace("scenes: 4", "scenes: 6"))
    compose(read_recipe(path), tmp_path / "calm")
    command = [sys.executable, "-m", "mild_bench", "curate", "compose", str(path)]
    command += ["--out", str(tmp_path / "killed")]
    draw = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(draw.uniform(0.4, 2.5))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, capture_output=True)
    assert digest(tmp_path / "killed") == digest(tmp_path / "calm")
