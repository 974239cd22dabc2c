"""From a scene to tasks: whom to erase, the mask an eraser gets, the exact truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from itertools import permutations
from typing import Any, get_args

from mild_bench.curation.releasing.erase_mask import erase_mask
from mild_bench.errors import BadInput
from mild_bench.images import Grey, Rgb
from mild_bench.scene import Scene
from mild_bench.task import BIN_EDGES, Strata, Task, TaskKind, task_seed

HIDES = BIN_EDGES["light"]  # from this share of a person on, hiding it counts
SEEN = 0.001  # share of the frame: of somebody who shows less there is nothing to erase
TWO_IN_THREE = 2  # so many of three scenes get two tasks beside ``all``, if they can have them
# Round robin: half effects, a quarter dilated, an eighth exact, an eighth box.
SOURCES = (
    "effects", "dilated:6", "effects", "exact", "effects", "dilated:6", "effects", "box",
)  # fmt: skip

People = tuple[str, ...]
Choice = tuple[TaskKind, People]


def tasks_of(
    scene: Scene,
    annotations: Mapping[str, Any],
    *,
    seed: int,
    before: Mapping[str, int] | None = None,
) -> list[Task]:
    """Ask what can be asked about a scene: ``all``, and one or two tasks about some of the people.

    ``occluder`` erases somebody who hides at least 5% of another person, who must reappear;
    ``occluded`` somebody of whom others hide at least 5%; ``pair`` two people that overlap, in a
    scene of more; ``single``, only where none of these is possible, somebody whom nobody overlaps.
    Each kind occurs at most once in a scene; which ones, and about whom, follows from ``seed`` and
    the scene's id. What a person holds leaves with the person. The truth is the scene recomposed
    without them, None in a ``masks-only`` scene. A task whose mask would be empty or cover the
    whole frame is left out.

    Args:
        annotations: of this scene, as ``curation.occlusion.annotate`` makes them.
        before: how many tasks of each kind the release has so far: the mask sources take turns
            within each kind, so that no kind and no source go together (``count_kinds``).

    Raises:
        BadInput: annotations that lack a part, or speak of other layers than the scene has.
    """
    counts = before or {}
    try:
        choices = _choose(scene, annotations, seed)
        shown = (scene.recompose(), scene.label_map())
        tasks = [_ask(scene, annotations, choice, shown, counts) for choice in choices]
    except (KeyError, IndexError, TypeError) as error:
        raise BadInput(
            f"scene {scene.scene_id}: expected the annotations of its layers, found no {error}; "
            "annotate the scene again"
        ) from error
    return [task for task in tasks if task.mask.any() and not task.mask.all()]


def count_kinds(tasks: Iterable[Task]) -> Counter[str]:
    """Return how many tasks of each kind there are."""
    return Counter(task.kind for task in tasks)


def _choose(scene: Scene, annotations: Mapping[str, Any], seed: int) -> list[Choice]:
    everybody = tuple(person.layer_id for person in scene.people)
    if not everybody:
        return []
    options = _options(scene, annotations)
    draw = {kind: task_seed(seed, f"{scene.scene_id}/{kind}") for kind in get_args(TaskKind)}
    wanted = 2 if draw["all"] % 3 < TWO_IN_THREE else 1
    kinds = sorted((kind for kind in options if options[kind]), key=lambda kind: draw[kind])
    some: list[Choice] = [
        (kind, options[kind][draw[kind] % len(options[kind])]) for kind in kinds[:wanted]
    ]
    return [("all", everybody), *some]


def _options(scene: Scene, annotations: Mapping[str, Any]) -> dict[TaskKind, list[People]]:
    """Return, by kind, the groups of people that could be erased; never everybody."""
    people = [person.layer_id for person in scene.people]
    if len(people) < 2:
        return {}
    size = scene.plate.shape[0] * scene.plate.shape[1]
    shown = {name: annotations["layers"][name]["visible_area"] / size for name in people}
    seen = [name for name in people if shown[name] >= SEEN]
    hides = {
        (near, far): _hidden_share(scene, annotations, far, near)
        for near, far in permutations(people, 2)
    }
    overlaps = [
        (far, near) for near, far in annotations["order_graph"]["edges"] if {near, far} <= {*people}
    ]
    touched = {name for pair in overlaps for name in pair}
    options: dict[TaskKind, list[People]] = {
        "occluder": [(a,) for a in seen if any(hides[a, b] >= HIDES for b in people if a != b)],
        "occluded": [(a,) for a in seen if sum(hides[b, a] for b in people if a != b) >= HIDES],
        "pair": sorted(pair for pair in overlaps if {*pair} <= {*seen} and len(people) > 2),
    }
    if any(options.values()):
        return options
    return {"single": [(name,) for name in seen if name not in touched]}


def _hidden_share(scene: Scene, annotations: Mapping[str, Any], far: str, near: str) -> float:
    """Return the share of ``far`` that ``near`` and what ``near`` holds hide."""
    order = annotations["pairwise"]["order"]
    row = annotations["pairwise"]["matrix"][order.index(far)]
    return float(sum(row[order.index(name)] for name in scene.belongings([near])))


def _ask(
    scene: Scene,
    annotations: Mapping[str, Any],
    choice: Choice,
    shown: tuple[Rgb, Grey],
    before: Mapping[str, int],
) -> Task:
    kind, people = choice
    turn = before.get(kind, 0) + 3 * get_args(TaskKind).index(kind)  # kinds start apart
    source = SOURCES[turn % len(SOURCES)]
    mask = erase_mask(scene, people, source)
    known = scene.truth_kind != "masks-only"
    return Task(
        task_id="-".join((scene.scene_id, kind, *(people if kind != "all" else ()))),
        scene_id=scene.scene_id,
        kind=kind,
        erase=people,
        input=shown[0],
        mask=mask,
        truth=scene.recompose(without=scene.belongings(people)) if known else None,
        people=shown[1],
        person_ids=tuple(person.layer_id for person in scene.people),
        strata=_strata(scene, annotations, people, float(mask.mean()), source),
        keypoints={one.layer_id: one.keypoints for one in scene.people if one.keypoints},
        parts={one.layer_id: one.parts for one in scene.people if one.parts is not None},
    )


def _strata(
    scene: Scene,
    annotations: Mapping[str, Any],
    people: Collection[str],
    mask_area: float,
    source: str,
) -> Strata:
    challenges = annotations["challenges"]
    return Strata(
        people=len(scene.people),
        erased=len(people),
        occlusion=float(annotations["occlusion"]),
        occlusion_bin=annotations["occlusion_bin"],
        human_human=bool(challenges["human_human"]["present"]),
        human_object=bool(challenges["human_object"]["present"]),
        human_background=bool(challenges["human_background"]["present"]),
        mask_area=round(mask_area, 6),
        mask_source=source,
        truth_kind=scene.truth_kind,
        group=scene.group,
    )
