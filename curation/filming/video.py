"""Fixed-camera video to scenes: survey every sampled frame, judge it, keep the best as scenes."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.curation.annotating.occlusion import annotate
from mild_bench.curation.filming.figures import (
    Figure,
    Finds,
)
from mild_bench.curation.filming.frame_scene import Moment, frame_scene
from mild_bench.curation.filming.moved import (
    CutOut,
    cut_box,
    move_together,
    moved_scene,
    nearest_feet,
    seems_whole,
)
from mild_bench.curation.filming.plate import (
    Floats,
    Place,
    learn_place,
    read_frames,
)
from mild_bench.curation.filming.survey import (
    Settings,
    Survey,
    reasons,
    rejections,
    scene_name,
    survey_video,
)
from mild_bench.curation.ledger import current, record
from mild_bench.curation.scene_folder import SCENES, read_scene, write_scene
from mild_bench.errors import BadInput
from mild_bench.progress import progress
from mild_bench.store import (
    canonical_json,
    inside,
    read_json,
    sha256_file,
    sweep_parts,
    write_json,
)

VERSION = "1"  # of the method: raise it when scenes come out different
WINDOW = 14  # sampled frames before and after in which an empty background is looked for
WORKSPACE, REPORT = "workspace.json", "video.json"


@dataclass(frozen=True)
class VideoSummary:
    """What became of a video: how many frames were looked at, and what they gave."""

    sampled: int
    usable: int
    frame_scenes: int
    moved_scenes: int
    to_review: int
    rejected: dict[str, int]


def curate_video(source: Path, out: Path, settings: Settings) -> VideoSummary:
    """Turn a fixed-camera video into a workspace of scenes with derived truth.

    Killed at any moment and run again it ends with the same bytes; finished scenes are kept.

    Raises:
        BadInput: not a video, cut off, a moving camera, nobody in it, nothing usable, or ``out``
            was made from something else.
    """
    place_of = _open_workspace(source, out, settings)
    if (out / REPORT).exists() and _complete(out):
        return _summary(read_json(out / REPORT))
    sweep_parts(out)
    sweep_parts(out / SCENES)
    place = learn_place(source)
    survey = survey_video(source, place, settings)
    usable = [
        index
        for index, look in enumerate(survey.looks)
        if look.number not in survey.decisions
        or survey.decisions[look.number].verdict != "rejected"
    ]
    if not usable:
        raise BadInput(
            f"{source}: no frame is usable: {reasons(survey)}; see --limit, --people-min"
        )
    chosen = [usable[i] for i in _spread(len(usable), settings.max_scenes)]
    _record_once(out, survey, chosen)
    _make_frame_scenes(source, out, place, survey, chosen, settings, place_of)
    moved = _make_moved_scenes(out, place, survey, chosen, settings, place_of)
    write_json(out / REPORT, _report(survey, usable, chosen, moved, place, settings))
    return _summary(read_json(out / REPORT))


def default_name(source: Path) -> str:
    """Return a name for the scenes of a video: its file name in small letters, digits and '-'."""
    return re.sub(r"[^a-z0-9]+", "-", source.stem.lower()).strip("-") or "video"


def _open_workspace(source: Path, out: Path, settings: Settings) -> dict[str, object]:
    """Write ``workspace.json``, or check that it says the same; returns what made it."""
    import cv2

    if not source.is_file():
        raise BadInput(f"{source}: expected a video file, got {_what(source)}")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: expected a folder to write, got a file; name another")
    made_by = {
        "command": "curate video",
        "method": VERSION,
        "video": {"file": source.name, "sha256": sha256_file(source)},
        "settings": {
            **settings.__dict__,
            "credits": list(settings.credits),
            "limit": float(settings.limit),
        },
        "versions": {"numpy": np.__version__, "opencv": cv2.__version__},
    }
    wanted = {"schema": 1, "made_by": made_by}
    target = out / WORKSPACE
    if target.exists() and target.read_bytes() != canonical_json(wanted):
        raise BadInput(
            f"{out}: was made from another video or with other settings or versions (see "
            f"{WORKSPACE}); name a new folder with --out"
        )
    if not target.exists() and out.exists() and any(out.iterdir()):
        raise BadInput(f"{out}: expected a new folder, got one with other files; name another")
    write_json(target, wanted)
    return {"video": made_by["video"], "method": VERSION}


def _what(path: Path) -> str:
    return "a folder; name one file" if path.is_dir() else "no such file"


def _complete(out: Path) -> bool:
    scenes = read_json(out / REPORT)["scenes"]
    return all((inside(out / SCENES, name) / "scene.json").is_file() for name in scenes)


def _record_once(out: Path, survey: Survey, chosen: Sequence[int]) -> None:
    """Write the rule's verdicts, leaving alone what a person has decided since."""
    kept = {survey.looks[index].number for index in chosen}
    known = current(out)
    fresh = [
        decision
        for number, decision in sorted(survey.decisions.items())
        if (decision.verdict == "rejected" or number in kept) and decision.scene_id not in known
    ]
    record(out, fresh)


