"""New scenes from layers: who stays, who is in front, moved and scaled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb, Rgba, composite
from mild_bench.mild.branches import REACH
from mild_bench.mild.picture import MildInput
from mild_bench.mild.train.holes import grown

Shift = tuple[float, float]
STILL: Shift = (0.0, 0.0)
MIXED = 1  # pixels of one person next to another that hold colours of both


@dataclass(frozen=True)
class MildOutput:
    """A picture taken apart.

    Attributes:
        given: the input.
        painted: uint8 height x width x 3, the whole frame without anybody who was taken apart: the
            model's, in the hole patches after ``refined``.
        layers: the complete erased people by id, farthest first; RGBA, straight alpha, uint8.
        staying: like ``layers``, those who stay and were taken apart, too.
        metadata: how it was made.
    """

    given: MildInput
    painted: Rgb
    layers: Mapping[str, Rgba]
    staying: Mapping[str, Rgba] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def hole(self) -> Mask:
        """What was painted anew, bool height x width."""
        return self.given.unseen()

    @cached_property
    def background(self) -> Rgb:
        """The picture without the erased people; outside of ``hole`` the input, bit for bit."""
        return composite(self.frame(), self.given.picture, self.hole)

    def frame(self) -> Rgb:
        """Return the whole painted frame, with those who stay drawn on it, complete."""
        canvas = self.painted.astype(np.float32)
        for layer in self.staying.values():
            alpha = layer[..., 3:].astype(np.float32) / np.float32(255)
            canvas = canvas * (1 - alpha) + layer[..., :3].astype(np.float32) * alpha
        return np.asarray(np.floor(canvas + np.float32(0.5)).clip(0, 255).astype(np.uint8))

    def refined(self, *, seed: int = 0) -> MildOutput:
        """Return it with patches of what is known instead of the painted background.

        They are chosen to look like it: texture for what a small network painted. They meet the
        input at the edge of the masks. The rim beside it, which may be the person's in part, is
        filled from both sides, and so is the edge of those who stay. Layers stay.

        Args:
            seed: of the search for patches.
        """
        from mild_bench.mild.patch_synthesis import synthesise

        given, core = self.given, self.given.hole
        covered = [one[..., 3] >= 128 for one in self.staying.values()]
        stay = grown(np.any([np.zeros_like(core), *covered], axis=0), given.rim)
        sharp = synthesise(given.picture, core, self.painted, avoid=stay, seed=seed)
        sharp = np.where((stay & ~core)[..., None], self.painted, sharp)
        mended = _filled(sharp, self.hole & ~core)
        painted = np.where(self.hole[..., None], mended, self.painted)
        return replace(self, painted=painted)._with_clean_edges()

    def _with_clean_edges(self) -> MildOutput:
        """Return it without the colours of the erased at the edge of those who stay."""
        edge = self._edges(self.given.erase)
        clean = _filled(self.frame(), edge)
        staying = {}
        for name, layer in self.staying.items():
            its = edge & self.given.visible(name)
            staying[name] = np.dstack(
                [np.where(its[..., None], clean, layer[..., :3]), layer[..., 3]]
            )
        return replace(self, staying=staying)

    def _edges(self, names: Iterable[str]) -> Mask:
        """Return pixels of those who stay that hold colours of some of the erased, too."""
        near = grown(self.given.shown(names), MIXED)
        return near & self.hole & self.given.shown(self.staying)

    def recompose(
        self,
        keep: Sequence[str] | None = None,
        order: Sequence[str] | None = None,
        shift: Mapping[str, Shift] | None = None,
        scale: Mapping[str, float] | None = None,
    ) -> Rgb:
        """Return a scene of some of the layers over the background.

        A person who is neither moved nor scaled is drawn within the hole only: what the input
        shows elsewhere stands in front of them, or they are not there. So with everybody in
        place every visible pixel is the input's.

        Args:
            keep: ids; everybody when None.
            order: of those who are kept, farthest first; as in ``layers`` when None.
            shift: pixels to the right and down, by id.
            scale: of the size, about the middle of the person's feet, by id, above 0.

        Raises:
            BadInput: an unknown id, an order of others than are kept, or a bad scale.
        """
        kept = list(self.layers if keep is None else keep)
        drawn = [name for name in self.layers if name in kept] if order is None else list(order)
        moves, sizes = dict(shift or {}), dict(scale or {})
        self._check(kept, drawn, moves, sizes)
        canvas: npt.NDArray[np.float32] = self.background.astype(np.float32)
        stay = self.given.shown(set(self.given.person_ids) - set(self.given.erase))
        for name in drawn:
            by, size = moves.get(name, STILL), sizes.get(name, 1.0)
            layer = self.layers[name]
            still = tuple(by) == STILL and size == 1
            placed = layer if still else _moved(layer, by, size)
            alpha = placed[..., 3:].astype(np.float32) / np.float32(255)
            if still:
                alpha = alpha * (self.hole & ~stay)[..., None]
                edge = self._edges([name])
                canvas[edge] = self.given.picture[edge]
            canvas = canvas * (1 - alpha) + placed[..., :3].astype(np.float32) * alpha
        return np.asarray(np.floor(canvas + np.float32(0.5)).clip(0, 255).astype(np.uint8))

    def _check(
        self,
        kept: list[str],
        drawn: list[str],
        moves: Mapping[str, Shift],
        sizes: Mapping[str, float],
    ) -> None:
        strange = sorted({*kept, *drawn, *moves, *sizes} - set(self.layers))
        if strange:
            raise BadInput(
                f"recompose: expected ids among {', '.join(self.layers) or 'none'}, got "
                f"{', '.join(strange)}"
            )
        if sorted(drawn) != sorted(set(kept)):
            raise BadInput(
                f"order: expected each of {', '.join(kept)} once, farthest first, got "
                f"{', '.join(drawn)}"
            )
        for name, size in sizes.items():
            if not 0 < size < 100:
                raise BadInput(f"scale of {name}: expected above 0 and below 100, got {size}")


def near_to_far(layers: Mapping[str, Rgba], visible: Mapping[str, Mask]) -> list[str]:
    """Return the ids from farthest to nearest.

    Of two people the one is behind whose layer reaches farther into what shows of the other.
    """
    reach = {
        (behind, front): float(layer[..., 3][visible[front]].sum(dtype=np.float64))
        for behind, layer in layers.items()
        for front in layers
    }
    left = list(layers)
    found = []
    while left:
        farthest = max(left, key=lambda one: sum(reach[one, o] - reach[o, one] for o in left))
        found.append(farthest)
        left.remove(farthest)
    return found


def without_contradictions(
    layers: Mapping[str, Rgba], visible: Mapping[str, Mask]
) -> dict[str, Rgba]:
    """Return the layers, farthest first, each clear where somebody behind it shows."""
    found: dict[str, Rgba] = {}
    for name in near_to_far(layers, visible):
        layer = layers[name].copy()
        for behind in found:
            layer[visible[behind], 3] = 0
        found[name] = layer
    return found


def _filled(picture: Rgb, hole: Mask) -> Rgb:
    """Return the picture with thin places filled from around them by Telea's method."""
    return np.asarray(cv2.inpaint(picture, hole.astype(np.uint8), REACH, cv2.INPAINT_TELEA))


