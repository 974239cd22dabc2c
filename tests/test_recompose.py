"""Recomposing equals the plain formula over the whole frame, to the byte."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from mild_bench.scene import Layer, Scene

SHAPE = (24, 32)


def plain(scene: Scene, without: set[str]) -> npt.NDArray[np.uint8]:
    layers = [layer for layer in scene.layers if layer.layer_id not in without]
    cast = np.ones(SHAPE, np.float32)
    contact = np.ones(SHAPE, np.float32)
    for layer in layers:
        if layer.effect is not None:
            left = 1 - layer.effect.astype(np.float32) / np.float32(255)
            cast, contact = np.minimum(cast, left[..., 0]), contact * left[..., 1]
    canvas = scene.plate.astype(np.float32) * (cast * contact)[..., None]
    for layer in layers:
        alpha = layer.alpha[..., None]
        canvas = canvas * (1 - alpha) + layer.rgba[..., :3].astype(np.float32) * alpha
    return np.floor(canvas + np.float32(0.5)).clip(0, 255).astype(np.uint8)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers = []
    for number in range(draw(st.integers(0, 4))):
        rgba = rng.integers(0, 256, (*SHAPE, 4)).astype(np.uint8)
        top, left = draw(st.integers(0, SHAPE[0])), draw(st.integers(0, SHAPE[1]))
        rgba[:top, :, 3] = 0
        rgba[:, left:, 3] = 0
        effect = rng.integers(0, 256, (*SHAPE, 2)).astype(np.uint8) if draw(st.booleans()) else None
        layers.append(Layer(f"p{number}", "person", rgba, effect=effect))
    plate = rng.integers(0, 256, (*SHAPE, 3)).astype(np.uint8)
    return Scene("s", "test", "g", "exact", plate, tuple(layers))


@settings(max_examples=60, deadline=None)
@given(scenes(), st.sets(st.sampled_from(["p0", "p1", "p2", "p3"])))
def test_recompose_is_the_plain_formula(scene: Scene, without: set[str]) -> None:
    assert np.array_equal(scene.recompose(without), plain(scene, without))
