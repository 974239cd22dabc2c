"""From mattes to people: a person's size by row, pieces joined, touching people split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask

SMALLEST = 24  # pixels: lower than that a figure cannot be told from noise
SHAPE = (1.4, 5.0)  # height / width of what the size prior is learned from
HEIGHTS = (0.72, 1.2)  # of the expected height
WIDEST = 0.72  # of the expected height: arms out, a long step
WHOLE_AREA = (0.7, 1.35)  # of the expected area
EDGE_AREA = 0.1  # at the frame's edge part of a person is enough
LEFT_OVER = 0.25  # of a person's area: more than that is somebody who must not be lost
THICK = 5  # pixels: a tape that flaps is long but not thick


@dataclass(frozen=True)
class Blob:
    """A connected part of a matte: its box (x, y, width, height) and its mask inside the box."""

    x: int
    y: int
    width: int
    height: int
    mask: Mask

    @property
    def area(self) -> int:
        """Pixels."""
        return int(self.mask.sum())

    @property
    def foot(self) -> int:
        """The row where it stands."""
        return self.y + self.height

    def full(self, shape: tuple[int, int]) -> Mask:
        """Return its mask on the whole frame."""
        full = np.zeros(shape, bool)
        full[self.y : self.foot, self.x : self.x + self.width] = self.mask
        return full


@dataclass(frozen=True)
class Figure:
    """A person in one frame.

    Attributes:
        blob: what shows of the person.
        truncation: share outside the frame, from the expected area; 0 away from the edge.
        touching: the matte joined this person with another one.
        pieces: how many parts it was joined from (a pole in front of it cuts a person in two).
        whole: nothing of it seems hidden or missing.
    """

    blob: Blob
    truncation: float
    touching: bool
    pieces: int
    whole: bool


@dataclass(frozen=True)
class Finds:
    """The people of one frame.

    Attributes:
        faults: why the frame cannot be trusted; empty when it can.
        scraps: bits of somebody behind a pole or at the edge, too small to be a person.
    """

    figures: tuple[Figure, ...]
    faults: tuple[str, ...]
    scraps: tuple[Blob, ...]


@dataclass(frozen=True)
class Size:
    """How tall a person is by the row they stand on: ``slope * foot + base`` pixels.

    ``area`` is the usual area over height squared.
    """

    slope: float
    base: float
    area: float

    def height(self, foot: float) -> float:
        """Return the expected height in pixels of a person whose feet are at row ``foot``."""
        return max(self.slope * foot + self.base, SMALLEST / 2)

    def usual_area(self, foot: float) -> float:
        """Return the expected area in pixels."""
        return self.area * self.height(foot) ** 2


def find_blobs(body: Mask, *, smallest: int = 12) -> list[Blob]:
    """Return the connected parts of a matte of at least ``smallest`` pixels, largest first."""
    import cv2

    count, labels, stats, _ = cv2.connectedComponentsWithStats(body.astype(np.uint8))
    blobs = []
    for label in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[label])
        if area >= smallest:
            mask = labels[y : y + height, x : x + width] == label
            blobs.append(Blob(x, y, width, height, mask))
    return sorted(blobs, key=lambda blob: (-blob.area, blob.x, blob.y))


def size_points(blobs: Iterable[Blob], shape: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return (foot, height, area) of the blobs that may be a whole standing person."""
    return [
        (blob.foot, blob.height, blob.area)
        for blob in blobs
        if blob.height >= SMALLEST
        and SHAPE[0] < blob.height / blob.width < SHAPE[1]
        and not at_edge(blob, shape)
    ]


def learn_size(points: list[tuple[int, int, int]]) -> Size | None:
    """Fit a person's size by row with a Theil-Sen line; None without enough figures.

    The median over slopes of pairs stands up to half figures and joined ones.
    """
    if len(points) < 5:
        return None
    values = np.array(sorted(points), np.float64)
    values = values[np.linspace(0, len(values) - 1, min(len(values), 400)).astype(int)]
    foot, height, area = values.T
    slope = _theil_sen(foot, height)
    base = float(np.median(height - slope * foot))
    expected = np.maximum(slope * foot + base, SMALLEST / 2)
    near = np.abs(height / expected - 1) < 0.15
    usual = float(np.median((area / expected**2)[near])) if near.any() else 0.2
    return Size(slope, base, usual)


