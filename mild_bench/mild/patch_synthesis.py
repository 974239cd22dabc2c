"""Sharpen what a small network painted: patches of the known part, chosen to look like it.

The network says what is where at low resolution; texture comes from the picture itself. Patches
are found by randomised search (Barnes et al., PatchMatch, SIGGRAPH 2009) and blended by voting,
from coarse to fine (Wexler et al., Space-time completion of video, PAMI 2007); next to the patches
themselves, a low-passed copy of the network's picture is compared with the low-passed known part.
Votes near the edge count more, as there. Patches also vote on the known pixels beside the hole: by
their error there the filling is corrected next to the edge, so that no seam shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mild_bench.images import Mask, Rgb
from mild_bench.mild.train.holes import grown

Floats = npt.NDArray[np.float32]
Places = npt.NDArray[np.int64]  # n x 2: row, column

RADIUS = 3
LEAST_SIDE = 96  # of the coarsest level
ROUNDS = (6, 4, 3)  # searches and votes from the coarsest level to the finest; the last one repeats
MOST_SEARCHED = 250_000  # patches: a level with more takes over what the coarser one found
REACHES = (0.5, 0.25, 0.12, 0.06, 0.03)  # random search, shares of the picture's side
JUMPS = (1, 2, 4)
GUIDE_WEIGHT = 0.5  # of the guide, next to the patches
SPREAD = 0.15  # of votes: small lets the best patches win
TRUST = 1.1  # how much less a vote counts with each pixel from the edge inwards,
DEEP = 60  # up to this many
FADE = 0.2  # of the correction at the edge: small lets it reach farther in
STEPS = 16  # of Jacobi's iteration for it
GUIDE_BLUR = 2.5  # pixels of the finest level, standard deviation
CROSS = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32) / (4 + FADE)


def synthesise(
    picture: Rgb, hole: Mask, coarse: Rgb, *, avoid: Mask | None = None, seed: int = 0
) -> Rgb:
    """Return the picture with its hole filled by patches that look like ``coarse``.

    Pixels outside of the hole stay as they are. Where the known part is too small to hold patches,
    ``coarse`` fills the hole. Time and memory of the search do not grow beyond ``MOST_SEARCHED``.

    Args:
        picture: uint8 height x width x 3; what is in the hole does not matter.
        hole: bool height x width, True = fill.
        coarse: like ``picture``, painted in the hole and in ``avoid``.
        avoid: bool height x width, what else nothing is taken from: people, who hide the rest.
        seed: of the random search.
    """
    rng = np.random.default_rng(seed)
    unknown = hole if avoid is None else hole | avoid
    pixels = np.where(unknown[..., None], coarse, picture)
    start: Floats = pixels.astype(np.float32) / np.float32(255)
    matches: Places | None = None
    level: Level | None = None
    painted = start
    for scale, rounds in _levels(hole.shape[0], hole.shape[1]):
        finer = Level.of(start, hole, unknown, scale)
        if finer is None:
            continue
        matches = finer.first(rng) if level is None else finer.taken_over(level, matches, rng)
        level = finer
        painted = level.vote(matches, level.guide_distances(level.targets, matches))
        for _ in range(rounds if len(level.targets) <= MOST_SEARCHED else 0):
            matches, distances = level.search(rng, matches, painted)
            painted = level.vote(matches, distances)
    filled = painted if painted.shape == start.shape else start
    whole = np.floor(filled.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    return np.where(hole[..., None], whole, picture)


@dataclass(frozen=True)
class Level:
    """One resolution: where patches are wanted and where they may come from.

    Attributes:
        known: the picture with the network's where it is unknown, height x width x 3 in [0, 1].
        guide: the same, low-passed.
        hole: what is filled.
        unknown: the hole and what else nothing is taken from.
        targets: centres of the patches that touch the hole.
        number: height x width, which target a pixel is, -1 for none.
        sources: centres of patches without an unknown pixel.
        allowed: height x width, whether a pixel is a source.
        depth: height x width, pixels from the known part, 0 there.
    """

    known: Floats
    guide: Floats
    hole: Mask
    unknown: Mask
    targets: Places
    number: npt.NDArray[np.int64]
    sources: Places
    allowed: Mask
    depth: Floats

    @classmethod
    def of(cls, start: Floats, hole: Mask, unknown: Mask, scale: float) -> Level | None:
        """Return the level at a share of the full size; None when it has no sources."""
        high, wide = (max(1, round(length * scale)) for length in hole.shape)
        known = cv2.resize(start, (wide, high), interpolation=cv2.INTER_AREA)
        small, unused = (
            cv2.resize(mask.astype(np.float32), (wide, high), interpolation=cv2.INTER_AREA) > 0
            for mask in (hole, unknown)
        )
        inner = np.zeros_like(small)
        inner[RADIUS:-RADIUS, RADIUS:-RADIUS] = True
        square = np.ones((2 * RADIUS + 1, 2 * RADIUS + 1), np.uint8)
        touched = np.asarray(cv2.dilate(unused.astype(np.uint8), square) > 0)
        sources = np.argwhere(inner & ~touched)
        targets = np.argwhere(inner & grown(small, RADIUS))
        if not len(sources) or not len(targets):
            return None
        number = np.full((high, wide), -1, np.int64)
        number[tuple(targets.T)] = np.arange(len(targets))
        guide = cv2.GaussianBlur(known, (0, 0), max(0.6, GUIDE_BLUR * scale))
        depth = np.asarray(
            cv2.distanceTransform(unused.astype(np.uint8), cv2.DIST_L2, 5), np.float32
        )
        allowed = inner & ~touched
        return cls(known, guide, small, unused, targets, number, sources, allowed, depth)

    def first(self, rng: np.random.Generator) -> Places:
        """Return the best of many random matches, by the guide alone."""
        best = self._drawn(rng)
        distances = self.guide_distances(self.targets, best)
        for _ in range(12):
            best, distances = self._better(best, distances, self._drawn(rng))
            for offset in _offsets():
                best, distances = self._better(best, distances, self._neighbours(best, offset))
        return best

    def taken_over(
        self, coarser: Level, matches: Places | None, rng: np.random.Generator
    ) -> Places:
        """Return the matches of a coarser level at this one."""
        assert matches is not None
        ratio = np.array(self.hole.shape) / np.array(coarser.hole.shape)
        there = np.minimum((self.targets / ratio).astype(int), np.array(coarser.hole.shape) - 1)
        numbers = coarser.number[tuple(there.T)]
        moved = np.round((matches[numbers] - coarser.targets[numbers]) * ratio).astype(np.int64)
        found = self.targets + moved
        usable = (numbers >= 0) & self._may(found)
        return np.where(usable[:, None], found, self._drawn(rng))

    def search(
        self, rng: np.random.Generator, matches: Places, painted: Floats
    ) -> tuple[Places, Floats]:
        """Improve matches for what is painted: take over neighbours' and try others around."""
        wanted = _patches(painted, self.targets)
        distances = self._distances(self.targets, matches, wanted)
        for offset in _offsets():
            matches, distances = self._better(
                matches, distances, self._neighbours(matches, offset), wanted
            )
        for reach in REACHES:
            span = max(1, round(reach * max(self.hole.shape)))
            tried = matches + rng.integers(-span, span + 1, matches.shape)
            matches, distances = self._better(matches, distances, tried, wanted)
        return matches, distances

    def vote(self, matches: Places, distances: Floats) -> Floats:
        """Return the picture with every pixel of the hole the mean of the patches over it."""
        spread = SPREAD * float(np.quantile(distances, 0.75)) + 1e-6
        trust = TRUST ** -np.minimum(self.depth[tuple(self.targets.T)], DEEP)
        weights = (trust * np.exp(-distances / (2 * spread)))[:, None].astype(np.float32)
        wide = self.hole.shape[1]
        values = self.known.reshape(-1, 3)
        total, weight = np.zeros_like(values), np.zeros((len(values), 1), np.float32)
        to, of = (places @ np.array([wide, 1]) for places in (self.targets, matches))
        reach = range(-RADIUS, RADIUS + 1)
        for step in (down * wide + right for down in reach for right in reach):
            total[to + step] += weights * values.take(of + step, axis=0)
            weight[to + step] += weights
        voted = (weight > 0).reshape(self.hole.shape)
        mean = np.asarray(total / np.where(weight > 0, weight, 1), np.float32)
        mean = mean.reshape(self.known.shape)
        mended = mean + self._correction(self.known - mean, voted & ~self.unknown)
        return np.where((self.hole & voted)[..., None], mended, self.known)

    def _correction(self, error: Floats, beside: Mask) -> Floats:
        """Return what to add in the hole for the votes' error on known pixels beside it.

        It solves a screened Poisson equation: smooth, the error at the edge, and soon nothing.
        """
        rows, columns = np.nonzero(self.hole)
        box = np.s_[
            max(0, rows.min() - 1) : rows.max() + 2, max(0, columns.min() - 1) : columns.max() + 2
        ]
        edge = np.where(beside[box][..., None], error[box], 0)
        inside, found = self.hole[box][..., None], edge
        for _ in range(STEPS):
            mean = cv2.filter2D(found, -1, CROSS, borderType=cv2.BORDER_CONSTANT)
            found = np.where(inside, mean, edge)
        whole = np.zeros_like(self.known)
        whole[box] = found
        return whole

    def guide_distances(self, targets: Places, matches: Places) -> Floats:
        """Return how unlike the guide is at targets and matches."""
        gap = self.guide[tuple(targets.T)] - self.guide[tuple(matches.T)]
        return np.asarray(np.square(gap).mean(axis=1), np.float32)

    def _distances(self, targets: Places, matches: Places, wanted: Floats | None) -> Floats:
        guide = self.guide_distances(targets, matches)
        if wanted is None:
            return guide
        gap = _patches(self.known, matches) - wanted
        return np.asarray(np.square(gap).mean(axis=1) + GUIDE_WEIGHT * guide, np.float32)

    def _better(
        self, matches: Places, distances: Floats, tried: Places, wanted: Floats | None = None
    ) -> tuple[Places, Floats]:
        """Return the better of two matches for each target; only those that differ are compared."""
        new = np.flatnonzero(self._may(tried) & (tried != matches).any(axis=1))
        found = self._distances(
            self.targets[new], tried[new], None if wanted is None else wanted[new]
        )
        closer = found < distances[new]
        matches, distances = matches.copy(), distances.copy()
        matches[new[closer]], distances[new[closer]] = tried[new[closer]], found[closer]
        return matches, distances

    def _neighbours(self, matches: Places, offset: tuple[int, int]) -> Places:
        """Return what the match of the target ``offset`` away proposes for each target."""
        limit = np.array(self.hole.shape) - 1
        beside = np.clip(self.targets + offset, 0, limit)
        numbers = self.number[tuple(beside.T)]
        return np.where((numbers >= 0)[:, None], matches[numbers] - offset, matches)

    def _may(self, places: Places) -> Mask:
        limit = np.array(self.hole.shape) - 1
        inside = ((places >= 0) & (places <= limit)).all(axis=1)
        return np.asarray(inside & self.allowed[tuple(np.clip(places, 0, limit).T)])

    def _drawn(self, rng: np.random.Generator) -> Places:
        return self.sources[rng.integers(len(self.sources), size=len(self.targets))]


def _levels(height: int, width: int) -> list[tuple[float, int]]:
    """Return shares of the full size from the coarsest, and rounds for each."""
    count = 1
    while min(height, width) / 2**count >= LEAST_SIDE:
        count += 1
    return [
        (0.5 ** (count - 1 - index), ROUNDS[min(index, len(ROUNDS) - 1)]) for index in range(count)
    ]


def _offsets() -> list[tuple[int, int]]:
    return [offset for jump in JUMPS for offset in ((-jump, 0), (0, -jump), (jump, 0), (0, jump))]


def _patches(picture: Floats, centres: Places) -> Floats:
    """Return the patches about centres, n x values."""
    side = 2 * RADIUS + 1
    windows = np.lib.stride_tricks.sliding_window_view(picture, (side, side), axis=(0, 1))
    rows, columns = centres.T - RADIUS
    values = side * side * picture.shape[2]
    return np.asarray(windows[rows, columns].reshape(len(centres), values), np.float32)
