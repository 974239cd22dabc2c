"""Freezing releases and reading them back, whole, damaged or hostile."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from make_release import draw_scene
from typer.testing import CliRunner

from mild_bench.cli import app
from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.ledger import Decision, record
from mild_bench.curation.releasing import release as freezing
from mild_bench.curation.releasing.release import freeze
from mild_bench.curation.releasing.tasks import count_kinds, tasks_of
from mild_bench.curation.scene_folder import read_scenes, write_scene
from mild_bench.errors import BadInput
from mild_bench.images import decode_png
from mild_bench.release import Release
from mild_bench.scene import Scene

SCENES = 6


def make_workspace(folder: Path, *, scenes: int = SCENES, **changes: Any) -> Path:
    for number in range(scenes):
        put(folder, replace(draw_scene(number, size=(48, 48), seed=5), **changes))
    (folder / "workspace.json").write_text('{"kind": "drawn by a test", "seed": 5}')
    return folder


def put(folder: Path, scene: Scene) -> None:
    write_scene(folder, scene, annotate(scene))


def people_renamed(scene: Scene, start: str) -> Scene:
    layers = tuple(replace(layer, subject=f"{start}{layer.subject}") for layer in scene.layers)
    return replace(scene, layers=layers)


def content(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("curated") / "workspace")


@pytest.fixture(scope="module")
def frozen(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("releases") / "toy"
    freeze([workspace], out, name="toy", version="1.0")
    return out


@pytest.fixture
def copy(frozen: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(frozen, tmp_path / "copy"))


def set_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# Round trip


def test_tasks_come_back_as_they_were_asked(workspace: Path, frozen: Path) -> None:
    asked = []
    for scene, figures in read_scenes(workspace):
        asked += tasks_of(scene, figures, seed=0, before=count_kinds(asked))
    read = list(Release.open(frozen).tasks())
    assert [t.task_id for t in read] == [t.task_id for t in asked]
    assert Release.open(frozen).task_ids() == [t.task_id for t in asked]
    for one, other in zip(read, asked, strict=True):
        for name in ("input", "mask", "truth", "people"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for name in ("scene_id", "kind", "erase", "person_ids", "strata"):
            assert getattr(one, name) == getattr(other, name)


def test_scenes_come_back_with_all_their_layers(workspace: Path, frozen: Path) -> None:
    rows = parquet.read_table(frozen / "data/scenes-test.parquet").to_pylist()
    for row, (scene, figures) in zip(rows, read_scenes(workspace), strict=True):
        assert json.loads(row["annotations"]) == figures
        assert json.loads(row["provenance"]) == scene.provenance
        np.testing.assert_array_equal(decode_png(row["plate"]["bytes"]), scene.plate)
        for got, layer in zip(row["layers"], scene.layers, strict=True):
            np.testing.assert_array_equal(decode_png(got["image"]["bytes"]), layer.rgba)
            assert layer.effect is not None
            np.testing.assert_array_equal(decode_png(got["effect"]["bytes"]), layer.effect)
            assert (got["layer_id"], got["attached_to"]) == (layer.layer_id, layer.attached_to)


def test_only_the_named_tasks_are_read(frozen: Path) -> None:
    release = Release.open(frozen)
    wanted = frozenset(release.task_ids()[1:4:2])
    assert [task.task_id for task in release.tasks(wanted)] == sorted(wanted)


def test_every_row_is_a_row_group_so_that_tasks_stream(frozen: Path) -> None:
    for path in frozen.glob("data/*.parquet"):
        file = parquet.ParquetFile(path)
        assert file.num_row_groups == file.metadata.num_rows > 0


def test_strata_in_the_manifest_are_those_of_the_tasks(frozen: Path) -> None:
    release = Release.open(frozen)
    for entry, task in zip(release.manifest["tasks"], release.tasks(), strict=True):
        assert task.strata is not None
        for name in task.strata.__dataclass_fields__:
            assert entry[name] == getattr(task.strata, name)


LOAD = """
import sys
from datasets import load_dataset
tasks = load_dataset(sys.argv[1], "tasks", split="test")
scenes = load_dataset(sys.argv[1], "scenes", split="test")
task, scene = tasks[0], scenes[0]
print(len(tasks), len(scenes), task["task_id"])
print(task["input"].mode, task["mask"].mode, task["truth"].size, task["people_map"].mode)
layer = scene["layers"][0]
print(scene["plate"].mode, layer["image"].mode, layer["effect"].mode, layer["parts"].mode)
"""


def test_datasets_opens_it_in_another_process(frozen: Path, tmp_path: Path) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(frozen)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    tasks = Release.open(frozen).task_ids()
    assert done.stdout.splitlines() == [
        f"{len(tasks)} {SCENES} {tasks[0]}", "RGB L (48, 48) L", "RGB RGBA LA L",
    ]  # fmt: skip


def test_croissant_opens_it(frozen: Path, caplog: pytest.LogCaptureFixture) -> None:
    import mlcroissant

    dataset = mlcroissant.Dataset(jsonld=str(frozen / "croissant.json"))
    assert not dataset.metadata.issues.errors
    rows = list(dataset.records("tasks_test"))
    tasks = list(Release.open(frozen).tasks())
    assert len(rows) == len(tasks)
    for row, task in zip(rows, tasks, strict=True):
        assert row["tasks_test/task_id"].decode() == task.task_id
        np.testing.assert_array_equal(np.asarray(row["tasks_test/truth"]), task.truth)
    assert len(list(dataset.records("scenes_test"))) == SCENES


def test_the_card_says_what_is_in_it(frozen: Path) -> None:
    text = (frozen / "README.md").read_text()
    header = yaml.safe_load(text.split("---")[1])
    assert header["license"] == "cc0-1.0" and header["size_categories"] == ["n<1K"]
    for config in header["configs"]:
        assert [(frozen / one["path"]).is_file() for one in config["data_files"]] == [True]
    kinds = count_kinds(Release.open(frozen).tasks())
    assert f"| {SCENES} scenes | {sum(kinds.values())} tasks |" in text
    assert all(f"{kind}: {number}" in text for kind, number in kinds.items())
    assert "- drawn by a test" in text and "seed: 5" in text


# The same bytes, whatever happens


def test_freezing_twice_gives_the_same_bytes(workspace: Path, frozen: Path, tmp_path: Path) -> None:
    again = freeze([workspace], tmp_path / "again", name="toy", version="1.0")
    assert content(again.folder) == content(frozen)
    assert again.hash == Release.open(frozen).hash
    assert freeze([workspace], frozen, name="toy", version="1.0").hash == again.hash  # in its place
    other = freeze([workspace], tmp_path / "other", name="toy", version="1.0", seed=1)
    assert other.hash != again.hash


def test_an_error_in_the_middle_leaves_nothing(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = freeze([workspace], tmp_path / "out", name="toy", version="0.9").hash
    read = freezing.read_scene

    def break_at_the_third(folder: Path) -> Any:
        if folder.name.endswith("2"):
            raise OSError(28, "No space left on device")
        return read(folder)

    monkeypatch.setattr(freezing, "read_scene", break_at_the_third)
    with pytest.raises(BadInput, match=r"out: could not be written \(No space left on device\)"):
        freeze([workspace], tmp_path / "out", name="toy", version="1.0")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert Release.open(tmp_path / "out").hash == old


KILLED = """
import sys, time
from pathlib import Path
from mild_bench.curation.releasing import release
read = release.read_scene
def slowly(folder):
    time.sleep(0.3)
    return read(folder)