def _make_frame_scenes(
    source: Path,
    out: Path,
    place: Place,
    survey: Survey,
    chosen: Sequence[int],
    settings: Settings,
    made_by: dict[str, object],
) -> None:
    missing = {
        index
        for index in chosen
        if not _exists(out, scene_name(settings.name, survey.looks[index].number))
    }
    with progress(
        "cutting out people", total=len(chosen), done=len(chosen) - len(missing)
    ) as advance:
        for index, moment, others in _windows(source, survey, missing, settings.every):
            look = survey.looks[index]
            scene = frame_scene(
                moment,
                others,
                survey.finds[index],
                place,
                survey.size,
                scene_id=scene_name(settings.name, look.number),
                split=settings.split,
                group=settings.name,
                subjects=[_subject(settings, track) for track in survey.tracks.numbers[index]],
                licence=settings.licence,
                credits=settings.credits,
                provenance={
                    **made_by,
                    "outside_difference": {"mean": look.mean, "p95": look.p95},
                    "split_from_touching": [
                        f"person-{number}"
                        for number, figure in enumerate(survey.finds[index].figures, start=1)
                        if figure.touching
                    ],
                },
            )
            write_scene(out, scene, annotate(scene))
            advance(1)


def _windows(
    source: Path, survey: Survey, wanted: set[int], every: int
) -> Iterator[tuple[int, Moment, list[Moment]]]:
    """Yield each wanted frame with its neighbours in time; holds 2 x WINDOW + 1 frames."""
    if not wanted:
        return
    window: deque[tuple[int, Moment]] = deque(maxlen=2 * WINDOW + 1)
    last = max(wanted)
    pending = deque(sorted(wanted))
    for index, (number, frame) in enumerate(read_frames(source, every=every)):
        window.append((index, Moment(number, frame, survey.looks[index].touched)))
        while pending and (index >= pending[0] + WINDOW or index == len(survey.looks) - 1):
            yield _centred(window, pending.popleft())
        if index >= last + WINDOW:
            return


def _centred(window: deque[tuple[int, Moment]], centre: int) -> tuple[int, Moment, list[Moment]]:
    near = {index: moment for index, moment in window if abs(index - centre) <= WINDOW}
    moment = near.pop(centre)
    return centre, moment, list(near.values())