def _moved(layer: Rgba, by: Shift, size: float) -> Rgba:
    """Scale about the feet, then shift; whole pixels without scaling stay as they are."""
    height, width = layer.shape[:2]
    foot = _foot(layer[..., 3])
    picture = Image.fromarray(layer)
    scales = (1.0, 1.0)
    exact = size == 1 and all(float(one).is_integer() for one in by)
    if not exact:
        picture = picture.convert("RGBa")
    if size != 1:
        new = (max(round(width * size), 1), max(round(height * size), 1))
        picture = picture.resize(new, Image.Resampling.LANCZOS)
        scales = (new[0] / width, new[1] / height)
    # Pillow asks where each new pixel comes from.
    left, top = (at * scale - at - move for at, scale, move in zip(foot, scales, by, strict=True))
    moved = picture.transform(
        (width, height),
        Image.Transform.AFFINE,
        (1.0, 0.0, left, 0.0, 1.0, top),
        Image.Resampling.NEAREST if exact else Image.Resampling.BICUBIC,
    )
    return np.asarray(moved.convert("RGBA"))


def _foot(alpha: npt.NDArray[np.uint8]) -> tuple[float, float]:
    rows, columns = (np.flatnonzero((alpha >= 128).any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return alpha.shape[1] / 2, float(alpha.shape[0])
    return (float(columns[0] + columns[-1] + 1) / 2, float(rows[-1] + 1))
