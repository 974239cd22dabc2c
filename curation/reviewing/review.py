"""A workspace in FiftyOne: look at its scenes in the App, tag them, take the tags over.

The only file that imports fiftyone, inside functions: the import takes ten seconds.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mild_bench.curation.ledger import Decision
from mild_bench.curation.reviewing import app_layout as layout
from mild_bench.curation.reviewing.app_layout import MASKS, SLICES
from mild_bench.curation.reviewing.app_server import ADDRESS, app_server, check_port
from mild_bench.curation.reviewing.app_tags import all_pictures, mirror_ledger, take_over_tags
from mild_bench.curation.reviewing.database import database_answers, database_folder, use_database
from mild_bench.curation.reviewing.overlays import (
    Overlay,
    fingerprint,
    joints,
    overlays,
    pictures,
    scene_facts,
    sweep,
)
from mild_bench.curation.scene_folder import read_scene, scene_folders
from mild_bench.errors import BadInput
from mild_bench.progress import tracked
from mild_bench.scene import Scene

LAYOUT = 1  # raise it when the looks change, so that known data sets get the new ones
SEEN = 2  # COCO's visibility of a joint


@dataclass(frozen=True)
class Known:
    """A picture that the database has, and the files that it points to."""

    id: str
    fingerprint: str
    files: tuple[str, ...]


@dataclass(frozen=True)
class Review:
    """What bringing a data set up to date did, in scenes."""

    name: str
    added: int
    updated: int
    removed: int
    unchanged: int
    decisions: tuple[Decision, ...]


@database_answers()
def review(workspace: Path, *, name: str | None = None) -> Review:
    """Open a workspace as a persistent FiftyOne data set, or bring that up to date.

    Tags set in the App since the last time go to the ledger first. Scenes that did not change are
    left alone; the reviewer's own tags, fields and saved views stay.

    Raises:
        MissingPart: no database program here.
        BadInput: no scenes, or the name belongs to another data set.
    """
    folders = scene_folders(workspace)
    dataset = _open(workspace, name, create=True)
    decisions = take_over_tags(dataset, workspace)
    known = _known(dataset)
    gone = known.keys() - {folder.name for folder in folders}
    sweep(workspace, {folder.name for folder in folders})
    dataset.delete_samples([old.id for scene in gone for old in known[scene].values()])
    outcomes = [
        _bring_in(dataset, workspace, folder, known.get(folder.name, {}))
        for folder in tracked(folders, "reviewing")
    ]
    _arrange(dataset)
    mirror_ledger(dataset, workspace)
    return Review(
        name=dataset.name,
        added=outcomes.count("added"),
        updated=outcomes.count("updated"),
        removed=len(gone),
        unchanged=outcomes.count("unchanged"),
        decisions=tuple(decisions),
    )


@database_answers()
def sync(workspace: Path, *, name: str | None = None) -> list[Decision]:
    """Take the verdict tags of the App over into the ledger; returns what is new.

    Raises:
        BadInput: the workspace has no data set yet.
    """
    dataset = _open(workspace, name, create=False)
    decisions = take_over_tags(dataset, workspace)
    mirror_ledger(dataset, workspace)
    return decisions


@database_answers()
def serve(workspace: Path, *, name: str | None, port: int, ready: Callable[[str], None]) -> None:
    """Serve the App on 127.0.0.1 until interrupted; ``ready`` gets its address.

    Raises:
        BadInput: the port is taken.
    """
    check_port(port)
    dataset = _open(workspace, name, create=False)
    import fiftyone as fo

    # FiftyOne notes in the home folder that it has greeted.
    fo.constants.WELCOME_PATH = str(database_folder(workspace) / "welcome.json")
    waiting = dataset.load_saved_view("to-review")
    view = waiting if len(waiting) else dataset.view()
    looks = fo.app_config.copy()
    looks.grid_zoom = layout.GRID_ZOOM
    os.environ["FIFTYONE_DISABLE_SERVICES"] = "1"  # the server is ours
    with app_server(port, database_folder(workspace) / "app.log") as address:
        session = fo.launch_app(
            dataset, view=view, port=port, address=ADDRESS, remote=True, config=looks
        )
        ready(address)
        try:
            while True:
                time.sleep(1)
        finally:
            session.close()


def _open(workspace: Path, name: str | None, *, create: bool) -> Any:
    use_database(workspace)
    import fiftyone as fo

    place = str(workspace.resolve())
    name = name or workspace.resolve().name
    if not fo.dataset_exists(name):
        if not create:
            raise BadInput(
                f"{workspace}: it has no data set {name!r} yet; "
                "run 'mild-bench curate review' first"
            )
        return _create(fo, name, place)
    dataset = fo.load_dataset(name)
    home = dataset.info.get("workspace")
    moved = home is not None and not Path(home, "scenes").is_dir()
    if home != place and not moved:
        raise BadInput(
            f"data set {name!r} shows {home or 'something else'}, not {place}; pass another --name"
        )
    if home != place:
        dataset.info["workspace"] = place
        dataset.save()
    return dataset


def _create(fo: Any, name: str, place: str) -> Any:
    try:
        dataset = fo.Dataset(name, persistent=True)
    except ValueError as error:
        raise BadInput(f"data set name {name!r}: {error}; pass another --name") from error
    dataset.info = {"workspace": place}
    dataset.add_group_field("picture", default=SLICES[0])
    for name in SLICES:
        dataset.add_group_slice(name, "image")
    for field in ("scene_id", "fingerprint", "verdict", "verdict_reason", "verdict_by"):
        dataset.add_sample_field(field, fo.StringField)
    dataset.add_sample_field("mirrored", fo.ListField, subfield=fo.StringField)
    for field in MASKS:
        _label_field(fo, dataset, field, fo.Detections)
        dataset.add_sample_field(f"{field}.detections.layer_id", fo.StringField)
    _label_field(fo, dataset, "keypoints", fo.Keypoints)
    dataset.skeletons = {"keypoints": _skeleton(fo)}
    dataset.create_index("scene_id")
    dataset.save()
    return dataset


def _label_field(fo: Any, dataset: Any, field: str, kind: Any) -> None:
    dataset.add_sample_field(field, fo.EmbeddedDocumentField, embedded_doc_type=kind)


def _skeleton(fo: Any) -> Any:
    return fo.KeypointSkeleton(
        labels=list(layout.COCO_JOINTS), edges=[list(bone) for bone in layout.COCO_BONES]
    )


def _known(dataset: Any) -> dict[str, dict[str, Known]]:
    """Return the pictures that are there, by scene and slice."""
    known: dict[str, dict[str, Known]] = defaultdict(dict)
    masks = [f"{field}.detections.mask_path" for field in MASKS]
    columns = ["id", "scene_id", "picture.name", "fingerprint", "filepath", *masks]
    for id, scene, picture, mark, path, *lists in zip(
        *all_pictures(dataset).values(columns), strict=True
    ):
        files = [path, *(mask for masks in lists for mask in masks or [])]
        known[scene][picture] = Known(id, mark, tuple(files))
    return known


def _bring_in(dataset: Any, workspace: Path, folder: Path, known: dict[str, Known]) -> str:
    """Add or refresh one scene; returns ``added``, ``updated`` or ``unchanged``."""
    mark = fingerprint(folder)
    if known and _is_fresh(known, mark):
        return "unchanged"
    from bson import ObjectId

    scene, annotations = read_scene(folder)
    found = pictures(workspace, scene)
    facts = scene_facts(scene, annotations)
    labels = _labels(workspace, scene, annotations)
    dataset.delete_samples([old.id for name, old in known.items() if name not in found])
    group = _group(dataset, known)
    for name, path in found.items():
        fields = {**facts, **(labels if name == "input" else {}), "filepath": str(path)}
        # Set only at the end: after a kill half-way, the scene is brought in again.
        _put(dataset, {**fields, "fingerprint": None}, known.get(name), group.element(name))
    samples = all_pictures(dataset).match({"picture._id": ObjectId(group.id)})
    samples.set_values("fingerprint", [_complete(mark, len(found))] * len(found))
    return "updated" if known else "added"


def _is_fresh(known: dict[str, Known], mark: str) -> bool:
    return all(
        old.fingerprint == _complete(mark, len(known)) and all(map(os.path.isfile, old.files))
        for old in known.values()
    )


def _complete(mark: str, pictures: int) -> str:
    return f"{pictures} pictures {mark}"


def _group(dataset: Any, known: dict[str, Known]) -> Any:
    import fiftyone as fo

    if known:
        return fo.Group(id=dataset[next(iter(known.values())).id].picture.id)
    return fo.Group()


def _put(dataset: Any, fields: dict[str, Any], old: Known | None, element: Any) -> None:
    import fiftyone as fo

    if old is None:
        sample = fo.Sample(picture=element, **fields)
        dataset.add_sample(sample, dynamic=True)
    else:
        sample = dataset[old.id]
        sample.update_fields({**fields, "metadata": None}, dynamic=True)
        sample.save()


def _labels(workspace: Path, scene: Scene, annotations: dict[str, Any]) -> dict[str, Any]:
    import fiftyone as fo

    labels = {}
    for field in MASKS:
        shown = overlays(workspace, scene, annotations, amodal=field == "amodal")
        labels[field] = fo.Detections(detections=[_detection(overlay) for overlay in shown])
    people = [
        fo.Keypoint(
            label="person",
            layer_id=layer_id,
            points=[(x, y) for x, y, _ in points],
            seen=[seen == SEEN for _, _, seen in points],
        )
        for layer_id, points in joints(scene).items()
    ]
    return {**labels, "keypoints": fo.Keypoints(keypoints=people)}


def _detection(overlay: Overlay) -> Any:
    import fiftyone as fo

    return fo.Detection(
        label=overlay.label,
        bounding_box=list(overlay.box),
        mask_path=str(overlay.mask),
        **overlay.attributes,
    )


def _arrange(dataset: Any) -> None:
    """Set up saved views anew, and the looks once: the reviewer may change those."""
    import fiftyone as fo

    for spec in layout.saved_views():
        view = dataset.match(fo.ViewField(spec.field) == spec.value)
        view = view.sort_by(spec.order_by, reverse=True)
        dataset.save_view(spec.name, view, description=spec.description, overwrite=True)
    if dataset.info.get("layout") == LAYOUT:
        return
    dataset.app_config.sidebar_groups = [
        fo.SidebarGroupDocument(name=name, paths=paths, expanded=name != "metadata")
        for name, paths in layout.SIDEBAR.items()
    ]
    dataset.app_config.active_fields = fo.ActiveFields(paths=list(layout.SHOWN))
    layers = dataset.distinct("amodal.detections.layer_id")
    dataset.app_config.color_scheme = fo.ColorScheme(**layout.colour_scheme(layers))
    dataset.info["layout"] = LAYOUT
    dataset.save()