release.read_scene = slowly
release.freeze([Path(sys.argv[1])], Path(sys.argv[2]), name="toy", version="1.0")
"""


def test_killed_in_the_middle_and_run_again(workspace: Path, frozen: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(workspace), str(out)])
    while not (parts := list(tmp_path.glob(".out.*.part/data/tasks-test.parquet"))):
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert parts[0].exists() and not out.exists()
    freeze([workspace], out, name="toy", version="1.0")
    assert content(out) == content(frozen)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# What may join


def test_rejected_scenes_stay_out_with_their_reason(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "w", scenes=3)
    why = "floats | above the\nroad"
    record(folder, [Decision("scene-001", "rejected", why, "person:test")])
    record(folder, [Decision("scene-002", "rejected", "dark", "person:test")])
    record(folder, [Decision("scene-002", "accepted", "", "person:test")])
    release = freeze([folder], tmp_path / "out", name="toy", version="1.0")
    assert {task.scene_id for task in release.tasks()} == {"scene-000", "scene-002"}
    assert release.manifest["rejected"] == {"scene-001": why}
    text = (tmp_path / "out/README.md").read_text()
    assert "| scene-001 | floats / above the road |" in text


def test_a_release_needs_a_scene(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "w", scenes=1)
    record(folder, [Decision("scene-000", "rejected", "dark", "person:test")])
    with pytest.raises(BadInput, match="expected a scene to release, got 1 rejected"):
        freeze([folder], tmp_path / "out", name="toy", version="1.0")
    with pytest.raises(BadInput, match="expected at least one, got none"):
        freeze([], tmp_path / "out", name="toy", version="1.0")
    with pytest.raises(BadInput, match="expected a workspace with scenes, found none"):
        freeze([tmp_path], tmp_path / "out", name="toy", version="1.0")


def test_places_and_people_in_two_splits_are_refused(tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "w", scenes=1)
    base = draw_scene(1, size=(48, 48), seed=5)
    put(folder, replace(people_renamed(base, "x"), split="train"))  # scene 0's group is place-0
    with pytest.raises(
        BadInput, match=r"group place-0 in test \(scene-000\) and train \(scene-001\)"
    ):
        freeze([folder], tmp_path / "out", name="toy", version="1.0")
    put(folder, replace(base, split="train", group="elsewhere"))
    with pytest.raises(BadInput, match=r"subject person-0 in test .* subject person-1 in"):
        freeze([folder], tmp_path / "out", name="toy", version="1.0", splits=["test"])
    record(folder, [Decision("scene-001", "rejected", "leak", "rule:leak")])
    freeze([folder], tmp_path / "out", name="toy", version="1.0")
    assert not (tmp_path / "out/data/tasks-train.parquet").exists()


def test_two_workspaces_and_two_splits_make_one_release(tmp_path: Path) -> None:
    test = make_workspace(tmp_path / "test", scenes=2)
    train = tmp_path / "train"
    scene = people_renamed(draw_scene(4, size=(48, 48), seed=5), "x")
    put(train, replace(scene, split="train", licence="CC-BY-4.0", credits=("somebody",)))
    release = freeze([test, train], tmp_path / "out", name="toy", version="1.0")
    assert {path.name for path in (release.folder / "data").iterdir()} == {
        "scenes-test.parquet", "scenes-train.parquet", "tasks-test.parquet", "tasks-train.parquet",
    }  # fmt: skip
    assert [task.task_id for task in release.tasks()] == release.task_ids()
    assert release.manifest["licence"] == "CC-BY-4.0 AND CC0-1.0"
    assert release.manifest["credits"] == ["drawn by a test", "somebody"]
    assert "license: other" in (tmp_path / "out/README.md").read_text()
    only = freeze([test, train], tmp_path / "only", name="t", version="1.0", splits=["train"])
    assert {task.scene_id for task in only.tasks()} == {"scene-004"}
    with pytest.raises(BadInput, match="expected some of test, train, got valid"):
        freeze([test, train], tmp_path / "no", name="t", version="1.0", splits=["valid"])
    with pytest.raises(BadInput, match="scene scene-000: expected ids that occur once"):
        freeze([test, test], tmp_path / "no", name="t", version="1.0")


@pytest.mark.parametrize(
    ("name", "version", "text"),
    [("../x", "1.0", "name: expected"), ("toy", "1", "version: "), ("toy", "1.0a", "version: ")],
)
def test_names_are_checked(
    workspace: Path, tmp_path: Path, name: str, version: str, text: str
) -> None:
    with pytest.raises(BadInput, match=text):
        freeze([workspace], tmp_path / "out", name=name, version=version)


def test_other_peoples_folders_are_never_replaced(
    workspace: Path, copy: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("five years")
    with pytest.raises(BadInput, match="got a folder with other files"):
        freeze([workspace], tmp_path / "mine", name="toy", version="1.0")
    with pytest.raises(BadInput, match="got a folder with other files"):
        freeze([workspace], workspace, name="toy", version="1.0")
    (copy / "runs").mkdir()
    (copy / "runs/notes.txt").write_text("a run")
    with pytest.raises(BadInput, match=r"got runs/notes\.txt beside it"):
        freeze([workspace], copy, name="toy", version="1.0")
    assert (tmp_path / "mine/thesis.txt").exists() and (copy / "runs/notes.txt").exists()


# Damage and malice


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "data/../../x", "..", "C:/x", "data\\..\\x"],
)
def test_names_that_lead_out_are_refused(copy: Path, name: str) -> None:
    (copy.parent / "x").write_text("outside")
    set_manifest(copy, files={name: "0" * 64})
    with pytest.raises(BadInput, match="leads out of its folder"):
        Release.open(copy)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a\nb", "x" * 300])
def test_task_names_that_could_lead_out_are_refused(copy: Path, name: str) -> None:
    path = copy / "data/tasks-test.parquet"
    rows = parquet.read_table(path)
    renamed = [name, *rows["task_id"].to_pylist()[1:]]
    parquet.write_table(rows.set_column(0, "task_id", pa.array(renamed)), path)
    with pytest.raises(BadInput, match="expected names of letters, digits"):
        next(Release.open(copy).tasks())
    set_manifest(copy, tasks=[{"task_id": name}])
    with pytest.raises(BadInput, match="expected names of letters, digits"):
        Release.open(copy)


@pytest.mark.parametrize("name", ["data/tasks-test.parquet", "manifest.json"])
def test_links_that_lead_out_are_refused(copy: Path, name: str) -> None:
    outside = copy.parent / "outside"
    (copy / name).rename(outside)
    (copy / name).symlink_to(outside)
    with pytest.raises(BadInput, match="leads out of its folder"):
        Release.open(copy)


def test_a_linked_folder_that_leads_out_is_refused(copy: Path) -> None:
    (copy / "data").rename(copy.parent / "outside")
    (copy / "data").symlink_to(copy.parent / "outside")
    with pytest.raises(BadInput, match="leads out of its folder"):
        Release.open(copy)


def test_truncated_tables_are_refused(copy: Path) -> None:
    path = copy / "data/tasks-test.parquet"
    whole = path.read_bytes()
    for length in (0, 3, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(BadInput, match=r"tasks-test\.parquet: expected a whole parquet file"):
            list(Release.open(copy).tasks())
        assert Release.open(copy).faults() == ["data/tasks-test.parquet is not what was frozen"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.floats(0, 1, exclude_max=True))
def test_damaged_pages_never_pass_as_pictures(frozen: Path, copy: Path, where: float) -> None:
    path = copy / "data/tasks-test.parquet"
    data = bytearray((frozen / "data/tasks-test.parquet").read_bytes())
    file = parquet.ParquetFile(frozen / "data/tasks-test.parquet")
    group = file.metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    column = next(one for one in columns if one.path_in_schema == "input.bytes")
    start, size = column.data_page_offset, column.total_compressed_size
    place = start + 40 + int(where * (size - 40))  # past the page's own header
    data[place] ^= 0x10
    path.write_bytes(bytes(data))
    with pytest.raises(BadInput, match="fetch it again"):
        list(Release.open(copy).tasks())


def test_missing_columns_and_values_are_named(copy: Path) -> None:
    path = copy / "data/tasks-test.parquet"
    table = parquet.read_table(path)
    parquet.write_table(table.drop_columns(["mask", "group"]), path)
    with pytest.raises(BadInput, match="none called group, mask; freeze"):
        list(Release.open(copy).tasks())
    empty = pa.nulls(len(table), table.schema.field("input").type)
    parquet.write_table(table.set_column(4, "input", empty), path)
    with pytest.raises(BadInput, match="expected every value of a task"):
        list(Release.open(copy).tasks())


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"files": ["README.md"]}, "no usable files"),
        ({"files": {"README.md": 3}}, "no usable files"),
        ({"tasks": None}, "no usable tasks"),
        ({"tasks": [{}]}, "no usable tasks"),
        ({"name": 1, "version": None}, "no usable name, version"),
        ({"files": {"gone.txt": "0"}}, "names 'gone.txt', but it is not there"),
    ],
)
def test_broken_manifests_are_refused(copy: Path, changes: dict[str, Any], text: str) -> None:
    set_manifest(copy, **changes)
    with pytest.raises(BadInput, match=text):
        Release.open(copy)


def test_a_manifest_that_lists_other_tasks_is_a_fault(copy: Path) -> None:
    release = Release.open(copy)
    assert release.faults() == []
    set_manifest(copy, tasks=release.manifest["tasks"][1:])
    assert Release.open(copy).faults() == [
        "manifest.json lists other tasks than the parquet files hold"
    ]


# The command line


def test_release_and_verify_from_the_command_line(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--out", str(out), "--name", "toy", "--version", "1.0"]
    done = CliRunner().invoke(app, ["curate", "release", str(workspace), *arguments])
    assert done.exit_code == 0 and f"tasks about {SCENES} scenes" in done.output
    done = CliRunner().invoke(app, ["curate", "verify", str(out)])
    assert done.exit_code == 0 and "4 files are as the manifest says" in done.output
    with (out / "README.md").open("a") as file:
        file.write("better numbers")
    done = CliRunner().invoke(app, ["curate", "verify", str(out)])
    assert isinstance(done.exception, BadInput)
    assert "README.md is not what was frozen" in str(done.exception)
