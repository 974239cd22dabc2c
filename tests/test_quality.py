"""Quality rules: each finds the fault it is for, and leaves a good workspace alone."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.auditing.audit import QualityReport, audit
from mild_bench.curation.auditing.between_scenes import entry, near_duplicates, split_leaks
from mild_bench.curation.auditing.quality import check_plate, sharpness, touched_by
from mild_bench.curation.ledger import Decision, current, read_ledger, record
from mild_bench.curation.scene_folder import write_scene
from mild_bench.errors import BadInput
from mild_bench.images import Rgb, encode_png
from mild_bench.scene import Layer, Scene

SIDE = 96


def landscape(seed: int) -> Rgb:
    """A random picture with coarse and fine detail: like no other seed's, and sharp."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(40, 200, (6, 6, 3)).astype(np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return np.asarray((large + rng.integers(0, 40, large.shape)).astype(np.uint8))


def person(name: str, x: int, *, subject: str = "", size: int = 30, soft: bool = False) -> Layer:
    rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
    rgba[40 : 40 + size, x : x + size // 2] = (250, 10, 10, 255)
    if soft:
        rgba[39, x : x + size // 2] = (250, 10, 10, 60)
    effect = np.zeros((SIDE, SIDE, 2), np.uint8)
    effect[40 + size : 44 + size, x : x + size // 2] = 90
    return Layer(name, "person", rgba, effect=effect, subject=subject or f"{name}-{x}")


def scene(name: str, seed: int, *layers: Layer, split: str = "test", group: str = "") -> Scene:
    people = layers or (person("p1", 10 + seed % 40, subject=f"someone-{seed}"),)
    return Scene(name, split, group or f"place-{seed}", "exact", landscape(seed), people)


def keep(workspace: Path, *scenes: Scene) -> None:
    for made in scenes:
        write_scene(workspace, made, annotate(made))


def found(report: QualityReport) -> dict[str, tuple[str, str]]:
    return {line.scene_id: (line.verdict, line.by) for line in report.found}


def test_a_good_workspace_has_no_findings_and_a_balance(tmp_path: Path) -> None:
    keep(tmp_path, *(scene(f"s{k}", k) for k in range(4)), scene("t0", 9, split="train"))
    report = audit(tmp_path)
    assert (report.scenes, report.found, report.decisions) == (5, (), ())
    counts = {(row.of, row.value): row.counts for row in report.balance}
    assert counts["scenes", "all"] == {"test": 4, "train": 1}
    assert counts["people", "1"] == {"test": 4, "train": 1}
    assert counts["occlusion", "none"] == {"test": 4, "train": 1}
    assert counts["occlusion", "heavy"] == {"test": 0, "train": 0}
    assert counts["truth", "exact"] == {"test": 4, "train": 1}


def test_balance_leaves_out_what_is_rejected(tmp_path: Path) -> None:
    keep(tmp_path, scene("s0", 0), scene("s1", 1))
    record(tmp_path, [Decision("s0", "rejected", "ugly", "person:cli")])
    assert audit(tmp_path).balance[0].counts == {"test": 1}


@pytest.mark.parametrize("broken", ["input.png", "plate.png", "layers/p1.png", "scene.json"])
@pytest.mark.parametrize("how", ["cut", "empty", "gone"])
def test_broken_files_are_rejected_and_the_audit_goes_on(
    tmp_path: Path, broken: str, how: str
) -> None:
    keep(tmp_path, scene("s0", 0), scene("s1", 1))
    path = tmp_path / "scenes" / "s0" / broken
    data = path.read_bytes()
    path.unlink() if how == "gone" else path.write_bytes(data[:40] if how == "cut" else b"")
    report = audit(tmp_path)
    if broken == "scene.json" and how == "gone":
        assert report.scenes == 1  # no scene any more, like one whose writing was killed
        return
    assert found(report) == {"s0": ("rejected", "rule:corrupt")}
    assert str(tmp_path) not in report.found[0].reason
    assert report.scenes == 2


def test_tiny_pictures_are_rejected(tmp_path: Path) -> None:
    rgba = np.zeros((63, 200, 4), np.uint8)
    rgba[10:50, 10:30] = 255
    small = Scene("s", "test", "g", "exact", np.zeros((63, 200, 3), np.uint8), ())
    keep(tmp_path, replace(small, layers=(Layer("p", "person", rgba, subject="x"),)))
    assert found(audit(tmp_path)) == {"s": ("rejected", "rule:tiny")}


def test_blur_goes_to_review(tmp_path: Path) -> None:
    blurred = Image.fromarray(landscape(3)).filter(ImageFilter.GaussianBlur(4))
    soft = scene("s", 3)
    # no person: the hard edges of the painted one would be sharp
    keep(tmp_path, replace(soft, plate=np.asarray(blurred), layers=()))
    report = audit(tmp_path)
    assert found(report) == {"s": ("to-review", "rule:blur")}


@given(st.integers(0, 10_000), st.floats(0.4, 3))
@settings(max_examples=20, deadline=None)
def test_blurring_lowers_sharpness(seed: int, radius: float) -> None:
    picture = landscape(seed)
    blurred = np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))
    assert sharpness(blurred) < sharpness(picture)
    assert sharpness(np.full_like(picture, 77)) == 0


def test_hardly_visible_people_go_to_review(tmp_path: Path) -> None:
    dot = person("dot", 3, size=4)  # 8 px of 9216 are below 0.1 %
    keep(tmp_path, scene("s", 1, dot, person("p", 40)))
    report = audit(tmp_path)
    assert found(report) == {"s": ("to-review", "rule:few-pixels")}
    assert "dot (8 px)" in report.found[0].reason and "p (" not in report.found[0].reason


# the plate audit


def test_one_level_in_one_pixel_outside_people_and_shadows_is_found(tmp_path: Path) -> None:
    made = scene("s", 5)
    keep(tmp_path, made)
    picture = made.recompose()
    picture[2, 2, 0] ^= 1
    (tmp_path / "scenes" / "s" / "input.png").write_bytes(encode_png(picture))
    report = audit(tmp_path)
    assert found(report) == {"s": ("rejected", "rule:plate")}
    assert "1 px" in report.found[0].reason


def test_soft_edges_shadows_and_held_things_may_differ() -> None:
    rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
    rgba[20:25, 60:80] = (0, 0, 255, 255)
    held = Layer("ball", "prop", rgba, attached_to="p", relation="held", person="p")
    made = scene("s", 5, person("p", 20, soft=True), held)
    assert check_plate(made, made.recompose()) == []
    changed = (made.recompose() != made.recompose(without=["p", "ball"])).any(axis=2)
    assert changed[39, 20:35].any() and changed[70:74, 20:35].any() and changed[20:25, 60:80].any()


def test_nothing_may_differ_where_a_prop_that_stays_hides_the_person() -> None:
    rgba = np.zeros((SIDE, SIDE, 4), np.uint8)
    rgba[40:60, 20:40] = (0, 90, 0, 255)
    made = scene("s", 5, person("p", 20), Layer("q", "prop", rgba))
    picture = made.recompose()
    assert check_plate(made, picture) == []
    picture[45, 25] = 0  # the person is there, but behind the prop
    assert check_plate(made, picture)[0].by == "rule:plate"


def test_a_picture_of_another_size_and_a_scene_without_plate() -> None:
    made = scene("s", 5)
    assert check_plate(made, made.recompose()[:-1])[0].verdict == "rejected"
    wild = replace(made, truth_kind="masks-only")
    assert check_plate(wild, np.zeros_like(made.plate)) == []


@given(st.integers(0, 99), st.lists(st.tuples(st.integers(0, 70), st.booleans()), max_size=4))
@settings(max_examples=30, deadline=None)
def test_removing_layers_changes_only_what_they_touch(
    seed: int, places: list[tuple[int, bool]]
) -> None:
    layers = [person(f"p{k}", x, soft=soft) for k, (x, soft) in enumerate(places)]
    made = replace(scene("s", seed), layers=tuple(layers))
    gone = frozenset(layer.layer_id for layer in layers[::2])
    changed = (made.recompose() != made.recompose(without=gone)).any(axis=2)
    assert not (changed & ~touched_by(made, gone)).any()


# between scenes


def altered(picture: Rgb, how: str) -> Rgb:
    image = Image.fromarray(picture)
    if how == "jpeg":
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=40)
        image = Image.open(buffer).convert("RGB")
    elif how == "smaller":
        image = image.resize((64, 64), Image.Resampling.LANCZOS)
    else:
        image = image.point(lambda value: min(255, value + 12))
    return np.asarray(image)