def find_figures(blobs: list[Blob], size: Size, shape: tuple[int, int]) -> Finds:
    """Turn the blobs of one frame into people, far to near, with what is wrong with the frame."""
    figures: list[Figure] = []
    faults: list[str] = []
    scraps: list[Blob] = []
    for group in _join(blobs, size, shape):
        blob = _union(group)
        if _is_person(blob, size, shape):
            figures.append(_figure(blob, size, shape, pieces=_big_pieces(group), touching=False))
            continue
        beside, stacked = _split(blob, size, shape), _split_stacked(blob, size, shape)
        if beside:
            figures += [_figure(part, size, shape, pieces=1, touching=True) for part in beside]
        elif stacked:  # whoever stands behind a head has lost their feet
            found = [_figure(part, size, shape, pieces=1, touching=True) for part in stacked]
            figures += [replace(figure, whole=False) for figure in found]
        elif _thick(blob):
            if blob.area < LEFT_OVER * size.usual_area(blob.foot):
                scraps.append(blob)
            else:
                faults.append(_fault(blob, size))
    figures.sort(key=lambda figure: (figure.blob.foot, figure.blob.x))
    return Finds(tuple(figures), tuple(faults), tuple(scraps))


def at_edge(blob: Blob, shape: tuple[int, int]) -> bool:
    """Tell whether a blob reaches the frame's edge."""
    right, bottom = blob.x + blob.width, blob.y + blob.height
    return blob.x <= 1 or blob.y <= 1 or right >= shape[1] - 1 or bottom >= shape[0] - 1


