"""Occlusion annotations of a scene, counted from its exact layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mild_bench.curation.annotating.camouflage import Outline, outline, to_lab
from mild_bench.curation.annotating.challenges import human_background, human_human, human_object
from mild_bench.curation.annotating.coverage import PLATE, Coverage, box_of, cover
from mild_bench.curation.annotating.crowding import crowd_index, max_iou_boxes, max_iou_masks
from mild_bench.curation.annotating.order_graph import find_cycles, order_edges
from mild_bench.scene import Scene
from mild_bench.task import occlusion_bin

# The last digits of a filtered float32 picture differ between processors; nobody needs them.
CONTRAST_DIGITS = 3
BLENDED_DIGITS = 6


def annotate(scene: Scene) -> dict[str, Any]:
    """Return every occlusion annotation of a scene as plain JSON values.

    All areas are pixels inside the frame, boxes are ``[x, y, width, height]`` in pixels (None for
    no pixel), shares and rates are in [0, 1]. A pixel belongs to a layer when it covers at least
    half of it (``Layer.amodal``) and shows the nearest such layer.

    Returns:
        ``people``: how many.
        ``layers``: by id ``kind``, ``visible_box``, ``amodal_box``, ``visible_area``,
        ``amodal_area``, ``occlusion_rate`` (1 - visible / amodal; 0 for a layer outside the
        frame), ``truncation`` (share of the whole layer that lies outside the frame); for people
        also ``max_iou_box`` and ``max_iou_mask`` (OCHuman, arXiv 1803.10683, with other people),
        ``hidden_by_people`` and ``hidden_by_props`` (they sum to the rate), ``contrast`` (see
        ``camouflage``: units of L*, lower = blends in; None where the person nowhere borders on
        the plate).
        ``pairwise``: ``order`` (ids from far to near) and ``matrix``: the share of i's amodal
        area where j shows. Under several layers the nearest counts, so row i sums to i's
        occlusion rate and the diagonal is 0.
        ``order_graph``: ``edges`` [nearer, farther] where amodal masks overlap, and ``cycles``.
        ``crowd_index`` (CrowdPose, arXiv 1812.00324); ``max_iou_box``, ``max_iou_mask`` and
        ``occlusion``: the highest among the people; ``occlusion_bin`` of the latter.
        ``challenges``: ``human_human``, ``human_object``, ``human_background``, each
        ``present``, ``value`` and ``threshold`` (see ``challenges``; higher = harder).
    """
    coverage = cover(scene)
    hidden = hidden_shares(coverage)
    layers = _layer_figures(scene, coverage, hidden)
    blended = _add_people_figures(scene, coverage, hidden, layers)
    people = [layers[person.layer_id] for person in scene.people]
    edges = order_edges(coverage.ids, coverage.shared)
    worst = max((float(person["occlusion_rate"]) for person in people), default=0.0)
    return {
        "people": len(people),
        "layers": layers,
        "pairwise": {"order": list(coverage.ids), "matrix": hidden.tolist()},
        "order_graph": {
            "edges": [list(edge) for edge in edges],
            "cycles": find_cycles(edges),
        },
        "crowd_index": crowd_index(
            [person["amodal_box"] for person in people],
            [person.keypoints for person in scene.people],
        ),
        "max_iou_box": max((person["max_iou_box"] for person in people), default=0.0),
        "max_iou_mask": max((person["max_iou_mask"] for person in people), default=0.0),
        "occlusion": worst,
        "occlusion_bin": occlusion_bin(worst),
        "challenges": {
            "human_human": human_human(p["hidden_by_people"] for p in people).as_json(),
            "human_object": human_object(scene, coverage).as_json(),
            "human_background": human_background(blended).as_json(),
        },
    }


def hidden_shares(coverage: Coverage) -> npt.NDArray[np.float64]:
    """Return the share of i's amodal area where j shows, layers x layers, 0 on the diagonal."""
    others = np.array(coverage.seen_on)
    np.fill_diagonal(others, 0)
    return np.asarray(others / np.maximum(coverage.amodal_areas, 1)[:, None])


def _layer_figures(
    scene: Scene, coverage: Coverage, hidden: npt.NDArray[np.float64]
) -> dict[str, dict[str, Any]]:
    return {
        layer.layer_id: {
            "kind": layer.kind,
            "visible_box": box_of(coverage.visible(index)),
            "amodal_box": coverage.boxes[index],
            "visible_area": int(coverage.seen_on[index, index]),
            "amodal_area": int(coverage.amodal_areas[index]),
            "occlusion_rate": _sum(hidden[index]),
            "truncation": float(layer.truncation),
        }
        for index, layer in enumerate(scene.layers)
    }


def _add_people_figures(
    scene: Scene,
    coverage: Coverage,
    hidden: npt.NDArray[np.float64],
    layers: dict[str, dict[str, Any]],
) -> list[float]:
    """Add what only people have to ``layers``; returns the blended shares of their outlines."""
    is_person = np.array([layer.kind == "person" for layer in scene.layers], np.bool_)
    indices = np.flatnonzero(is_person)
    outlines = _outlines(scene, coverage, indices)
    by_mask = max_iou_masks(coverage.shared[np.ix_(indices, indices)])
    by_box = max_iou_boxes([coverage.boxes[index] for index in indices])
    for index, box, mask, line in zip(indices, by_box, by_mask, outlines, strict=True):
        layers[coverage.ids[index]] |= {
            "max_iou_box": box,
            "max_iou_mask": mask,
            "hidden_by_people": _sum(hidden[index, is_person]),
            "hidden_by_props": _sum(hidden[index, ~is_person]),
            "contrast": None if line is None else round(line.contrast, CONTRAST_DIGITS),
        }
    return [round(line.blended, BLENDED_DIGITS) for line in outlines if line is not None]


def _outlines(
    scene: Scene, coverage: Coverage, indices: npt.NDArray[np.intp]
) -> list[Outline | None]:
    if not indices.size:
        return []
    lab = to_lab(scene.recompose())
    plate = np.asarray(coverage.top == PLATE)
    return [outline(lab, coverage.visible(int(index)), plate) for index in indices]


def _sum(shares: npt.NDArray[np.float64]) -> float:
    return min(1.0, float(shares.sum()))
