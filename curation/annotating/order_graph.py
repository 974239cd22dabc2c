"""Who lies before whom: edges of the order graph and the circles in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from graphlib import CycleError, TopologicalSorter

import numpy as np
import numpy.typing as npt

Edge = tuple[str, str]  # nearer, farther


def order_edges(ids: Sequence[str], shared: npt.NDArray[np.int64]) -> list[Edge]:
    """Return nearer -> farther for each pair of layers whose amodal masks overlap.

    Args:
        ids: layer ids from far to near.
        shared: pixels that each pair has in common, layers x layers.
    """
    return [
        (ids[near], ids[far])
        for far in range(len(ids))
        for near in range(far + 1, len(ids))
        if shared[near, far]
    ]


def find_cycles(edges: Iterable[Edge]) -> list[list[str]]:
    """Return circles of "lies before", none if the edges can be put in one order.

    Layers with a depth order have none. Imported annotations (COCOA's pairwise order, two people
    in each other's arms) may: each circle starts at its first name in alphabetical order and goes
    from nearer to farther. Every circle shares an edge with one that is listed: taking the last
    edge out of each listed one leaves an order.
    """
    left = sorted(set(edges))
    cycles = []
    while (cycle := _one_cycle(left)) is not None:
        cycles.append(cycle)
        left.remove((cycle[-1], cycle[0]))
    return cycles


def _one_cycle(edges: list[Edge]) -> list[str] | None:
    before: dict[str, list[str]] = {}
    for nearer, farther in edges:
        before.setdefault(farther, []).append(nearer)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        names: list[str] = error.args[1][:-1]
        start = names.index(min(names))
        return names[start:] + names[:start]
    return None
