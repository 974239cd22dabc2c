"""Guidance: tokens of any priors, priors made worse on purpose, priors from networks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from tiny_mild import make_input
from tiny_pipelines import WIDTH, _unet

from mild_bench.errors import BadInput, MissingPart
from mild_bench.mild.degrading import MIRRORED, Degradation, degraded
from mild_bench.mild.detecting import ParsingDetector, PoseDetector, detected, part_of
from mild_bench.mild.hmg import MODES, HumanMorphologyGuidance
from mild_bench.mild.hmg_maps import GuidanceMaps, draw_pose
from mild_bench.mild.priors import NOBODY, Priors


@pytest.fixture(scope="module")
def hmg() -> HumanMorphologyGuidance:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return HumanMorphologyGuidance(WIDTH, 8, width=16).eval()


def some_priors(people: int, *, parts: bool = True, seed: int = 0) -> Priors:
    draw = torch.Generator().manual_seed(seed)
    points = torch.rand(people, 17, 3, generator=draw)
    points[..., 2] = torch.randint(0, 3, (people, 17), generator=draw)
    labels = torch.randint(0, 10, (40, 30), generator=draw) if parts else None
    return Priors(torch.rand(40, 30, generator=draw).round(), points if people else NOBODY, labels)


@pytest.mark.parametrize(
    ("mode", "counts"),
    [("none", [1, 1]), ("pose", [17 * 2 + 16, 1 + 16]), ("parsing", [16 + 16, 1 + 16]),
     ("both", [17 * 2 + 16 + 16, 1 + 1 + 16])],
)  # fmt: skip
def test_tokens_of_each_mode(hmg: HumanMorphologyGuidance, mode: Any, counts: list[int]) -> None:
    """What is not known is one null token."""
    tokens, is_token = hmg([some_priors(2), some_priors(0, parts=False)], mode)
    assert tokens.shape == (2, max(counts), WIDTH)
    assert is_token.sum(dim=1).tolist() == counts
    assert (tokens[~is_token] == 0).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_branch_does_not_depend_on_its_neighbours(
    hmg: HumanMorphologyGuidance, mode: Any
) -> None:
    rows = [some_priors(2), some_priors(0, parts=False), some_priors(1, seed=1)]
    together, is_token = hmg(rows, mode)
    for number, row in enumerate(rows):
        alone, _ = hmg([row], mode)
        assert torch.allclose(together[number][is_token[number]], alone[0], atol=1e-5)


def test_null_tokens_tell_what_lacks(hmg: HumanMorphologyGuidance) -> None:
    rows = [some_priors(0, parts=False)]
    nulls = [hmg(rows, "none")[0][0, 0], *hmg(rows, "both")[0][0, :2]]
    for number, one in enumerate(nulls):
        assert all(not torch.equal(one, other) for other in nulls[number + 1 :])


def test_joints_that_are_not_known_have_no_place(hmg: HumanMorphologyGuidance) -> None:
    near, far = (
        Priors(
            torch.zeros(8, 8), torch.tensor([[place, place, 0.0]]).repeat(1, 17, 1).view(1, 17, 3)
        )
        for place in (0.1, 0.9)
    )
    assert torch.equal(hmg([near], "pose")[0], hmg([far], "pose")[0])


def test_untrained_maps_add_nothing(hmg: HumanMorphologyGuidance) -> None:
    for mode in MODES:
        drawn = hmg.draw([some_priors(2)], (10, 12), mode)
        assert drawn is None if mode == "none" else bool((drawn == 0).all())


@pytest.mark.parametrize(
    ("mode", "told"), [("pose", (1, 0)), ("parsing", (0, 1)), ("both", (1, 1))]
)
def test_maps_tell_what_the_mode_asks_for(
    hmg: HumanMorphologyGuidance, mode: Any, told: tuple[int, int]
) -> None:
    """Other joints or parts change the maps exactly where the mode shows them."""
    maps = GuidanceMaps(4, width=8)
    maps.conv_out.weight.data.fill_(0.1)
    base = some_priors(2)
    shown = {"pose": mode in ("pose", "both"), "parsing": mode in ("parsing", "both")}
    assert base.parts is not None
    others = (
        replace(base, keypoints=base.keypoints.flip(0, 1)),
        replace(base, parts=(base.parts + 1) % 10),
        replace(base, others=torch.ones(40, 30)),
    )
    first = maps([base], (20, 15), **shown)
    changed = [not torch.allclose(first, maps([one], (20, 15), **shown)) for one in others]
    assert changed == [bool(told[0]), bool(told[1]), True]


@settings(max_examples=20, deadline=None)
@drawn(x=st.integers(0, 31), y=st.integers(0, 23), joint=st.integers(0, 16))
def test_joints_are_drawn_where_they_are(x: int, y: int, joint: int) -> None:
    points = torch.zeros(1, 17, 3)
    points[0, joint] = torch.tensor([(x + 0.5) / 32, (y + 0.5) / 24, 1])
    maps = draw_pose(points, (24, 32))
    assert divmod(int(maps[joint].argmax()), 32) == (y, x)
    assert maps[joint].max() == pytest.approx(1)
    rest = [number for number in range(18) if number != joint]
    assert (maps[rest] == 0).all()  # no limb without both its ends


def test_limbs_reach_from_joint_to_joint() -> None:
    points = torch.zeros(2, 17, 3)
    points[1, 5], points[1, 6] = torch.tensor([[0.25, 0.5, 2], [0.75, 0.5, 1]])
    limbs = draw_pose(points, (64, 64))[17]
    assert limbs[32, 17:47].min() > 0.9
    assert limbs[32, 55] < 0.1
    assert limbs[10].max() < 0.1


def test_it_attaches_to_any_width_and_saves(tmp_path: Path) -> None:
    for width in (16, 48):
        made = HumanMorphologyGuidance.of(_unet(9, context=width))
        made.save_pretrained(tmp_path / str(width))
        loaded = HumanMorphologyGuidance.from_pretrained(tmp_path / str(width))
        rows = [some_priors(1)]
        assert torch.equal(made.eval()(rows)[0], loaded(rows)[0])
        assert loaded(rows)[0].shape[-1] == width
    assert (tmp_path / "16" / "diffusion_pytorch_model.safetensors").is_file()
    with pytest.raises(BadInput, match="one of none, pose, parsing, both, got 'all'"):
        made([some_priors(1)], "all")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((torch.zeros(1, 4, 4), NOBODY, None), "place: expected height x width"),
        ((torch.zeros(4, 4), torch.zeros(17, 3), None), "people x 17 x 3"),
        ((torch.zeros(4, 4), NOBODY, torch.full((4, 4), 10)), "labels below 10, got 10"),
        ((torch.zeros(4, 4), NOBODY, None, torch.zeros(4, 5)), "others: expected the shape"),
    ],
)
def test_priors_of_another_shape_are_refused(values: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Priors(*values)


def test_left_is_right_in_the_mirror() -> None:
    assert MIRRORED[:7] == (0, 2, 1, 4, 3, 6, 5)
    assert [MIRRORED[joint] for joint in MIRRORED] == list(range(17))


def worse(seed: int = 0, **how: Any) -> Any:
    return degraded(make_input(3), Degradation(**how), np.random.default_rng(seed))


def test_nothing_asked_nothing_changed() -> None:
    given, same = make_input(3), worse()
    assert same.keypoints == dict(given.keypoints)
    assert all(np.array_equal(same.parts[name], given.parts[name]) for name in given.parts)


@settings(max_examples=20, deadline=None)
@drawn(
    seed=st.integers(0, 1000), drop=st.floats(0, 1), jitter=st.floats(0, 20), swap=st.floats(0, 1)
)
def test_seeds_decide_the_damage(seed: int, drop: float, jitter: float, swap: float) -> None:
    first, again = (worse(seed, drop=drop, jitter=jitter, swap=swap) for _ in range(2))
    assert first.keypoints == again.keypoints
    assert first.parts.keys() == again.parts.keys()
    assert all(np.array_equal(first.parts[name], again.parts[name]) for name in first.parts)


def test_each_damage_does_what_it_says() -> None:
    given = make_input(3)
    assert worse(drop=1).keypoints == {}
    assert worse(drop=1).parts == {}
    swapped = worse(swap=1).keypoints["p1"]
    assert swapped == tuple(given.keypoints["p1"][joint] for joint in MIRRORED)
    shaken = np.array([worse(seed, jitter=4).keypoints["p1"] for seed in range(40)])
    moved = shaken[..., :2] - np.array(given.keypoints["p1"])[:, :2]
    assert moved.std() == pytest.approx(4, rel=0.1)
    assert abs(moved.mean()) < 0.5
    lost = [np.array(worse(seed, drop=0.25).keypoints["p1"])[:, 2] == 0 for seed in range(40)]
    assert np.mean(lost) == pytest.approx(0.25, abs=0.06)


def test_more_of_one_damage_leaves_the_others_alone() -> None:
    """Else a curve over one of them would be noise over all."""
    little, much = (np.array(worse(drop=0.3, jitter=px).keypoints["p1"]) for px in (1, 8))
    assert np.array_equal(little[:, 2] == 0, much[:, 2] == 0)


def test_what_is_hidden_is_not_seen() -> None:
    given = make_input(1)
    points = [
        (x, y, 1 if joint < 5 else 2) for joint, (x, y, _) in enumerate(given.keypoints["p1"])
    ]
    everything = np.full((80, 96), 5, np.uint8)
    known = type(given)(
        **{**given.__dict__, "keypoints": {"p1": tuple(points)}, "parts": {"p1": everything}}
    )
    seen = degraded(known, Degradation(seen_only=True), np.random.default_rng(0))
    assert [visible for _, _, visible in seen.keypoints["p1"]] == [0] * 5 + [2] * 12
    assert np.array_equal(seen.parts["p1"] > 0, given.people == 1)


@pytest.mark.parametrize("how", [{"drop": 1.1}, {"swap": -1}, {"jitter": -1}])
def test_impossible_damage_is_refused(how: dict[str, float]) -> None:
    with pytest.raises(BadInput, match=r"drop and swap in \[0, 1\]"):
        Degradation(**how)


LABELS = ("Background", "Hat", "Hair", "Upper-clothes", "Pants", "Left-shoe", "Face", "Left-leg",
          "Left-arm", "Bag")  # fmt: skip


def save_networks(folder: Path) -> tuple[str, str]:
    """Save a tiny ViTPose and a tiny SegFormer with the labels of a clothes data set."""
    import transformers as tf

    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = tf.VitPoseBackboneConfig(
            image_size=[64, 48], patch_size=[16, 16], hidden_size=32, num_hidden_layers=1,
            num_attention_heads=2, out_indices=[1],
        )  # fmt: skip
        pose = tf.VitPoseForPoseEstimation(
            tf.VitPoseConfig(backbone_config=backbone, num_labels=17)
        )
        parsing = tf.SegformerForSemanticSegmentation(
            tf.SegformerConfig(
                num_encoder_blocks=2,
                depths=[1, 1],
                sr_ratios=[2, 1],
                hidden_sizes=[8, 16],
                patch_sizes=[7, 3],
                strides=[4, 2],
                num_attention_heads=[1, 2],
                mlp_ratios=[2, 2],
                decoder_hidden_size=16,
                id2label=dict(enumerate(LABELS)),
            )
        )
    processors = (
        tf.VitPoseImageProcessor(size={"height": 64, "width": 48}),
        tf.SegformerImageProcessor(size={"height": 64, "width": 64}),
    )
    folders = (str(folder / "pose"), str(folder / "parsing"))
    for network, processor, where in zip((pose, parsing), processors, folders, strict=True):
        network.save_pretrained(where)
        processor.save_pretrained(where)
    return folders


def test_networks_find_priors(tmp_path: Path) -> None:
    pose, parsing = save_networks(tmp_path)
    given = make_input(2)
    found = detected(given, PoseDetector(pose), ParsingDetector(parsing))
    assert set(found.keypoints) == set(found.parts) == {"p1", "p2"}
    for name, points in found.keypoints.items():
        rows, columns = np.nonzero(given.visible(name))
        x, y, seen = np.array(points)[np.array(points)[:, 2] == 2].T
        assert len(points) == 17
        assert len(seen)
        assert (abs(x - columns.mean()) < 80).all()
        assert (abs(y - rows.mean()) < 80).all()
        assert (found.parts[name][~given.visible(name)] == 0).all()
        assert set(np.unique(found.parts[name])) <= {0, 1, 2, 3, 4, 5, 6, 8, 9}
    only = detected(given, PoseDetector(pose), None)
    assert only.parts == {}
    assert only.keypoints == found.keypoints


def test_labels_of_others_become_ours() -> None:
    assert [part_of(label) for label in LABELS] == [0, 2, 1, 5, 6, 8, 2, 4, 3, 9]


def test_networks_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingPart, match="run 'hf download"):
        PoseDetector(str(tmp_path))
    with pytest.raises(MissingPart, match="no network of transformers"):
        ParsingDetector("nobody/nothing")
