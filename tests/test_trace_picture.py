"""The picture of a trace: every number in its place, readable, the same bytes each time."""

from __future__ import annotations

import io
import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb
from mild_bench.metrics.cag.layer_names import runs, short_names
from mild_bench.metrics.cag.layer_rows import layer_rows
from mild_bench.metrics.cag.picture import colour_scale, draw_trace, trace_picture
from mild_bench.metrics.cag.readings import COLUMNS
from mild_bench.metrics.cag.trace import LeakageMap, Trace

MOST = 24
Layers = list[tuple[str, int]]


def unet(blocks: list[tuple[str, int, int, int]]) -> Layers:
    """Layers by (block, attentions, transformer blocks in each, side of the grid)."""
    return [
        (f"{block}.attentions.{n}.transformer_blocks.{m}.attn1", side)
        for block, attentions, depth, side in blocks
        for n in range(attentions)
        for m in range(depth)
    ]


SD15 = unet([
    ("down_blocks.0", 2, 1, 16), ("down_blocks.1", 2, 1, 8), ("down_blocks.2", 2, 1, 4),
    ("mid_block", 1, 1, 2), ("up_blocks.1", 3, 1, 4), ("up_blocks.2", 3, 1, 8),
    ("up_blocks.3", 3, 1, 16),
])  # fmt: skip
SDXL = unet([
    ("down_blocks.1", 2, 2, 16), ("down_blocks.2", 2, 10, 8), ("mid_block", 1, 10, 8),
    ("up_blocks.0", 3, 10, 8), ("up_blocks.1", 3, 2, 16),
])  # fmt: skip
FLUX = [(f"transformer_blocks.{n}.attn", 16) for n in range(19)]
FLUX += [(f"single_transformer_blocks.{n}.attn", 16) for n in range(38)]
TINY = unet([("down_blocks.0", 1, 1, 8), ("mid_block", 1, 1, 4), ("up_blocks.0", 2, 1, 8)])
MODELS = {"sd15": SD15, "sdxl": SDXL, "flux": FLUX, "tiny": TINY}


def made_up(
    layers: Layers,
    *,
    steps: int = 3,
    people: tuple[str, ...] = ("ann", "ben"),
    text: bool = False,
    blind_below: int = 0,
    size: tuple[int, int] = (64, 96),
) -> Trace:
    """A trace with random numbers; grids of fewer than ``blind_below`` rows have none."""
    rng = np.random.default_rng(0)
    groups = ("background", *people, "text", "padding")
    known = len(people) + (2 if text else 1)
    rows, matrices = [], []
    for step in range(steps):
        for layer, side in layers:
            for part in ("uncond", "cond"):
                blind = side < blind_below
                leakage = math.nan if blind else float(rng.uniform(0.1, 0.6))
                rows.append({
                    "layer": layer, "step": step, "timestep": 1.0, "part": part, "head": 0,
                    "height": side, "width": side * size[1] // size[0], "background": 1,
                    "people": 1, "region": 1, "leakage": leakage, "cag": -leakage,
                    "logit_gap": 0.0, "margin": math.nan,
                    "reason": "no token is a person" if blind else "",
                })  # fmt: skip
                matrix = np.full((len(groups), len(groups)), np.nan)
                matrix[:known, :known] = rng.dirichlet(np.ones(known), size=known)
                matrices.append(matrix)
    columns = {name: np.array([row[name] for row in rows]) for name in COLUMNS}
    maps = [
        LeakageMap(part, side, 2 * side, size[0] / side, size[1] / (2 * side),
                   rng.uniform(0, 0.5, (side, 2 * side)).astype(np.float32))
        for side in sorted({side for _, side in layers})
        for part in ("uncond", "cond")
    ]  # fmt: skip
    return Trace(columns, np.array(matrices), groups, {}, maps=tuple(maps), erased=people[:1])


def picture_of(size: tuple[int, int] = (64, 96)) -> tuple[Rgb, Mask]:
    picture = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    hole = np.zeros(size, dtype=bool)
    hole[10:40, 20:] = True  # touches the frame
    return picture, hole


def nothing_read() -> Trace:
    columns = {name: np.array([]) for name in COLUMNS}
    skipped = {"mid": "SlicedAttnProcessor does not call scaled_dot_product_attention"}
    return Trace(columns, np.zeros((0, 4, 4)), ("background", "ann", "text", "padding"), skipped)


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_same_bytes_each_time_and_other_bytes_for_other_numbers() -> None:
    trace, (picture, hole) = made_up(TINY), picture_of()
    data = trace_picture(trace, picture, hole)
    assert data == trace_picture(trace, picture, hole)
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG" and 1400 <= image.width <= 1600
    trace.columns["leakage"][1] += 0.2  # a row of the shown half
    assert data != trace_picture(trace, picture, hole)


def test_it_shows_the_half_that_follows_the_prompt_and_the_numbers_of_its_rows() -> None:
    trace, (picture, hole) = made_up(TINY), picture_of()
    shown = trace.where(part="cond")
    figure = draw_trace(trace, picture, hole)
    heat, matrix, spatial = figure.axes[:3]
    table = np.asarray(heat.images[0].get_array())
    expected = trace.where(part="cond").mean_by("layer", "step")
    for row, (layer, _) in enumerate(TINY):
        assert table[row].tolist() == [expected[layer, step] for step in range(3)]
    cells = [text.get_text() for text in matrix.texts]
    means = shown.summary().matrix[:3, :3].ravel()
    assert [float(cell) for cell in cells] == pytest.approx(means.tolist(), abs=0.006)
    assert "8×16" in spatial.get_title(loc="left")
    summary = shown.summary()
    title = figure.get_suptitle()
    assert f"leakage {summary.leakage:.3f}" in title
    assert f"CAG −{abs(summary.cag):.2f} nats" in title
    assert f"peak step {summary.peak_step} of 0–2" in title
    assert "ann (erased)" in words(figure) and "ben (stays)" in words(figure)


