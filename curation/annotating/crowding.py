"""How crowded people are: OCHuman's MaxIoU and CrowdPose's CrowdIndex."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mild_bench.curation.annotating.coverage import Box
from mild_bench.scene import Keypoint


def max_iou_masks(shared: npt.NDArray[np.int64]) -> list[float]:
    """Return each person's highest mask IoU with another person, in [0, 1]; 0 when alone.

    OCHuman (Zhang et al., "Pose2Seg", arXiv 1803.10683) grades occlusion by the MaxIoU of a
    person with others: moderate in [0.5, 0.75), hard from 0.75 on. It does so on boxes; this is
    the same on amodal masks.

    Args:
        shared: pixels that the amodal masks of each two people share, people x people; areas on
            the diagonal.
    """
    areas = np.diag(shared)
    union = areas[:, None] + areas[None, :] - shared
    return _highest(shared / np.maximum(union, 1))


def max_iou_boxes(boxes: Sequence[Box | None]) -> list[float]:
    """Return each person's highest box IoU with another person, in [0, 1]; 0 when alone.

    OCHuman's MaxIoU (arXiv 1803.10683) on amodal boxes inside the frame; a person without a
    pixel in the frame (None) has 0.
    """
    corners = np.array([box or [0, 0, 0, 0] for box in boxes], np.int64).reshape(-1, 4)
    low, size = corners[:, :2], corners[:, 2:]
    high = low + size
    sides = np.minimum(high[:, None], high[None]) - np.maximum(low[:, None], low[None])
    shared = np.clip(sides, 0, None).prod(axis=2)
    areas = size.prod(axis=1)
    union = areas[:, None] + areas[None, :] - shared
    return _highest(shared / np.maximum(union, 1))


def crowd_index(boxes: Sequence[Box | None], keypoints: Sequence[Sequence[Keypoint]]) -> float:
    """Return CrowdPose's CrowdIndex of a scene, in [0, 1]; 0 when nobody shares a box.

    Li et al., "CrowdPose" (arXiv 1812.00324): the mean over people of N_b / N_a, with N_a the
    labelled joints (visibility 1 or 2) of the person and N_b the labelled joints of others inside
    the person's box; easy up to 0.1, medium to 0.8, hard above. Four people in one place pass 1,
    which the paper's scale does not have: the mean is limited to 1. Boxes are amodal, inside the
    frame. People without labelled joints or box are left out of the mean.
    """
    joints = [np.array([p[:2] for p in person if p[2] > 0]).reshape(-1, 2) for person in keypoints]
    ratios = []
    for own, box in enumerate(boxes):
        if box is None or not len(joints[own]):
            continue
        inside = sum(_count_inside(box, points) for k, points in enumerate(joints) if k != own)
        ratios.append(inside / len(joints[own]))
    return min(1.0, sum(ratios) / len(ratios)) if ratios else 0.0


def _count_inside(box: Box, points: npt.NDArray[np.float64]) -> int:
    low = np.array(box[:2])
    return int(np.count_nonzero(((points >= low) & (points <= low + box[2:])).all(axis=1)))


def _highest(table: npt.NDArray[np.float64]) -> list[float]:
    others = np.array(table)
    np.fill_diagonal(others, 0.0)
    return [float(row.max()) for row in others]