@pytest.mark.parametrize("how", ["jpeg", "smaller", "brighter"])
def test_near_copies_are_found_in_any_split_and_the_test_scene_stays(how: str) -> None:
    made = scene("z-test", 7)
    copy = entry(scene("a-train", 7, split="train"), altered(made.recompose(), how))
    decisions = near_duplicates([copy, entry(made, made.recompose())])
    assert [(line.scene_id, line.by) for line in decisions] == [("a-train", "rule:near-duplicate")]
    assert "z-test" in decisions[0].reason


def test_other_people_on_the_same_plate_are_no_duplicates() -> None:
    made = [scene(f"s{x}", 7, person("p", x)) for x in (5, 30, 60)]
    assert near_duplicates(entry(one, one.recompose()) for one in made) == []


def test_the_test_split_wins_whatever_the_other_is_called() -> None:
    made = [scene("a", 7, split="practice"), scene("b", 7, split="test")]
    entries = [entry(one, one.recompose()) for one in made]
    assert [line.scene_id for line in near_duplicates(entries)] == ["a"]
    assert {line.scene_id for line in split_leaks(entries)} == {"a"}


def test_twins_in_another_workspace_are_its_own_affair() -> None:
    made = [scene(name, 7) for name in "ab"]
    assert near_duplicates(entry(one, one.recompose(), judged=False) for one in made) == []