def _theil_sen(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    apart = x[None, :] - x[:, None]
    far = apart > max(5.0, 0.15 * float(np.ptp(x)))
    if float(np.ptp(x)) < 20 or not far.any():
        return 0.0  # all stand on one row: no perspective to see
    return float(np.median(((y[None, :] - y[:, None]) / np.where(far, apart, 1))[far]))


def _is_person(blob: Blob, size: Size, shape: tuple[int, int]) -> bool:
    tall, area = size.height(blob.foot), size.usual_area(blob.foot)
    if at_edge(blob, shape):
        fits = blob.height < HEIGHTS[1] * tall and blob.width < WIDEST * tall
        if blob.width > 0.4 * tall and len(_heads(blob, size)) > 1:
            return False  # two people leaving together
        return fits and blob.area > EDGE_AREA * area and blob.height > 0.2 * tall
    fits = HEIGHTS[0] * tall < blob.height < HEIGHTS[1] * tall and blob.width < WIDEST * tall
    return fits and 0.45 * area < blob.area < 1.7 * area


def _figure(
    blob: Blob, size: Size, shape: tuple[int, int], *, pieces: int, touching: bool
) -> Figure:
    share = blob.area / size.usual_area(blob.foot)
    edge = at_edge(blob, shape)
    truncation = round(float(np.clip(1 - share, 0, 1)), 3) if edge else 0.0
    tall = size.height(blob.foot)
    usual = WHOLE_AREA[0] < share < WHOLE_AREA[1]
    whole = not edge and usual and 0.88 * tall < blob.height < 1.15 * tall
    return Figure(blob, truncation, touching, pieces, whole and pieces == 1)


def _join(blobs: list[Blob], size: Size, shape: tuple[int, int]) -> list[list[Blob]]:
    """Group the pieces of one person: above each other, or cut by a pole."""
    groups: list[list[Blob]] = []
    for blob in blobs:
        home = min(
            (group for group in groups if _belongs(blob, _union(group), size)),
            key=lambda group: _gap(blob, _union(group)),
            default=None,
        )
        if home is None:
            groups.append([blob])
        else:
            home.append(blob)
    return groups


def _belongs(piece: Blob, main: Blob, size: Size) -> bool:
    both = _union([piece, main])
    tall = size.height(max(piece.foot, main.foot))
    sideways = max(piece.x, main.x) - min(piece.x + piece.width, main.x + main.width)
    apart = max(piece.y, main.y) - min(piece.foot, main.foot)
    small = piece.area < 0.12 * size.usual_area(main.foot)
    if small:
        return sideways < 0.06 * tall and apart < 0.08 * tall and both.height < 1.15 * tall
    fits = both.height < 1.15 * tall and both.width < 0.55 * tall
    stacked = sideways < -0.3 * min(piece.width, main.width) and apart < 0.45 * tall
    halves = sideways < 0.16 * tall and apart < 0 and piece.width < 0.3 * tall
    return fits and (stacked or halves)


def _gap(one: Blob, two: Blob) -> int:
    sideways = max(one.x, two.x) - min(one.x + one.width, two.x + two.width)
    return max(0, sideways) + max(0, max(one.y, two.y) - min(one.foot, two.foot))


def _union(blobs: list[Blob]) -> Blob:
    if len(blobs) == 1:
        return blobs[0]
    left, top = min(blob.x for blob in blobs), min(blob.y for blob in blobs)
    right, bottom = max(blob.x + blob.width for blob in blobs), max(blob.foot for blob in blobs)
    mask = np.zeros((bottom - top, right - left), bool)
    for blob in blobs:
        rows = slice(blob.y - top, blob.foot - top)
        mask[rows, blob.x - left : blob.x - left + blob.width] |= blob.mask
    return Blob(left, top, right - left, bottom - top, mask)


def _big_pieces(group: list[Blob]) -> int:
    total = sum(blob.area for blob in group)
    return sum(blob.area > 0.15 * total for blob in group)


def _split(blob: Blob, size: Size, shape: tuple[int, int]) -> list[Blob]:
    """Cut touching people at the thinnest columns between their heads; empty if it fails."""
    heads = _heads(blob, size)
    if len(heads) < 2:
        return []
    columns = blob.mask.sum(0).astype(np.float64)
    cuts = [0]
    for left, right in pairwise(heads):
        cuts.append(left + int(np.argmin(columns[left : right + 1])))
    cuts.append(blob.width)
    return _if_people(
        [_part(blob, np.s_[:, left:right]) for left, right in pairwise(cuts)], size, shape
    )


def _split_stacked(blob: Blob, size: Size, shape: tuple[int, int]) -> list[Blob]:
    """Cut off somebody farther away who touches the head of a nearer one; empty if it fails."""
    tall = size.height(blob.foot)
    head = blob.height - tall
    first, last = round(head - 0.1 * tall), round(head + 0.15 * tall)
    if first < SMALLEST:
        return []
    row = first + int(np.argmin(blob.mask[first : last + 1].sum(1)))
    return _if_people([_part(blob, np.s_[:row]), _part(blob, np.s_[row:])], size, shape)


def _if_people(parts: list[Blob | None], size: Size, shape: tuple[int, int]) -> list[Blob]:
    found = [part for part in parts if part is not None and _is_person(part, size, shape)]
    return found if len(found) == len(parts) else []


def _heads(blob: Blob, size: Size) -> list[int]:
    """Return the columns where the outline's top has a peak of a head's prominence."""
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    tall = size.height(blob.foot)
    top = np.where(blob.mask.any(0), blob.height - blob.mask.argmax(0), 0).astype(np.float64)
    smooth = gaussian_filter1d(np.pad(top, 1), max(1.0, 0.02 * tall))
    peaks, _ = find_peaks(
        smooth, height=0.55 * tall, prominence=0.07 * tall, distance=max(1, int(0.15 * tall))
    )
    return [int(peak) - 1 for peak in peaks]


def _part(blob: Blob, where: slice | tuple[slice, slice]) -> Blob | None:
    kept = np.zeros_like(blob.mask)
    kept[where] = blob.mask[where]
    pieces = find_blobs(kept, smallest=1)
    if not pieces:
        return None
    main = _union([piece for piece in pieces if piece.area > 0.015 * pieces[0].area])
    return Blob(blob.x + main.x, blob.y + main.y, main.width, main.height, main.mask)


def _thick(blob: Blob) -> bool:
    import cv2

    depth = cv2.distanceTransform(np.pad(blob.mask, 1).astype(np.uint8), cv2.DIST_L2, 5)
    return bool(2 * depth.max() >= THICK)


def _fault(blob: Blob, size: Size) -> str:
    where = f"at x {blob.x}, y {blob.y}, {blob.width} x {blob.height} px"
    if blob.area > 1.35 * size.usual_area(blob.foot):
        return f"touching people could not be split ({where})"
    return f"something that is no whole person stays in the plate ({where})"
