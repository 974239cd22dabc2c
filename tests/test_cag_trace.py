"""A trace's maps, names and file: what was read comes back, from the same bytes."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tiny_pipelines import make_pipeline
from torch.nn.functional import scaled_dot_product_attention

from mild_bench.errors import BadInput
from mild_bench.metrics.cag.probe import GUIDED, AttentionProbe, probe_pipeline
from mild_bench.metrics.cag.regions import Grid, Regions
from mild_bench.metrics.cag.trace import COLUMNS, TEXT, WHOLE, LeakageMap, Trace
from mild_bench.metrics.cag.trace_file import read_trace, trace_bytes

SIZE = (32, 48)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: threads would only wait for each other
    yield
    torch.set_num_threads(before)


def two_people(**settings_: Any) -> Regions:
    people = np.zeros((2, *SIZE), dtype=bool)
    people[0, :16, :16] = people[1, 8:24, 24:40] = True
    return Regions(people, **settings_)


class Maps(torch.overrides.TorchFunctionMode):
    """Materialises the softmax of every self-attention call, head by head."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {**dict(zip(("query", "key"), args, strict=False)), **(kwargs or {})}
        if func is scaled_dot_product_attention and given["key"].shape == given["query"].shape:
            logits = given["query"].double() @ given["key"].double().transpose(-1, -2)
            self.seen.append((logits * given["query"].shape[-1] ** -0.5).softmax(dim=-1))
        return func(*args, **(kwargs or {}))


def unet() -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16, attention_head_dim=(2, 4),
    ).eval()  # fmt: skip


@torch.no_grad()
def test_maps_are_means_of_materialised_maps_over_layers_heads_and_steps() -> None:
    model, regions = unet(), two_people()
    inputs = [torch.randn(4, 4, 8, 12, generator=torch.Generator().manual_seed(n)) for n in (0, 1)]
    context = torch.randn(4, 5, 16, generator=torch.Generator().manual_seed(9))
    with AttentionProbe(model, regions, parts=GUIDED) as probe:
        for step, sample in enumerate(inputs):
            model(sample, step, encoder_hidden_states=context)
    with Maps() as maps:
        for step, sample in enumerate(inputs):
            model(sample, step, encoder_hidden_states=context)
    trace = probe.trace()
    shapes = {(one.part, one.height, one.width) for one in trace.maps}
    assert shapes == {(part, 2 * n, 3 * n) for part in GUIDED for n in (2, 4)}
    for one in trace.maps:
        cells = Grid(one.height, one.width, one.cell_height, one.cell_width)
        assert cells.cell_height * cells.height == SIZE[0]
        people = torch.from_numpy(regions.on(cells).labels > 0)
        rows = [found for found in maps.seen if found.shape[-1] == len(people)]
        pictures = slice(0, 2) if one.part == "uncond" else slice(2, 4)
        want = torch.cat([row[pictures][..., people].sum(-1).mean(0) for row in rows]).mean(0)
        assert one.values.dtype == np.float32
        assert np.allclose(one.values.ravel(), want.numpy(), rtol=1e-5)
    only = trace.where(part="cond")
    assert {one.part for one in only.maps} == {"cond"}
    assert len(trace.where(part="cond", height=8).maps) == 1
    assert not trace.where(step=1).maps, "a map is a mean over steps"


