"""A real frame as a scene: its people as layers, and behind them what other moments show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mild_bench.curation.filming.figures import Figure, Finds, Size
from mild_bench.curation.filming.matte import EDGE, cut_out, light_lost, unpack
from mild_bench.curation.filming.plate import Drift, Floats, Place, fit_drift
from mild_bench.images import Mask, Rgb
from mild_bench.scene import Layer, Scene

SUPPORT = 5  # pixels around a person that are taken from another moment
SHADOW_REACH = 0.55  # of a person's height: how far around the feet shadows are looked for
MEDIAN = "temporal median"


@dataclass
class Moment:
    """One sampled frame and what the survey found out about it.

    Attributes:
        touched: packed mask of everything that differs from the plate.
    """

    number: int
    frame: Rgb
    touched: bytes
    _drift: Drift | None = field(default=None, repr=False)
    _rest: Floats | None = field(default=None, repr=False)

    def drift(self, place: Place) -> Drift:
        """Return how its light differs from the plate's."""
        if self._drift is None:
            self._drift = fit_drift(self.frame, place.plate, place.noise)
        return self._drift

    def rest(self, place: Place) -> Floats:
        """Return what it shows beyond the plate in its light: grain, leaves, people."""
        if self._rest is None:
            self._rest = self.frame - self.drift(place).apply(place.plate)
        return self._rest

    def busy(self) -> Mask:
        """Return where it is not surely empty."""
        import cv2

        touched = unpack(self.touched, (self.frame.shape[0], self.frame.shape[1]))
        return np.asarray(cv2.dilate(touched.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)


@dataclass(frozen=True)
class Behind:
    """The empty background of one frame.

    Attributes:
        picture: float32 height x width x 3; the frame's own pixels where nobody is.
        sources: by figure, the frame number it was filled from, or ``temporal median``.
        median_share: share of the filled pixels that only the median could fill.
    """

    picture: Floats
    sources: tuple[str, ...]
    median_share: float


def frame_scene(
    moment: Moment,
    others: Sequence[Moment],
    finds: Finds,
    place: Place,
    size: Size,
    *,
    scene_id: str,
    split: str,
    group: str,
    subjects: Sequence[str],
    licence: str,
    credits: tuple[str, ...],
    provenance: dict[str, object],
) -> Scene:
    """Turn a frame into a scene whose ``recompose()`` gives the frame back.

    The plate is the frame itself where nobody is. Behind people it is the nearest moment at which
    that spot was empty, brought to the light of this frame; in shadows it is the frame with the
    lost light given back.
    """
    shape = (moment.frame.shape[0], moment.frame.shape[1])
    bodies = [figure.blob.full(shape) for figure in finds.figures]
    scraps = [scrap.full(shape) for scrap in finds.scraps]
    behind = find_behind(moment, others, [*bodies, *scraps], place)
    everybody = np.logical_or.reduce(bodies)
    effects = _shadows(moment, place, finds.figures, np.logical_or.reduce([*bodies, *scraps]), size)
    light = np.prod([1 - effect[..., 1] / np.float32(255) for effect in effects], axis=0)
    dark = behind.picture * light[..., None]
    layers: list[Layer] = []
    taken = np.zeros(shape, bool)
    for number, (figure, body) in enumerate(zip(finds.figures, bodies, strict=True)):
        rgba = cut_out(moment.frame, dark, body, taken | (everybody & ~body))
        taken |= rgba[..., 3] > 0
        layers.append(
            Layer(
                layer_id=f"person-{number + 1}",
                kind="person",
                rgba=rgba,
                effect=effects[number] if effects[number].any() else None,
                subject=subjects[number],
                truncation=figure.truncation,
            )
        )
    plate = _plate(moment.frame, behind.picture, light, taken, [*bodies, *scraps])
    made = Scene(scene_id, split, group, "derived", plate, tuple(layers), licence, credits)
    apart = np.abs(made.recompose().astype(np.float32) - moment.frame)
    drift = moment.drift(place)
    details: dict[str, object] = {
        **provenance,
        "kind": "frame",
        "frame": moment.number,
        "background": dict(zip([layer.layer_id for layer in layers], behind.sources, strict=False)),
        "background_from_median": behind.median_share,
        "drift": {"gain": _rounded(drift.gain), "offset": _rounded(drift.offset)},
        "input_differs_from_frame": {
            "mean": round(float(apart.mean()), 4),
            "in_masks": round(float(apart[taken].mean()), 3),
        },
        "scraps_removed_px": int(sum(scrap.sum() for scrap in scraps)),
    }
    return Scene(scene_id, split, group, "derived", plate, tuple(layers), licence, credits, details)


def find_behind(
    moment: Moment, others: Sequence[Moment], bodies: Sequence[Mask], place: Place
) -> Behind:
    """Fill the frame behind ``bodies`` from the moments nearest in time at which it was empty.

    One moment fills all of a body where it can; then pixel by pixel; then the median.
    """
    import cv2

    expected = moment.drift(place).apply(place.plate)
    ordered = sorted(others, key=lambda other: (abs(other.number - moment.number), other.number))
    busy = [other.busy() for other in ordered]
    picture = moment.frame.astype(np.float32)
    kernel = np.ones((2 * SUPPORT + 1, 2 * SUPPORT + 1), np.uint8)
    done = np.zeros(picture.shape[:2], bool)
    sources, left_over = [], 0
    for body in bodies:
        todo = (cv2.dilate(body.astype(np.uint8), kernel) > 0) & ~done
        done |= todo
        whole = next((i for i, b in enumerate(busy) if not (b & todo).any()), None)
        order = [whole] if whole is not None else range(len(ordered))
        picture[todo] = expected[todo]
        for index in order:
            free = todo & ~busy[index]
            if free.any():
                picture[free] = (expected + ordered[index].rest(place))[free]
                todo &= ~free
        left_over += int(todo.sum())
        sources.append(MEDIAN if whole is None else f"frame {ordered[whole].number}")
    share = round(left_over / max(1, int(done.sum())), 4)
    return Behind(picture.clip(0, 255), tuple(sources), share)


def _shadows(
    moment: Moment, place: Place, figures: Sequence[Figure], bodies: Mask, size: Size
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]:
    """Share the lost light out among the people by how near their feet are."""
    expected = moment.drift(place).apply(place.plate)
    lost = light_lost(moment.frame, expected, bodies)
    rows, columns = np.mgrid[: lost.shape[0], : lost.shape[1]].astype(np.float32)
    weights = []
    for figure in figures:
        blob, reach = figure.blob, SHADOW_REACH * size.height(figure.blob.foot)
        across = (columns - blob.x - blob.width / 2) / (reach + blob.width / 2)
        along = (rows - blob.foot + 0.1 * reach) / (0.6 * reach)
        weights.append((1 - across**2 - along**2).clip(0, 1))
    total = np.sum(weights, axis=0)
    strength = lost * np.minimum(1, 3 * np.max(weights, axis=0))
    effects = []
    for weight in weights:
        share = np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)
        own = 1 - (1 - strength) ** share
        effect = np.zeros((*lost.shape, 2), np.uint8)
        effect[..., 1] = np.rint(own * 255)
        effects.append(effect)
    return effects


def _plate(frame: Rgb, behind: Floats, light: Floats, taken: Mask, gone: Sequence[Mask]) -> Rgb:
    """Return the empty picture: faint fringes around bodies and scraps go with them."""
    import cv2

    lit = frame.astype(np.float32) / np.maximum(light, 0.2)[..., None]
    fringe = np.ones((2 * EDGE + 3, 2 * EDGE + 3), np.uint8)
    filled = cv2.dilate(np.logical_or.reduce(gone).astype(np.uint8), fringe) > 0
    plate = np.where((filled | taken)[..., None], behind, lit)
    return np.asarray(np.rint(plate).clip(0, 255).astype(np.uint8))


def _rounded(values: tuple[float, float, float]) -> list[float]:
    return [round(value, 5) for value in values]
