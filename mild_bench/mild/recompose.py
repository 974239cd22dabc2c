"""New scenes from layers: who stays, who is in front, moved and scaled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb, Rgba, composite

Shift = tuple[float, float]
STILL: Shift = (0.0, 0.0)


@dataclass(frozen=True)
class MildOutput:
    """A picture taken apart.

    Attributes:
        background: uint8 height x width x 3, the picture without the erased people; outside of
            ``hole`` the input, bit for bit.
        painted: the whole frame without anybody who was taken apart, as the model painted it.
        layers: the complete erased people by id, farthest first; RGBA, straight alpha, uint8.
        hole: what was erased, bool height x width.
        staying: like ``layers``, those who stay and were taken apart, too; they are in
            ``background``, but not in ``painted``.
        metadata: how it was made.
    """

    background: Rgb
    painted: Rgb
    layers: Mapping[str, Rgba]
    hole: Mask
    staying: Mapping[str, Rgba] = field(default_factory=dict)
    metadata: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        picture: Rgb,
        hole: Mask,
        painted: Rgb,
        people: Mapping[str, Rgba],
        staying: Sequence[str] = (),
        metadata: Mapping[str, object] | None = None,
    ) -> MildOutput:
        """Return the output for an input picture.

        Args:
            picture: the input.
            hole, painted: as above.
            people: the layers of all who were taken apart, farthest first.
            staying: ids of those of them who stay.
            metadata: how it was made.
        """
        stay = {name: layer for name, layer in people.items() if name in staying}
        gone = {name: layer for name, layer in people.items() if name not in staying}
        background = composite(_drawn_on(painted, stay.values()), picture, hole)
        return cls(background, painted, gone, hole, stay, metadata or {})

    def frame(self) -> Rgb:
        """Return the whole frame as the model painted it, with those who stay."""
        return _drawn_on(self.painted, self.staying.values())

    def refined(self, *, seed: int = 0) -> MildOutput:
        """Return it with patches of what is known instead of the painted background.

        They are chosen to look like it: texture for what a small network painted. Layers stay.

        Args:
            seed: of the search for patches.
        """
        from mild_bench.mild.patch_synthesis import synthesise

        stay = np.any([self.hole & False, *(one[..., 3] > 0 for one in self.staying.values())], 0)
        sharp = synthesise(self.background, self.hole, self.painted, avoid=stay, seed=seed)
        painted = np.where(self.hole[..., None], sharp, self.painted)
        whole = _drawn_on(painted, self.staying.values())
        background = composite(whole, self.background, self.hole)
        return replace(self, background=background, painted=painted)

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
        for name in drawn:
            by, size = moves.get(name, STILL), sizes.get(name, 1.0)
            layer = self.layers[name]
            still = tuple(by) == STILL and size == 1
            placed = layer if still else _moved(layer, by, size)
            alpha = placed[..., 3:].astype(np.float32) / np.float32(255)
            if still:
                alpha = alpha * self.hole[..., None]
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


def _drawn_on(picture: Rgb, layers: Iterable[Rgba]) -> Rgb:
    """Draw complete layers, farthest first."""
    canvas = picture.astype(np.float32)
    for layer in layers:
        alpha = layer[..., 3:].astype(np.float32) / np.float32(255)
        canvas = canvas * (1 - alpha) + layer[..., :3].astype(np.float32) * alpha
    return np.asarray(np.floor(canvas + np.float32(0.5)).clip(0, 255).astype(np.uint8))


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