@pytest.mark.parametrize("family", ["sd3", "flux-fill", "kandinsky"])
def test_text_is_not_on_the_map(family: str, tmp_path: Path) -> None:
    from diffusers import DiffusionPipeline
    from PIL import Image

    pipeline = DiffusionPipeline.from_pretrained(make_pipeline(tmp_path / family, family))
    pipeline.set_progress_bar_config(disable=True)
    regions = two_people()
    hole = Image.fromarray((regions.people.any(axis=0) * 255).astype(np.uint8))
    with probe_pipeline(pipeline, regions) as probe:
        pipeline(
            prompt="a wall", image=Image.new("RGB", SIZE[::-1]), mask_image=hole, strength=1.0,
            height=SIZE[0], width=SIZE[1], num_inference_steps=2,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
    trace = probe.trace()
    assert trace.maps
    for one in trace.maps:
        rows = trace.where(part=one.part, height=one.height)
        on_people = rows.matrices[:, :3, 1:3].sum(-1).mean(0)  # by the group of the query
        labels = regions.on(Grid(one.height, one.width, one.cell_height, one.cell_width)).labels
        for group in range(3):
            mean = one.values.ravel()[labels == group].mean()
            assert mean == pytest.approx(on_people[group], rel=1e-4)


@torch.no_grad()
def test_a_person_outside_the_frame_keeps_the_place_in_the_names() -> None:
    model, seen = unet(), two_people()
    people = np.stack([seen.people[0], np.zeros(SIZE, bool), seen.people[1]])
    names = ("ann", "ben", "cy")
    sample = torch.randn(1, 4, 8, 12, generator=torch.Generator().manual_seed(0))
    context = torch.zeros(1, 5, 16)
    traces = []
    for regions in (seen, Regions(people, names=names, erased=("ann", "ben"), threshold=0.4)):
        with AttentionProbe(model, regions) as probe:
            model(sample, 0, encoder_hidden_states=context)
        traces.append(probe.trace())
    two, three = traces
    assert two.groups[1:3] == ("person 1", "person 2")
    assert three.groups == ("background", *names, "text", "padding")
    assert (three.erased, three.threshold) == (("ann", "ben"), 0.4)
    assert np.isnan(three.matrices[:, 2]).all() and np.isnan(three.matrices[:, :, 2]).all()
    kept = [0, 1, 3]
    assert np.allclose(three.matrices[:, kept][:, :, kept], two.matrices[:, :3, :3], atol=1e-6)
    assert np.allclose(three.maps[0].values, two.maps[0].values, atol=1e-6)


def test_nobody_on_a_grid_is_no_map() -> None:
    people = np.zeros((1, *SIZE), dtype=bool)
    people[0, :4, :4] = True  # one token of the finest grid only
    with torch.no_grad(), AttentionProbe(unet(), Regions(people)) as probe:
        probe.model(torch.zeros(1, 4, 8, 12), 0, encoder_hidden_states=torch.zeros(1, 5, 16))
    assert [one.height for one in probe.trace().maps] == [8]


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"names": ("ann",)}, "names: expected 2 different ones"),
        ({"names": ("ann", "ann")}, "names: expected 2 different ones"),
        ({"names": ("ann", "ben"), "erased": ("cy",)}, r"erased: expected any of .*, got \['cy'\]"),
    ],
)
def test_names_that_do_not_fit_are_refused(odd: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        two_people(**odd)


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8)


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    rows, names = (
        draw(st.integers(0, 4)),
        draw(st.lists(words, min_size=1, max_size=3, unique=True)),
    )
    groups = ("background", *names, "text", "padding")
    real = st.floats(width=32)

    def column(name: str) -> np.ndarray[Any, Any]:
        if name in TEXT:
            return np.array(draw(st.lists(words, min_size=rows, max_size=rows)), dtype=np.str_)
        if name in WHOLE:
            return draw(arrays.arrays(np.int64, rows, elements=st.integers(0, 2**31 - 1)))
        return draw(arrays.arrays(np.float64, rows, elements=real))

    sides = st.tuples(st.integers(1, 4), st.integers(1, 4))
    maps = tuple(
        LeakageMap(
            draw(words), *shape, draw(st.floats(0.1, 64)), draw(st.floats(0.1, 64)),
            draw(arrays.arrays(np.float32, shape, elements=real)),
        )
        for shape in draw(st.lists(sides, max_size=3))
    )  # fmt: skip
    return Trace(
        {name: column(name) for name in COLUMNS},
        draw(arrays.arrays(np.float64, (rows, len(groups), len(groups)), elements=real)),
        groups,
        draw(st.dictionaries(words, words, max_size=3)),
        maps=maps,
        erased=tuple(names[: draw(st.integers(0, len(names)))]),
        threshold=draw(st.floats(0.01, 1)),
    )


def assert_same(one: Trace, other: Trace) -> None:
    assert list(one.columns) == list(other.columns)
    for name, column in one.columns.items():
        np.testing.assert_array_equal(column, other.columns[name])
        assert column.dtype.kind == other.columns[name].dtype.kind
    np.testing.assert_array_equal(one.matrices, other.matrices)
    for mine, yours in zip(one.maps, other.maps, strict=True):
        np.testing.assert_array_equal(mine.values, yours.values)
        assert {**vars(mine), "values": 0} == {**vars(yours), "values": 0}
    for name in ("groups", "skipped", "erased", "threshold"):
        assert getattr(one, name) == getattr(other, name)


@settings(max_examples=60, deadline=None)
@given(trace=traces())
def test_what_was_saved_comes_back_and_the_same_trace_is_the_same_bytes(trace: Trace) -> None:
    data = trace_bytes(trace)
    back = read_trace(data, name="trace")
    assert_same(back, trace)
    assert trace_bytes(back) == data == trace_bytes(trace)


def test_numbers_are_kept_as_float32_and_chosen_rows_as_if_there_were_no_others(
    tmp_path: Path,
) -> None:
    with torch.no_grad(), AttentionProbe(unet(), two_people(), parts=GUIDED) as probe:
        probe.model(torch.zeros(2, 4, 8, 12), 0, encoder_hidden_states=torch.zeros(2, 5, 16))
    trace = probe.trace().where(part="cond", height=4)
    trace.save(tmp_path / "trace.npz")
    back = Trace.load(tmp_path / "trace.npz")
    assert trace_bytes(back) == (tmp_path / "trace.npz").read_bytes()
    assert back.summary().cag == pytest.approx(trace.summary().cag, rel=1e-6)
    with np.load(tmp_path / "trace.npz", allow_pickle=False) as file:
        assert file["leakage"].mean() == pytest.approx(trace.summary().leakage, rel=1e-6)
        assert file["matrices"].dtype == file["map_0"].dtype == np.float32
        assert file["layer"].dtype.itemsize == 4 * max(map(len, trace.columns["layer"].tolist()))


def test_what_is_no_trace_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.npz"
    with pytest.raises(BadInput, match="no trace could be read"):
        Trace.load(path)
    pickle, other = io.BytesIO(), io.BytesIO()
    np.savez(pickle, schema=np.array([{}], dtype=object))
    np.savez(other, schema=np.array(99))
    with torch.no_grad(), AttentionProbe(unet(), two_people()) as probe:
        probe.model(torch.zeros(1, 4, 8, 12), 0, encoder_hidden_states=torch.zeros(1, 5, 16))
    whole = trace_bytes(probe.trace())
    short = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(short, "w") as new:
        for name in old.namelist():
            content = io.BytesIO(old.read(name))
            array = np.load(content)
            content = io.BytesIO()
            np.save(content, array[1:] if name == "cag.npy" else array)
            new.writestr(name, content.getvalue())
    for data in (
        b"", b"PK", b"text", whole[:-40], whole[: len(whole) // 2], pickle.getvalue(),
        other.getvalue(), short.getvalue(), whole.replace(b"matrices", b"matricks"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(BadInput, match=r"trace\.npz: expected a trace of --probe cag, got"):
            Trace.load(path)
