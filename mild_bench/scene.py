"""A scene: a clean plate and the layers on it, each complete also where it is hidden."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.images import Grey, Mask, Rgb, Rgba

LayerKind = Literal["person", "prop"]
Relation = Literal["held", "seat", "in-front", "beside"]
TruthKind = Literal["exact", "derived", "masks-only"]
Keypoint = tuple[float, float, int]  # x, y in pixels (centres at .5), COCO visibility 0, 1, 2


@dataclass(frozen=True)
class Layer:
    """One thing in a scene, on the scene's full frame.

    Attributes:
        layer_id: unique in the scene, ``[a-z0-9-]+``.
        rgba: straight alpha, uint8 height x width x 4, complete where others hide it.
        effect: what it does to the plate, uint8 height x width x 2: light lost (0 none, 255 all)
            by cast shadow and by contact shadow; None without any.
        parts: parsing labels of a person (0 none, 1 hair, 2 head, 3 arms, 4 legs, 5 upper
            clothes, 6 lower clothes, 8 shoes, 9 other), uint8 height x width.
        keypoints: COCO-17 of a person; visibility 2 seen in this scene, 1 hidden, 0 outside.
        subject: what is shown (a character, a prop kind, a video track): never in two splits.
        attached_to: the person who holds it; it leaves the scene with that person.
        relation: how a prop stands to its person (``person`` for which).
        truncation: share of the amodal area outside the frame, in [0, 1].
    """

    layer_id: str
    kind: LayerKind
    rgba: Rgba
    effect: npt.NDArray[np.uint8] | None = None
    parts: Grey | None = None
    keypoints: tuple[Keypoint, ...] = ()
    subject: str = ""
    attached_to: str | None = None
    relation: Relation | None = None
    person: str | None = None
    truncation: float = 0.0

    def __post_init__(self) -> None:
        if self.rgba.ndim != 3 or self.rgba.shape[2] != 4 or self.rgba.dtype != np.uint8:
            raise BadInput(f"layer {self.layer_id}: rgba must be uint8 h x w x 4")
        if not 0 <= self.truncation <= 1:
            raise BadInput(f"layer {self.layer_id}: truncation must be in [0, 1]")

    @property
    def alpha(self) -> npt.NDArray[np.float32]:
        """Coverage in [0, 1], float32 height x width."""
        return self.rgba[..., 3].astype(np.float32) / np.float32(255)

    @property
    def amodal(self) -> Mask:
        """All of it inside the frame, also where hidden."""
        return np.asarray(self.rgba[..., 3] >= 128)


@dataclass(frozen=True)
class Scene:
    """A plate and layers from farthest to nearest.

    Attributes:
        group: the place, photo or video; never in two splits.
        credits: lines that a copy of the picture must carry.
        provenance: recipe, seed, assets, settings: what is needed to make it again.
    """

    scene_id: str
    split: str
    group: str
    truth_kind: TruthKind
    plate: Rgb
    layers: tuple[Layer, ...]
    licence: str = "CC0-1.0"
    credits: tuple[str, ...] = ()
    provenance: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = [layer.layer_id for layer in self.layers]
        if len(set(ids)) != len(ids):
            raise BadInput(f"scene {self.scene_id}: two layers have the same id")
        for layer in self.layers:
            if layer.rgba.shape[:2] != self.plate.shape[:2]:
                raise BadInput(f"scene {self.scene_id}: layer {layer.layer_id} has another size")

    @property
    def people(self) -> tuple[Layer, ...]:
        """The persons, from farthest to nearest."""
        return tuple(layer for layer in self.layers if layer.kind == "person")

    def belongings(self, people: Collection[str]) -> frozenset[str]:
        """The given people and what they hold: what leaves the picture with them."""
        held = {layer.layer_id for layer in self.layers if layer.attached_to in set(people)}
        return frozenset(people) | held

    def recompose(self, without: Collection[str] = ()) -> Rgb:
        """Return the picture without the given layers (and without their shadows).

        Shadows fall on the plate only. Cast shadows share one light: where several meet the
        darkest counts; contact shadows multiply. Blending is in gamma-encoded sRGB.
        """
        gone = set(without)
        layers = [layer for layer in self.layers if layer.layer_id not in gone]
        canvas = self.plate.astype(np.float32) * self._light(layers)[..., None]
        for layer in layers:
            here = _extent(layer.rgba[..., 3])
            alpha = layer.alpha[here][..., None]
            colour = layer.rgba[here][..., :3].astype(np.float32)
            canvas[here] = canvas[here] * (1 - alpha) + colour * alpha
        return np.asarray(np.floor(canvas + np.float32(0.5)).clip(0, 255).astype(np.uint8))

    def _light(self, layers: list[Layer]) -> npt.NDArray[np.float32]:
        size = self.plate.shape[:2]
        cast = np.ones(size, np.float32)
        contact = np.ones(size, np.float32)
        for layer in layers:
            if layer.effect is None:
                continue
            left = 1 - layer.effect.astype(np.float32) / np.float32(255)
            cast = np.minimum(cast, left[..., 0])
            contact = contact * left[..., 1]
        return np.asarray(cast * contact)

    def visible(self, layer_id: str) -> Mask:
        """Where a layer shows: it covers at least half of the pixel and nothing nearer does."""
        names = [layer.layer_id for layer in self.layers]
        index = names.index(layer_id)
        mask = self.layers[index].amodal
        for nearer in self.layers[index + 1 :]:
            mask = mask & ~nearer.amodal
        return np.asarray(mask)

    def label_map(self) -> Grey:
        """Visible people as a map: 0 nobody, k the k-th of ``people``."""
        labels = np.zeros(self.plate.shape[:2], np.uint8)
        for number, person in enumerate(self.people, start=1):
            labels[self.visible(person.layer_id)] = number
        return labels


def _extent(plane: Grey) -> tuple[slice, slice]:
    """Rows and columns outside of which the plane is 0: blending there would change nothing."""
    rows = np.flatnonzero(plane.any(axis=1))
    if not rows.size:
        return slice(0), slice(0)
    columns = np.flatnonzero(plane.any(axis=0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
