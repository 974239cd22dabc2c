"""Priors from pretrained networks: joints and body parts of the people as far as they show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from mild_bench.errors import BadInput, MissingPart
from mild_bench.images import Grey, Mask, Rgb
from mild_bench.mild.branches import cut, person_box
from mild_bench.mild.picture import MildInput
from mild_bench.mild.priors import JOINTS
from mild_bench.scene import Keypoint

SURE = 0.3  # least score of a joint
MARGIN = 0.1  # about a person, as a share of its longer side

WORDS: dict[int, tuple[str, ...]] = {
    1: ("hair",),
    8: ("shoe", "sock", "foot"),
    6: ("pants", "trousers", "skirt", "lower", "shorts"),
    5: ("upper", "coat", "dress", "jumpsuit", "scarf", "shirt", "torso", "belt"),
    3: ("arm", "hand", "glove"),
    4: ("leg",),
    2: ("face", "head", "neck", "hat", "sunglasses", "skin"),
}
"""Our parsing labels, by words in the label names of others, the first that fits; else 9, other."""

NOTHING = ("background", "none", "nothing")
OTHER = 9


class PoseDetector:
    """A pose network of transformers with COCO's joints, such as ViTPose."""

    def __init__(self, where: str) -> None:
        """Load it from a folder, or a hub id that is in the local cache.

        Raises:
            MissingPart: not there.
            BadInput: it finds other joints than COCO's 17.
        """
        from transformers import VitPoseForPoseEstimation

        self.model, self.processor = _load(VitPoseForPoseEstimation, where)
        if self.model.config.num_labels != JOINTS:
            raise BadInput(
                f"{where}: expected a pose network with {JOINTS} joints, got "
                f"{self.model.config.num_labels}"
            )

    @torch.no_grad()
    def joints(self, picture: Rgb, people: Mapping[str, Mask]) -> dict[str, tuple[Keypoint, ...]]:
        """Return the joints of each person that shows, visibility 2 where found, else 0."""
        shown = {name: mask for name, mask in people.items() if mask.any()}
        if not shown:
            return {}
        boxes = [[_span(mask) for mask in shown.values()]]
        inputs = self.processor(Image.fromarray(picture), boxes=boxes, return_tensors="pt")
        outputs = self.model(**inputs)
        found = self.processor.post_process_pose_estimation(outputs, boxes=boxes)[0]
        return {name: _joints(one) for name, one in zip(shown, found, strict=True)}


class ParsingDetector:
    """A semantic segmentation network of transformers that knows clothes or body parts."""

    def __init__(self, where: str) -> None:
        """Load it from a folder, or a hub id that is in the local cache.

        Raises:
            MissingPart: not there.
            BadInput: none of its labels is a body part or a garment.
        """
        from transformers import AutoModelForSemanticSegmentation

        self.model, self.processor = _load(AutoModelForSemanticSegmentation, where)
        names = {int(key): str(name) for key, name in self.model.config.id2label.items()}
        self.table = np.array([part_of(names[key]) for key in sorted(names)], np.uint8)
        if not set(self.table) & set(WORDS):
            raise BadInput(
                f"{where}: expected labels of body parts or clothes, got "
                f"{', '.join(list(names.values())[:4])}"
            )

    @torch.no_grad()
    def parts(self, picture: Rgb, visible: Mask) -> Grey:
        """Return a person's parsing map, uint8 height x width; 0 where the person does not show."""
        box = person_box(torch.from_numpy(visible), MARGIN)
        seen = cut(torch.from_numpy(picture.copy()).permute(2, 0, 1), box).permute(1, 2, 0).numpy()
        inputs = self.processor(Image.fromarray(np.ascontiguousarray(seen)), return_tensors="pt")
        outputs = self.model(**inputs)
        labels = self.processor.post_process_semantic_segmentation(
            outputs, target_sizes=[(box.side, box.side)]
        )[0]
        ours = self.table[labels.numpy()]
        return _placed(ours, (box.top, box.left), visible)


def detected(
    given: MildInput, pose: PoseDetector | None, parsing: ParsingDetector | None
) -> MildInput:
    """Return the input with priors from networks in place of its own; none of a kind without."""
    people = {name: given.visible(name) for name in given.person_ids}
    shown = {name: mask for name, mask in people.items() if mask.any()}
    return replace(
        given,
        keypoints={} if pose is None else pose.joints(given.picture, shown),
        parts={}
        if parsing is None
        else {name: parsing.parts(given.picture, mask) for name, mask in shown.items()},
    )


def part_of(label: str) -> int:
    """Return our parsing label for the name of another network's."""
    words = label.lower().replace("_", " ").replace("-", " ")
    if words in NOTHING:
        return 0
    fitting = [part for part, names in WORDS.items() if any(name in words for name in names)]
    return fitting[0] if fitting else OTHER


def _load(model_class: Any, where: str) -> tuple[Any, Any]:
    from transformers import AutoImageProcessor

    try:
        model, info = model_class.from_pretrained(
            where, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        processor = AutoImageProcessor.from_pretrained(where, local_files_only=True)
    except (OSError, ValueError) as error:
        raise MissingPart(
            f"{where}: no network of transformers there or in the cache "
            f"({' '.join(str(error).split())[:160]}); run 'hf download {where}' first"
        ) from error
    if missing := sorted(info["missing_keys"]):
        raise BadInput(
            f"{where}: the weights lack {len(missing)} of the network's parameters "
            f"({missing[0]}, ...), which would be random; fetch it again"
        )
    return model.eval(), processor


def _span(mask: Mask) -> list[float]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [
        float(columns[0]), float(rows[0]),
        float(columns[-1] - columns[0] + 1), float(rows[-1] - rows[0] + 1),
    ]  # fmt: skip


def _joints(found: Mapping[str, Any]) -> tuple[Keypoint, ...]:
    points = [(0.0, 0.0, 0)] * JOINTS
    for joint, (x, y), score in zip(
        found["labels"].tolist(), found["keypoints"].tolist(), found["scores"].tolist(), strict=True
    ):
        if score >= SURE:
            points[joint] = (x + 0.5, y + 0.5, 2)
    return tuple(points)


def _placed(ours: npt.NDArray[np.uint8], corner: tuple[int, int], visible: Mask) -> Grey:
    """Put a box's labels into an empty frame, as far as the person shows."""
    height, width = visible.shape
    rows, columns = np.nonzero(visible)
    out = np.zeros((height, width), np.uint8)
    out[rows, columns] = ours[rows - corner[0], columns - corner[1]]
    return out
