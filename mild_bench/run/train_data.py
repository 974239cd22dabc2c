"""Joins the pool of composed scenes with what the learners want: pictures by number.

Example number n of a stage is a pure function of seed, stage and n, whatever process makes it:
training resumes by starting at another number.
"""

from __future__ import annotations

import functools
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mild_bench.curation.composing.pool import fill_pool, read_pooled, training_plates
from mild_bench.curation.composing.pool_workspace import TrainScenes, fill_from, train_scenes
from mild_bench.curation.composing.recipe import find_recipe, read_recipe
from mild_bench.errors import BadInput
from mild_bench.images import Mask, Rgb
from mild_bench.mild.train.augment import Augmentation, in_sight, middle, vary, vary_plate
from mild_bench.mild.train.samples import (
    Sample,
    Sizes,
    erase_samples,
    hole_sample,
    outlines_of,
    person_sample,
)
from mild_bench.run.train_settings import DataSettings, ModelSettings, StageName, StageSettings
from mild_bench.scene import Scene

STREAMS: dict[StageName, int] = {"autoencoder": 1, "base": 2, "layers": 3}
KEPT = 100  # scenes that a process keeps in memory


def own_scenes(settings: DataSettings) -> TrainScenes | None:
    """Return the scenes of the workspace that is named, None where they are to be composed.

    Raises:
        BadInput: no scenes, or some of another split than ``train``.
    """
    return None if settings.workspace is None else train_scenes(Path(settings.workspace))


def find_scenes(
    settings: DataSettings,
    folder: Path,
    *,
    seed: int,
    workers: int,
    own: TrainScenes | None = None,
) -> list[Path]:
    """Fill the pool of a training, or what of it is missing, and return its files.

    Args:
        settings: what to compose.
        folder: of the pool.
        seed: of the training.
        workers: processes.
        own: scenes to take instead.

    Raises:
        BadInput: a recipe of the test part, or a folder with other scenes.
    """
    if own is not None:
        return fill_from(own, folder, side=settings.size, workers=workers)
    recipe = read_recipe(find_recipe(settings.recipe), scenes=settings.scenes)
    if recipe.split != "train":
        raise BadInput(
            f"data.recipe: expected one of the train part, got {settings.recipe} (split "
            f"{recipe.split}): people and places of the test part are never learnt from"
        )
    recipe = recipe.model_copy(update={"size": settings.size, "seed": recipe.seed + seed})
    return fill_pool(recipe, folder, workers=workers)


@dataclass(frozen=True)
class Examples:
    """The examples of one stage, by number: a dataset for PyTorch's loader.

    Attributes:
        files: the pool.
        stage: which stage, and its settings.
        seed: of the training.
        kept: examples that will come again, by number.
    """

    files: tuple[Path, ...]
    stage: StageSettings
    data: DataSettings
    model: ModelSettings
    seed: int
    kept: dict[int, Any] = field(default_factory=dict)

    def __getitem__(self, number: int) -> Any:
        """Return example ``number``: a list of samples, or a picture for the autoencoder."""
        if not self.stage.distinct:
            return self._made(number)
        number %= self.stage.distinct
        if number not in self.kept:
            self.kept[number] = self._made(number)
        return self.kept[number]

    def _made(self, number: int) -> Any:
        rng = np.random.default_rng([self.seed, STREAMS[self.stage.stage], number])
        if self.stage.stage == "autoencoder":
            return self._picture(rng)
        if self.stage.stage == "base":
            return self._repair(rng)
        scene = vary(rng, self._scene(rng), self._how)
        return erase_samples(rng, scene, self._sizes, people=self.data.people)

    @property
    def _how(self) -> Augmentation:
        return Augmentation(self.data.colour, self.data.zoom, self.data.flip)

    @property
    def _sizes(self) -> Sizes:
        return Sizes(self.model.frame, self.model.crop, self.model.margin, self.stage.fill)

    def _scene(self, rng: np.random.Generator) -> Scene:
        return _read(self.files[int(rng.integers(len(self.files)))])

    def _plate(self, rng: np.random.Generator) -> Rgb:
        """Return a photograph without people: the package's, or one of the workspace's."""
        return _plate(rng) if self.data.workspace is None else self._scene(rng).plate

    def _picture(self, rng: np.random.Generator) -> Rgb:
        """Half of them parts of photographs, a third of scenes, a sixth people on grey."""
        side = self.stage.crop
        kind = rng.random()
        if kind < 1 / 2:
            return _sized(vary_plate(rng, self._plate(rng), side, self._how), side)
        scene = vary(rng, self._scene(rng), self._how)
        people = in_sight(scene)
        if kind < 5 / 6 or not people:
            picture = scene.recompose()
            return _sized(vary_plate(rng, picture, side * 2 // 3, Augmentation(0, 1, False)), side)
        sizes = Sizes(side, side, self.model.margin)
        truth = person_sample(rng, scene, people[int(rng.integers(len(people)))], sizes).truth
        return np.asarray((truth.float().permute(1, 2, 0) * 255).round().byte().numpy())

    def _repair(self, rng: np.random.Generator) -> list[Sample]:
        """A third each: holes in photographs, holes in scenes with people, people erased.

        Every second example has one person on grey to complete as well.
        """
        kind = rng.random()
        scene = vary(rng, self._scene(rng), self._how)
        people = in_sight(scene)
        more = []
        if people and self.data.people and rng.random() < 0.5:
            person = people[int(rng.integers(len(people)))]
            more = [person_sample(rng, scene, person, self._sizes)]
        if kind < 1 / 3:
            return [*erase_samples(rng, scene, self._sizes, people=0), *more]
        outlines: list[Mask] = outlines_of(self._scene(rng))
        picture = scene.recompose()
        if kind < 2 / 3:
            picture = vary_plate(rng, self._plate(rng), self.model.frame * 2 // 3, self._how)
        return [hole_sample(rng, picture, self._sizes, outlines), *more]


def batches(
    examples: Examples, *, start: int, stop: int, process: int, processes: int, workers: int
) -> Iterator[list[Any]]:
    """Yield the batches of forward passes ``start`` to ``stop`` for one process, in order."""
    import torch
    from torch.utils.data import DataLoader

    size = examples.stage.batch
    numbers = [
        [(step * processes + process) * size + row for row in range(size)]
        for step in range(start, stop)
    ]
    loader: DataLoader[Any] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_sampler=numbers,
        collate_fn=pickle.dumps,  # as bytes: thousands of small tensors use up file handles
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_one_thread if workers else None,
        generator=torch.Generator().manual_seed(0),
    )
    for data in loader:
        yield pickle.loads(data)


def validation_scenes(files: Sequence[Path], count: int) -> list[Scene]:
    """Return the squares in the first scenes of a pool, for readings that can be compared."""
    return [middle(_read(file)) for file in files[:count]]


def _one_thread(_worker: int) -> None:
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)


@functools.lru_cache(maxsize=KEPT)
def _read(file: Path) -> Scene:
    return read_pooled(file)


@functools.cache
def _plates() -> list[Rgb]:
    return training_plates()


def _plate(rng: np.random.Generator) -> Rgb:
    return _plates()[int(rng.integers(len(_plates())))]


def _sized(picture: Rgb, side: int) -> Rgb:
    import cv2

    how = cv2.INTER_AREA if picture.shape[0] > side else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, (side, side), interpolation=how), np.uint8)
