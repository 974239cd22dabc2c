"""A short sketch of a picture that proves another one equal within one grey level.

A hash says "same" or "not the same"; a table of block means cannot tell one pixel that is 30 off
from a block that is .1 off. The sketch is a checksum per tile and channel, linear in the pixels:
``sum(weight[p] * value[p]) mod 2**40`` with fixed random weights. When two processors round a few
pixels differently, the difference of two checksums is a sum of a few weights with signs, and
from it follows which pixels differ and in which direction (the syndrome decoding of an
error-correcting code, by table). Taking these steps back must give a picture with exactly the
printed SHA-256. If it does, the proof is complete: both pictures are known, and differ by at most
one at those pixels. A wrong guess cannot pass, as it would need a SHA-256 collision; too many
changed pixels in one tile end in "not proven".
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from mild_bench.errors import BadInput
from mild_bench.images import Rgb

BITS = 40
LIMIT = np.uint64((1 << BITS) - 1)
U64 = npt.NDArray[np.uint64]
QUADS_UP_TO = 16  # sides of tiles where four changed pixels can still be told from chance


def tile_sums(picture: Rgb, side: int) -> bytes:
    """Return the checksums of a picture's tiles, five bytes each, channel by channel.

    Args:
        picture: uint8 height x width x 3.
        side: of a tile, in pixels; 16 finds four changed pixels a tile, 32 three.
    """
    sums = _tiles(picture, side).astype(np.uint64) @ _weights(side) & LIMIT
    return sums.astype("<u8").view(np.uint8).reshape(-1, 8)[:, : BITS // 8].tobytes()


def step_back(picture: Rgb, sums: bytes, side: int) -> Rgb | None:
    """Return the picture nearest to ``picture`` that has these checksums.

    It differs by one grey level at up to four (side 16) or three (side 32) pixels of each tile
    and channel. None if there is none: more pixels changed, or some by more than one level.

    Raises:
        BadInput: checksums of a picture of another size.
    """
    tiles = _tiles(picture, side)
    here = _as_numbers(tile_sums(picture, side))
    if len(sums) != len(here) * BITS // 8:
        raise BadInput("fingerprint: its checksums belong to a picture of another size")
    gaps = here - _as_numbers(sums) & LIMIT
    tables = _tables(side)
    for number in np.flatnonzero(gaps):
        steps = _explain(gaps[number], tables, quads=side <= QUADS_UP_TO)
        if steps is None:
            return None
        for position, sign in steps:
            tiles[number, position] -= sign
    if tiles.min() < 0 or tiles.max() > 255:
        return None
    return _from_tiles(tiles.astype(np.uint8), picture.shape, side)


@dataclass(frozen=True)
class _Table:
    """Sums of one or two signed weights, sorted, with the steps (position, sign) they stand for."""

    sums: U64
    steps: npt.NDArray[np.int32]  # sums x steps; position + 1, negative for a step down


@cache
def _tables(side: int) -> tuple[_Table, _Table]:
    weights = _weights(side)
    signed = np.concatenate([weights, np.uint64(0) - weights]) & LIMIT
    names = np.arange(1, side * side + 1, dtype=np.int32)
    steps = np.concatenate([names, -names])
    first, second = np.triu_indices(len(signed), k=1)
    apart = np.abs(steps[first]) != np.abs(steps[second])
    first, second = first[apart], second[apart]
    singles = (signed, steps[:, None])
    pairs = (signed[first] + signed[second] & LIMIT, np.stack([steps[first], steps[second]], 1))
    one, two = (_Table(sums[o := np.argsort(sums)], steps[o]) for sums, steps in (singles, pairs))
    return one, two


def _explain(
    gap: np.uint64, tables: tuple[_Table, _Table], *, quads: bool
) -> list[tuple[int, int]] | None:
    """Return the fewest steps whose weights sum to ``gap``."""
    one, two = tables
    none = _Table(np.zeros(1, np.uint64), np.zeros((1, 0), np.int32))
    for left, right in ((none, one), (none, two), (one, two), *([(two, two)] if quads else [])):
        wanted = gap - left.sums & LIMIT
        index = np.minimum(np.searchsorted(right.sums, wanted), len(right.sums) - 1)
        for hit in np.flatnonzero(right.sums[index] == wanted):
            steps = [int(step) for step in (*left.steps[hit], *right.steps[index[hit]])]
            if len({abs(step) for step in steps}) == len(steps):
                return [(abs(step) - 1, 1 if step > 0 else -1) for step in steps]
    return None


@cache
def _weights(side: int) -> U64:
    digests = [hashlib.sha256(f"tile {k}".encode()).digest()[:8] for k in range(side * side)]
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64) & LIMIT


def _as_numbers(sums: bytes) -> U64:
    parts = np.frombuffer(sums, np.uint8)
    if len(parts) % (BITS // 8):
        raise BadInput("fingerprint: its checksums are cut off; take it again")
    full = np.zeros((len(parts) // (BITS // 8), 8), np.uint8)
    full[:, : BITS // 8] = parts.reshape(-1, BITS // 8)
    return np.asarray(full.view("<u8")[:, 0].astype(np.uint64))


def _tiles(picture: Rgb, side: int) -> npt.NDArray[np.int16]:
    """Cut a picture into tiles x pixels; the right and lower rim is filled up with zeros."""
    height, width, _ = picture.shape
    padded = np.pad(picture, ((0, -height % side), (0, -width % side), (0, 0)))
    rows, columns = padded.shape[0] // side, padded.shape[1] // side
    cut = padded.reshape(rows, side, columns, side, 3).transpose(4, 0, 2, 1, 3)
    return cut.reshape(-1, side * side).astype(np.int16)


def _from_tiles(tiles: npt.NDArray[np.uint8], shape: tuple[int, ...], side: int) -> Rgb:
    height, width = shape[:2]
    rows, columns = -(-height // side), -(-width // side)
    whole = tiles.reshape(3, rows, columns, side, side).transpose(1, 3, 2, 4, 0)
    return whole.reshape(rows * side, columns * side, 3)[:height, :width]
