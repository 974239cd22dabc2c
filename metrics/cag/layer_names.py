"""Short names of attention layers, and runs of neighbours that share a label."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

HEADS = {
    "down_blocks": "down",
    "mid_block": "mid",
    "up_blocks": "up",
    "transformer_blocks": "block",
    "single_transformer_blocks": "single",
}


Numbers = tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """Neighbouring layers, ``start`` up to ``stop`` - 1, that have one label."""

    label: str
    start: int
    stop: int


def short_names(layers: Sequence[str]) -> list[str]:
    """Return short names, each once, in order: ``up_blocks.1.attentions.0...attn1``: ``up 1.0``.

    A name keeps its block and as many numbers as tell the block's layers apart.
    """
    found = [_parse(layer) for layer in layers]
    short = [_name(head, numbers) for head, numbers in found]
    for head in {head for head, _ in found}:
        places = [place for place, (one, _) in enumerate(found) if one == head]
        for depth in range(1 + max(len(found[place][1]) for place in places)):
            names = [_name(head, found[place][1][:depth]) for place in places]
            if len(set(names)) == len(names):
                for place, name in zip(places, names, strict=True):
                    short[place] = name
                break
    # Two attentions of one block have the same numbers: their own word tells them apart.
    return [
        name if short.count(name) == 1 else f"{name} {layer.split('.')[-1]}"
        for name, layer in zip(short, layers, strict=True)
    ]


def runs(layers: Sequence[str], sizes: Sequence[tuple[int, int]], most: int) -> list[Run]:
    """Give layers that follow each other one label until about ``most`` labels are left.

    ``sizes`` are the grids, height x width: layers of two sizes are never in one run.
    """
    names = short_names(layers)
    if len(names) <= most:
        return [Run(name, n, n + 1) for n, name in enumerate(names)]
    parsed = [_parse(layer) for layer in layers]
    if all(len(numbers) < 2 for _, numbers in parsed):
        return _sampled(parsed, sizes, most)
    deepest = max(len(numbers) for _, numbers in parsed)
    found: list[Run] = []
    for cut in range(1, deepest):
        heads = [(head, numbers[: max(len(numbers) - cut, 1)]) for head, numbers in parsed]
        found = [
            Run(_label(heads, places[0]), places[0], places[-1] + 1)
            for places in _alike(heads, sizes)
        ]
        if len(found) <= most:
            break
    return found


def _label(heads: Sequence[tuple[str, Numbers]], place: int) -> str:
    """A block that has one run only needs no number."""
    head, numbers = heads[place]
    return head if len({one for one in heads if one[0] == head}) == 1 else _name(head, numbers)


def _sampled(
    parsed: Sequence[tuple[str, Numbers]], sizes: Sequence[tuple[int, int]], most: int
) -> list[Run]:
    """Runs of a plain row of blocks: five (or ten ...) together."""
    every = next(step for step in (2, 5, 10, 20, 50, 100, len(parsed)) if len(parsed) / step < most)
    found = []
    for places in _alike([(head, ()) for head, _ in parsed], sizes):
        for start in range(places[0], places[-1] + 1, every):
            last = min(start + every - 1, places[-1])
            label = _name(*parsed[start])
            if last > start and parsed[last][1]:
                label = f"{label}\u2013{parsed[last][1][0]}"
            found.append(Run(label, start, last + 1))
    return found


def _alike(
    heads: Sequence[tuple[str, Numbers]], sizes: Sequence[tuple[int, int]]
) -> Iterator[list[int]]:
    for _, places in groupby(range(len(heads)), key=lambda place: (heads[place], sizes[place])):
        yield list(places)


def _parse(layer: str) -> tuple[str, Numbers]:
    head, *rest = layer.split(".")
    return HEADS.get(head, head), tuple(int(part) for part in rest if re.fullmatch(r"\d+", part))


def _name(head: str, numbers: Sequence[int]) -> str:
    return f"{head} {'.'.join(map(str, numbers))}".strip()
