"""The three challenges of arXiv 2508.06543 as numbers, each with the limit that makes it a tag.

The paper names human-human occlusion, human-object entanglement and human-background interference
without a formula; these are this project's readings. All three are shares of a person in [0, 1],
higher = harder, of the worst-off person of the scene; a challenge is present from its threshold on.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mild_bench.curation.annotating.coverage import PLATE, Coverage
from mild_bench.scene import Layer, Scene
from mild_bench.task import BIN_EDGES

# Where the occlusion bins begin: less is a touch of two outlines.
HUMAN_HUMAN_FROM = BIN_EDGES["light"]
# The fingers around a handle: palm and fingers are 1 % of the skin (the burn surgeon's rule), 2 %
# of the half of it that faces the camera, and a grip shows about a quarter of that.
HUMAN_OBJECT_FROM = 0.005
# Half of one person's outline melts into the plate. Of 120 random placements of one person on a
# photograph 2 % reach it; of 40 scenes composed with matched light, 2 to 6 people and a person in
# the plate's colours in every third, 42 % (8 of the 12 with such a person).
HUMAN_BACKGROUND_FROM = 0.5
ENTANGLING = ("held", "seat", "in-front")


@dataclass(frozen=True)
class Challenge:
    """One measured challenge: ``present`` when ``value`` reaches ``threshold``."""

    value: float
    threshold: float

    def as_json(self) -> dict[str, bool | float]:
        """Return the tag, its number and its limit."""
        present = self.value >= self.threshold
        return {"present": present, "value": self.value, "threshold": self.threshold}


def human_human(hidden_by_people: Iterable[float]) -> Challenge:
    """Return human-human occlusion: the largest share of one person that others hide."""
    return Challenge(max(hidden_by_people, default=0.0), HUMAN_HUMAN_FROM)


def human_object(scene: Scene, coverage: Coverage) -> Challenge:
    """Return human-object entanglement: the largest share of one person in contact with props.

    A pixel of a person's amodal mask is in contact when a prop hides it, or when a prop that the
    person holds, sits on or stands behind covers it too (before or behind the person).
    """
    shares = [_contact(scene, coverage, person) for person in scene.people]
    return Challenge(max(shares, default=0.0), HUMAN_OBJECT_FROM)


def human_background(blended: Iterable[float]) -> Challenge:
    """Return human-background interference: the largest blended share of one silhouette.

    Args:
        blended: ``camouflage.Outline.blended`` of the people who border on the plate.
    """
    return Challenge(max(blended, default=0.0), HUMAN_BACKGROUND_FROM)


def _contact(scene: Scene, coverage: Coverage, person: Layer) -> float:
    index = coverage.ids.index(person.layer_id)
    area = int(coverage.amodal_areas[index])
    if not area:
        return 0.0
    # index PLATE = -1 picks the last entry: nothing hides a person there
    is_prop = np.array([layer.kind == "prop" for layer in scene.layers] + [False])
    assert PLATE == -1
    touched = is_prop[coverage.top]
    for other, layer in enumerate(scene.layers):
        if _entangled(layer, person.layer_id):
            touched = touched | coverage.amodal[other]
    return int(np.count_nonzero(touched & coverage.amodal[index])) / area


def _entangled(layer: Layer, person_id: str) -> bool:
    if layer.kind != "prop":
        return False
    return layer.attached_to == person_id or (
        layer.person == person_id and layer.relation in ENTANGLING
    )
