"""Fixed-camera video to scenes, on a video whose truth is known and on real pedestrians."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from mild_bench.curation.filming.figures import find_blobs, find_figures, learn_size
from mild_bench.curation.filming.matte import cut_out
from mild_bench.curation.filming.plate import fit_drift, learn_place, outside_difference, strongest
from mild_bench.curation.filming.survey import Settings
from mild_bench.curation.filming.video import curate_video, default_name
from mild_bench.curation.ledger import Decision, current, record
from mild_bench.curation.scene_folder import read_scene, read_scenes
from mild_bench.errors import BadInput
from mild_bench.store import read_json

VTEST = Path("/usr/share/doc/opencv-doc/examples/data/vtest.avi")
HEIGHT, WIDTH, FRAMES, EVERY = 240, 320, 150, 5
WALKERS = (  # foot row, first x, pixels a frame, brightness
    (110, 20.0, 1.7, 40),
    (150, 300.0, -2.1, 215),
    (192, 60.0, 2.4, 30),
    (228, 330.0, -2.9, 45),
)


@dataclass(frozen=True)
class Film:
    """A synthetic video and what is true of it."""

    path: Path
    plate: np.ndarray
    masks: list[list[np.ndarray]]  # by frame, of each walker the part that shows
    hidden: list[float]  # by frame, the largest hidden share of a walker
    light: list[tuple[float, float]]  # by frame, gain and offset


def textured_plate() -> np.ndarray:
    rng = np.random.default_rng(1)
    coarse = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH, 3)).astype(np.float32), (0, 0), 6)
    fine = cv2.GaussianBlur(rng.normal(0, 1, (HEIGHT, WIDTH, 1)).astype(np.float32), (0, 0), 1.2)
    return (125 + 20 * coarse / coarse.std() + 8 * (fine / fine.std())[..., None]).clip(60, 190)


def walker_mask(foot: int, x: float, step: int) -> np.ndarray:
    tall = 0.27 * foot + 12
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    legs = 0.09 * tall * (1 + 0.5 * np.sin(step / 3))
    for up, wide, high in ((0.9, 0.09, 0.1), (0.6, 0.15, 0.26)):  # head, body
        centre, axes = (round(x), round(foot - up * tall)), (round(wide * tall), round(high * tall))
        cv2.ellipse(mask, centre, axes, 0, 0, 360, 1, -1)
    for side in (-1, 1):
        cv2.line(mask, (round(x), round(foot - 0.45 * tall)), (round(x + side * legs), foot - 2), 1,
                 max(3, round(0.12 * tall)))  # fmt: skip
    return mask > 0


def make_film(path: Path, *, sway: float = 0.0, walkers: bool = True) -> Film:
    plate = textured_plate()
    rng = np.random.default_rng(2)
    cloth = rng.normal(0, 8, (HEIGHT, WIDTH, 3)).astype(np.float32)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (WIDTH, HEIGHT))
    writer.set(cv2.VIDEOWRITER_PROP_QUALITY, 95)
    masks, hidden, light = [], [], []
    for step in range(FRAMES):
        gain, offset = 1 + 0.06 * np.sin(step / 25), 5 * np.sin(step / 40 + 1)
        canvas, full = plate.copy(), []
        for foot, x, speed, level in WALKERS if walkers else ():
            here = (x + speed * step + 40) % (WIDTH + 80) - 40
            full.append(walker_mask(foot, here, step))
            canvas[full[-1]] = (level + cloth)[full[-1]]
        shows = [m & ~np.logical_or.reduce([m & False, *full[i + 1 :]]) for i, m in enumerate(full)]
        shares = [1 - s.sum() / m.sum() for s, m in zip(shows, full, strict=True) if m.any()]
        hidden.append(max(shares, default=0.0))
        masks.append(shows)
        light.append((gain, offset))
        frame = (canvas * gain + offset + rng.normal(0, 1.5, canvas.shape)).clip(0, 255)
        move = np.float32([[1, 0, sway * np.sin(step / 9)], [0, 1, 0]])
        moved = cv2.warpAffine(np.rint(frame).astype(np.uint8), move, (WIDTH, HEIGHT), borderMode=2)
        writer.write(cv2.cvtColor(moved, cv2.COLOR_RGB2BGR))
    writer.release()
    return Film(path, plate, masks, hidden, light)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    return make_film(tmp_path_factory.mktemp("film") / "walkers.avi")


@pytest.fixture(scope="module")
def workspace(film: Film, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("video") / "workspace"
    curate_video(film.path, out, settings())
    return out


def settings(**changes: object) -> Settings:
    values: dict[str, object] = {"every": EVERY, "name": "walkers", "max_scenes": 8, **changes}
    return Settings(**values)


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return float((one & two).sum() / max(1, (one | two).sum()))


def test_plate_is_what_is_there_when_nobody_is(film: Film) -> None:
    place = learn_place(film.path)
    gain, offset = (
        np.median([gain for gain, _ in film.light]),
        np.median([o for _, o in film.light]),
    )
    assert place.frames == FRAMES
    assert place.motion < 0.5
    # the plate's own light is that of the median frame; up to that it is the true one
    light = fit_drift(np.rint(film.plate * gain + offset).astype(np.uint8), place.plate)
    error = np.abs(light.apply(place.plate) - (film.plate * gain + offset))
    assert error.mean() < 2.2  # JPEG takes 1.5 of these out of the coloured grain
    assert np.percentile(error, 99) < 8


def test_drift_is_recovered_with_people_in_the_frame(film: Film) -> None:
    plate = film.plate.astype(np.float32)
    frame = plate * np.float32([1.08, 1.0, 0.93]) + np.float32([-4, 6, 3])
    truth = frame.copy()
    for mask in film.masks[30]:
        frame[mask] = 30
    drift = fit_drift(np.rint(frame.clip(0, 255)).astype(np.uint8), plate)
    assert drift.gain == pytest.approx((1.08, 1.0, 0.93), abs=0.01)
    assert drift.offset == pytest.approx((-4, 6, 3), abs=1.0)
    assert np.abs(drift.apply(plate) - truth).mean() < 0.5
    assert np.abs(drift.undo(drift.apply(plate)) - plate).max() < 0.01


def test_accepted_frames_show_whole_people_and_a_true_background(
    film: Film, workspace: Path
) -> None:
    """What the rules let through without a mark: every person found, whole, and alone."""
    marked = current(workspace)
    checked, ious, errors = 0, [], []
    for scene, notes in read_scenes(workspace):
        if scene.provenance["kind"] != "frame" or scene.scene_id in marked:
            continue
        step = int(scene.provenance["frame"])
        people = [mask for mask in film.masks[step] if mask.sum() > 60]
        assert len(scene.people) == len(people) == notes["people"], scene.scene_id
        assert scene.truth_kind == "derived"
        for layer in scene.people:
            ious.append(max(iou(layer.amodal, mask) for mask in people))
        gain, offset = film.light[step]
        true = film.plate * gain + offset
        errors.append(
            np.abs(
                scene.plate[np.logical_or.reduce(people)] - true[np.logical_or.reduce(people)]
            ).mean()
        )
        checked += 1
    assert checked >= 5
    assert min(ious) > 0.7
    assert np.mean(ious) > 0.92
    assert max(errors) < 5  # grain, JPEG and two frames' noise are about 3


def test_input_is_the_real_frame(film: Film, workspace: Path) -> None:
    for scene, _ in read_scenes(workspace):
        if scene.provenance["kind"] == "frame":
            apart = scene.provenance["input_differs_from_frame"]
            assert apart["in_masks"] < 1.5
            outside = scene.provenance["outside_difference"]
            assert 0 < outside["mean"] <= outside["p95"]


def test_people_who_hide_each_other_never_pass_unmarked(film: Film, workspace: Path) -> None:
    marked = current(workspace)
    crossing = [step for step in range(0, FRAMES, EVERY) if film.hidden[step] > 0.1]
    assert len(crossing) >= 2
    kept = [step for step in crossing if (workspace / f"scenes/walkers-f{step:06d}").exists()]
    for step in kept:
        assert marked[f"walkers-f{step:06d}"].verdict == "to-review"
    rejected = [name for name, decision in marked.items() if decision.verdict == "rejected"]
    assert kept or {f"walkers-f{step:06d}" for step in crossing} & {*rejected}


def test_people_side_by_side_are_split_and_said_to_touch() -> None:
    shape = (HEIGHT, WIDTH)
    points = [(foot, round(0.27 * foot + 12), round(0.2 * (0.27 * foot + 12) ** 2))
              for foot in range(100, 230, 5)]  # fmt: skip
    size = learn_size(points)
    assert size is not None
    assert size.height(200) == pytest.approx(0.27 * 200 + 12, abs=1)
    left, right = walker_mask(192, 100, 0), walker_mask(192, 117, 0)
    finds = find_figures(find_blobs(left | right), size, shape)
    assert not finds.faults
    assert [figure.touching for figure in finds.figures] == [True, True]
    for figure, mask in zip(finds.figures, (left, right), strict=True):
        assert iou(figure.blob.full(shape), mask) > 0.85
    far = walker_mask(130, 102, 0)
    stacked = find_figures(find_blobs(left | far), size, shape)
    assert [figure.blob.foot > 150 for figure in stacked.figures] == [False, True]
    behind = walker_mask(150, 100, 0)
    assert find_figures(find_blobs(left | behind), size, shape).faults


def test_moved_people_overlap_and_the_layers_are_exact(workspace: Path) -> None:
    moved = [item for item in read_scenes(workspace) if item[0].provenance["kind"] == "moved"]
    assert moved
    for scene, notes in moved:
        assert notes["occlusion"] > 0
        assert len({layer.subject for layer in scene.people}) == len(scene.people) >= 2
        everyone = [layer.layer_id for layer in scene.layers]
        assert np.array_equal(scene.recompose(without=everyone), scene.plate)


def test_cut_out_gives_the_frame_back_over_its_background() -> None:
    rng = np.random.default_rng(3)
    behind = cv2.GaussianBlur(rng.uniform(80, 180, (60, 80, 3)).astype(np.float32), (0, 0), 2)
    alpha = np.zeros((60, 80), np.float32)
    cv2.ellipse(alpha, (40, 30), (12, 22), 0, 0, 360, 1.0, -1)
    soft = cv2.GaussianBlur(alpha, (0, 0), 0.9)[..., None]
    frame = np.rint(behind * (1 - soft) + 25 * soft).astype(np.uint8)
    rgba = cut_out(frame, behind, alpha > 0.5, np.zeros((60, 80), bool))
    cover = rgba[..., 3:].astype(np.float32) / 255
    again = behind * (1 - cover) + rgba[..., :3] * cover
    assert np.abs(again - frame).mean() < 0.3
    assert np.abs(cover - soft).mean() < 0.01


def test_limit_rejects_with_the_measured_difference(film: Film, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no frame is usable: \d+ x over the limit"):
        curate_video(film.path, tmp_path / "out", settings(limit=0.01))


def test_outside_difference_counts_only_what_is_kept() -> None:
    frame = np.full((4, 4, 3), 10, np.uint8)
    expected = np.full((4, 4, 3), 7, np.float32)
    expected[0] = 200
    keep = np.ones((4, 4), bool)
    keep[0] = False
    assert outside_difference(frame, expected, keep) == (3.0, 3.0)
    assert strongest(np.float32([[[1, -5, 2]]]))[0, 0] == 5


def test_killed_and_run_again_gives_the_same_bytes(
    film: Film, workspace: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    for scenes in (1, 10):
        process = start(film.path, out)
        while process.poll() is None and len(list(out.glob("scenes/[!.]*"))) < scenes:
            time.sleep(0.02)
        process.kill()
        process.communicate()
    assert (
        0
        < len(list(out.glob("scenes/[!.]*")))
        < read_json(workspace / "video.json")["frame_scenes"] + 8
    )
    process = start(film.path, out)
    _, problems = process.communicate()
    assert process.returncode == 0, problems
    assert fingerprint(out) == fingerprint(workspace)


def test_a_second_run_changes_nothing_and_keeps_what_people_decided(
    film: Film, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    first = curate_video(film.path, out, settings(max_scenes=2))
    name = read_json(out / "video.json")["scenes"][0]
    record(out, [Decision(name, "rejected", "a ghost", "person:test")])
    before = fingerprint(out)
    (out / "video.json").unlink()
    assert curate_video(film.path, out, settings(max_scenes=2)) == first
    assert fingerprint(out) == before
    with pytest.raises(BadInput, match="other settings"):
        curate_video(film.path, out, settings(max_scenes=3))


def test_moving_camera_is_refused_in_one_line(tmp_path: Path) -> None:
    film = make_film(tmp_path / "sway.avi", sway=6.0)
    process = start(film.path, tmp_path / "out")
    _, problems = process.communicate()
    assert process.returncode == 2
    assert problems.count("\n") == 1
    assert "expected a fixed camera, but the view shifts by" in problems


def test_bad_videos_are_refused_in_one_line(film: Film, tmp_path: Path) -> None:
    text = tmp_path / "text.avi"
    text.write_text("not a video")
    empty = make_film(tmp_path / "empty.avi", walkers=False).path
    cut = tmp_path / "cut.avi"
    cut.write_bytes(film.path.read_bytes()[: film.path.stat().st_size // 2])
    cases = {
        text: "expected a video",
        tmp_path: "expected a video file, got a folder",
        tmp_path / "none.avi": "no such file",
        empty: "found no people",
        cut: "cut off",
    }
    for number, (path, message) in enumerate(cases.items()):
        process = start(path, tmp_path / f"out{number}")
        _, problems = process.communicate()
        lines = [line for line in problems.splitlines() if line.startswith("mild-bench:")]
        assert process.returncode == 2, path
        assert len(lines) == 1, problems
        assert message in lines[0]
        assert "Traceback" not in problems


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"every": 0}, "every: expected at least 1"),
        ({"limit": 0.0}, "limit: expected grey levels"),
        ({"name": "A b"}, "name: expected small letters"),
        ({"split": "../x"}, "split: expected small letters"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        settings(**change)


def test_names_come_from_the_file() -> None:
    assert default_name(Path("My Video (2).AVI")) == "my-video-2"


def test_real_pedestrians(tmp_path: Path) -> None:
    """Debian's opencv-doc: PETS 2009 style pedestrians, 768 x 576; the first 20 seconds of it."""
    clip = tmp_path / "vtest.avi"
    _copy_frames(_vtest(), clip, 200)
    out = tmp_path / "workspace"
    summary = curate_video(clip, out, Settings(every=10, max_scenes=4, name="vtest"))
    assert summary.sampled == 20
    assert summary.usable >= 8
    assert summary.frame_scenes == 4
    for folder in sorted(out.glob("scenes/vtest-f*")):
        scene, annotations = read_scene(folder)
        assert 2 <= annotations["people"] <= 9
        assert scene.provenance["outside_difference"]["mean"] < 6
        assert scene.provenance["input_differs_from_frame"]["in_masks"] < 1.5
        for layer in annotations["layers"].values():
            _, _, width, height = layer["amodal_box"]
            if layer["truncation"] == 0:
                assert 25 < height < 180
                assert width < height


def _vtest() -> Path:
    if VTEST.exists():
        return VTEST
    why = f"{VTEST} is missing: apt-get install opencv-doc"
    if os.environ.get("CI") == "true" or os.environ.get("MILD_BENCH_REQUIRE_VTEST") == "1":
        pytest.fail(why)
    pytest.skip(why)


def _copy_frames(source: Path, target: Path, count: int) -> None:
    video = cv2.VideoCapture(str(source))
    writer = None
    for _ in range(count):
        good, frame = video.read()
        assert good
        if writer is None:
            size = (frame.shape[1], frame.shape[0])
            writer = cv2.VideoWriter(str(target), cv2.VideoWriter_fourcc(*"MJPG"), 10, size)
        writer.write(frame)
    assert writer is not None
    writer.release()
    video.release()


def start(video: Path, out: Path) -> subprocess.Popen[str]:
    command = "from mild_bench.cli import main; main()"
    options = ["--out", str(out), "--every", str(EVERY), "--name", "walkers", "--max-scenes", "8"]
    return subprocess.Popen(
        [sys.executable, "-c", command, "curate", "video", str(video), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