def test_a_row_of_copies_leaves_one() -> None:
    made = [scene(f"s{k}", 7) for k in range(4)]
    decisions = near_duplicates(entry(one, one.recompose()) for one in reversed(made))
    assert [line.scene_id for line in decisions] == ["s1", "s2", "s3"]


def test_a_place_or_person_in_two_splits_leaves_the_test_split_alone(tmp_path: Path) -> None:
    keep(
        tmp_path,
        scene("a", 1, split="test", group="square"),
        scene("b", 2, split="train", group="square"),
        scene("c", 3, person("p", 5, subject="maria"), split="train"),
        scene("d", 4, person("p", 9, subject="maria"), split="test"),
        scene("e", 5, split="train"),
    )
    report = audit(tmp_path)
    assert found(report) == {
        "b": ("rejected", "rule:group-leak"),
        "c": ("rejected", "rule:subject-leak"),
    }
    assert "maria (split test)" in report.found[1].reason


def test_unnamed_people_and_shared_props_are_no_leak() -> None:
    nameless = replace(person("p", 5), subject="")
    chair = Layer("q", "prop", np.zeros((SIDE, SIDE, 4), np.uint8), subject="chair")
    made = [
        scene("a", 1, nameless, chair, split="test"),
        scene("b", 2, nameless, chair, split="train"),
    ]
    assert split_leaks([entry(one, one.plate) for one in made]) == []


def test_another_workspace_is_compared_and_never_judged(tmp_path: Path) -> None:
    test, train = tmp_path / "test", tmp_path / "train"
    keep(test, scene("t", 1, split="train-old"))
    keep(train, scene("a", 1, split="aaa", group="elsewhere"), scene("b", 2, split="aaa"))
    report = audit(train, against=[test])
    assert found(report) == {"a": ("rejected", "rule:near-duplicate")}
    assert "person of split aaa" in report.found[0].reason  # all its faults are named
    assert audit(test).found == ()
    with pytest.raises(BadInput, match="another workspace"):
        audit(test, against=[test])


# the ledger


def test_an_audit_can_be_repeated_and_takes_back_what_is_mended(tmp_path: Path) -> None:
    keep(tmp_path, scene("a", 1), scene("b", 1, group="other"))
    assert record(tmp_path, list(audit(tmp_path).decisions)) == 1
    assert record(tmp_path, list(audit(tmp_path).decisions)) == 0
    keep(tmp_path, scene("b", 2))
    assert record(tmp_path, list(audit(tmp_path).decisions)) == 1
    assert current(tmp_path)["b"].verdict == "accepted"
    assert record(tmp_path, list(audit(tmp_path).decisions)) == 0
    keep(tmp_path, scene("b", 1))
    record(tmp_path, list(audit(tmp_path).decisions))
    assert current(tmp_path)["b"].verdict == "rejected"


def test_what_a_person_decided_stays(tmp_path: Path) -> None:
    keep(tmp_path, scene("a", 1), scene("b", 1))
    accepted = Decision("b", "accepted", "meant to be", "person:app")
    record(tmp_path, [accepted])
    report = audit(tmp_path)
    assert found(report) == {"b": ("rejected", "rule:near-duplicate")}
    assert report.decisions == ()
    assert current(tmp_path)["b"] == accepted


def test_a_scene_rejected_by_others_rejects_nobody_and_stays_rejected(tmp_path: Path) -> None:
    keep(tmp_path, scene("a", 1), scene("b", 1))
    record(tmp_path, [Decision("a", "rejected", "drift", "rule:video")])
    assert audit(tmp_path).decisions == ()
    assert current(tmp_path)["a"].by == "rule:video"


def test_two_faults_of_a_scene_are_one_line_with_the_worst_verdict(tmp_path: Path) -> None:
    dot = person("dot", 3, size=4)
    keep(
        tmp_path,
        scene("a", 1, group="square"),
        scene("b", 2, dot, person("p", 40), split="train", group="square"),
    )
    report = audit(tmp_path)
    assert found(report) == {"b": ("rejected", "rule:group-leak")}
    assert "hardly visible" in report.found[0].reason and "square" in report.found[0].reason


def test_an_empty_workspace_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found none"):
        audit(tmp_path)


def test_the_command_prints_findings_and_balance_and_writes_the_ledger(tmp_path: Path) -> None:
    keep(tmp_path, scene("a", 1), scene("b", 1, split="train"))
    code = "from mild_bench.cli import main; main()"
    command = [sys.executable, "-c", code, "curate", "audit", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "rejected   b" in done.stdout and "2 scenes: 1 to reject" in done.stdout
    assert [line.scene_id for line in read_ledger(tmp_path)] == ["b"]