def test_spatial_panel_puts_tokens_where_they_are() -> None:
    trace, hole = made_up(TINY, size=(64, 128)), np.zeros((64, 128), dtype=bool)
    values = np.zeros((8, 16), dtype=np.float32)
    values[2, 9] = 0.5
    fine = LeakageMap("cond", 8, 16, 8.0, 8.0, values)
    trace = Trace(trace.columns, trace.matrices, trace.groups, {}, maps=(fine,))
    figure = draw_trace(trace, np.full((64, 128, 3), 255, dtype=np.uint8), hole)
    drawn = np.asarray(figure.axes[2].images[0].get_array())
    dark = drawn.sum(axis=2) < drawn.sum(axis=2).max()
    expected = np.zeros((64, 128), dtype=bool)
    expected[16:24, 72:80] = True
    assert (dark == expected).all()


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of neighbouring tick labels whose boxes meet, upright ones."""
    figure.canvas.draw()
    found = []
    for axes in figure.axes[:3]:
        for labels in (axes.get_yticklabels(), axes.get_xticklabels()):
            upright = [one for one in labels if one.get_text() and not one.get_rotation()]
            boxes = [(one.get_text(), one.get_window_extent()) for one in upright]
            found += [(a, b) for (a, one), (b, two) in pairwise(boxes) if one.overlaps(two)]
    return found


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("people", [1, 6])
def test_labels_do_not_run_into_each_other(model: str, people: int) -> None:
    names = tuple(f"person-{n}" for n in range(people))
    trace = made_up(MODELS[model], steps=50, people=names, text=model == "flux", blind_below=4)
    figure = draw_trace(trace, *picture_of())
    assert overlapping(figure) == []
    assert len(figure.axes[0].get_yticks()) <= MOST


def test_rows_without_a_value_are_grey_with_a_note() -> None:
    picture, hole = picture_of()
    figure = draw_trace(made_up(SD15, blind_below=5), picture, hole)
    table = figure.axes[0].images[0].get_array()
    assert np.ma.getmaskarray(table).any(axis=1).sum() == 6  # 4 x 4 and 2 x 2 tokens
    assert "grey: no value (no token is a person)" in words(figure)
    none = draw_trace(made_up(SD15, blind_below=99), picture, hole)
    assert "no CAG" in words(none) and "no token is a person" in words(none)


def test_a_trace_without_rows_says_why() -> None:
    picture, hole = picture_of()
    said = words(draw_trace(nothing_read(), picture, hole)).replace("\n", " ")
    assert "SlicedAttnProcessor does not call" in said
    assert trace_picture(nothing_read(), picture, np.zeros_like(hole))


def test_a_mask_of_another_shape_is_refused() -> None:
    picture, hole = picture_of()
    with pytest.raises(BadInput, match=r"hole: expected 64 x 96 as the picture, got 10 x 96"):
        trace_picture(made_up(TINY), picture, hole[:10])


@given(
    st.lists(st.floats(0, 1, width=32), min_size=1, max_size=9),
    st.lists(st.floats(0, 1, width=32), max_size=4),
)
@settings(deadline=None)
def test_scale_holds_all_values_and_has_a_width(first: list[float], second: list[float]) -> None:
    finest = LeakageMap("all", 1, len(second), 1, 1, np.array([second], dtype=np.float32))
    scale: Any = colour_scale(np.array([first]), finest if second else None)
    values = [*first, *second]
    assert 0 <= scale.vmin <= min(values) + 1e-9 and max(values) - 1e-9 <= scale.vmax <= 1
    assert scale.vmax > scale.vmin


@pytest.mark.parametrize("model", list(MODELS))
def test_short_names_are_different_and_keep_their_order(model: str) -> None:
    layers = [layer for layer, _ in MODELS[model]]
    names = short_names(layers)
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 10


def test_short_names_read_as_the_model_is_built() -> None:
    names = short_names([layer for layer, _ in SD15])
    assert names[:3] == ["down 0.0", "down 0.1", "down 1.0"]
    assert names[6] == "mid" and names[-1] == "up 3.2"
    twice = ["transformer_blocks.0.attn", "transformer_blocks.0.attn2", "transformer_blocks.1.attn"]
    assert short_names(twice) == ["block 0 attn", "block 0 attn2", "block 1"]


@pytest.mark.parametrize("model", list(MODELS))
@given(most=st.integers(5, 80))
@settings(deadline=None, max_examples=20)
def test_runs_follow_each_other_and_never_mix_grids(model: str, most: int) -> None:
    layers, sides = zip(*MODELS[model], strict=True)
    found = runs(layers, [(side, side) for side in sides], most)
    assert [run.start for run in found] == [0, *(run.stop for run in found[:-1])]
    assert found[-1].stop == len(layers)
    assert len({run.label for run in found}) == len(found)
    assert all(len(set(sides[run.start : run.stop])) == 1 for run in found)
    if len(layers) <= most:
        assert len(found) == len(layers)


def test_layers_stand_in_the_order_they_ran() -> None:
    rows = layer_rows(made_up(SDXL).where(part="cond"))
    assert rows.layers == [layer for layer, _ in SDXL]
    assert rows.sizes[0] == (16, 24) and rows.leakage.shape == (70, 3)