def _make_moved_scenes(
    out: Path,
    place: Place,
    survey: Survey,
    chosen: Sequence[int],
    settings: Settings,
    made_by: dict[str, object],
) -> list[str]:
    """Compose people of the finished frame scenes anew; returns the ids of the scenes."""
    seen = [
        (figure.blob.full(survey.shape), figure.blob.foot)
        for find in survey.finds
        for figure in find.figures
        if figure.whole
    ]
    feet = nearest_feet(survey.shape, seen)
    cutouts = _cut_outs(out, survey, chosen, feet, settings)
    if len({cutout.track for cutout in cutouts}) < 2:
        return []
    plate = np.rint(place.plate).clip(0, 255).astype(np.uint8)
    names = []
    with progress("moving people together", total=len(chosen)) as advance:
        for number in range(len(chosen)):
            name = f"{settings.name}-m{number:04d}"
            rng = np.random.default_rng([settings.seed, number])
            placed = move_together(
                cutouts, survey.tracks.together, feet, rng=rng,
                people_min=settings.people_min,
            )  # fmt: skip
            advance(1)
            if placed is None:
                continue
            names.append(name)
            if not _exists(out, name):
                scene = moved_scene(
                    placed, plate, scene_id=name, split=settings.split, group=settings.name,
                    licence=settings.licence, credits=settings.credits,
                    provenance={**made_by, "seed": settings.seed},
                )  # fmt: skip
                write_scene(out, scene, annotate(scene))
    return names


def _cut_outs(
    out: Path, survey: Survey, chosen: Sequence[int], feet: Floats, settings: Settings
) -> list[CutOut]:
    cutouts = []
    for index in chosen:
        find, number = survey.finds[index], survey.looks[index].number
        if not any(_alone(figure, find) for figure in find.figures):
            continue
        scene, _ = read_scene(inside(out / SCENES, scene_name(settings.name, number)))
        drift: Any = scene.provenance["drift"]
        for layer, figure, track in zip(
            scene.layers, find.figures, survey.tracks.numbers[index], strict=True
        ):
            body = figure.blob.full(survey.shape)
            if _alone(figure, find) and seems_whole(body, figure.blob.foot, feet):
                cutouts.append(
                    cut_box(
                        layer,
                        gain=drift["gain"],
                        offset=drift["offset"],
                        track=track,
                        foot=figure.blob.foot,
                        frame=number,
                    )
                )
    return cutouts


def _alone(figure: Figure, find: Finds) -> bool:
    """Tell whether a person is whole and nobody else is so near that shadows mix."""
    if not figure.whole or figure.touching:
        return False
    blob, margin = figure.blob, figure.blob.height // 6
    for other in find.figures:
        if other is figure:
            continue
        two = other.blob
        across = max(blob.x, two.x) - min(blob.x + blob.width, two.x + two.width)
        along = max(blob.y, two.y) - min(blob.foot, two.foot)
        if across < margin and along < margin:
            return False
    return True


def _report(
    survey: Survey,
    usable: Sequence[int],
    chosen: Sequence[int],
    moved: list[str],
    place: Place,
    settings: Settings,
) -> dict[str, Any]:
    names = [scene_name(settings.name, survey.looks[index].number) for index in chosen]
    means = [survey.looks[index].mean for index in usable]
    kept = {survey.looks[index].number for index in chosen}
    return {
        "schema": 1,
        "frames": place.frames,
        "sampled": len(survey.looks),
        "usable": len(usable),
        "camera_motion_px": place.motion,
        "person_size": {"slope": survey.size.slope, "base": survey.size.base},
        "outside_difference": {"median": float(np.median(means)), "max": float(max(means))},
        "rejected": rejections(survey),
        "to_review": sum(
            survey.decisions[number].verdict == "to-review"
            for number in kept
            if number in survey.decisions
        ),
        "scenes": names + moved,
        "frame_scenes": len(names),
        "moved_scenes": len(moved),
    }


def _summary(report: dict[str, Any]) -> VideoSummary:
    return VideoSummary(
        report["sampled"],
        report["usable"],
        report["frame_scenes"],
        report["moved_scenes"],
        report["to_review"],
        report["rejected"],
    )


def _spread(count: int, most: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))


def _subject(settings: Settings, track: int) -> str:
    return f"{settings.name}-track-{track:03d}"


def _exists(out: Path, name: str) -> bool:
    return (inside(out / SCENES, name) / "scene.json").is_file()
