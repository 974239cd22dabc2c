"""The model card of a training, and what goes with the weights: config, logs, curves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mild_bench.curation.composing.pack import load_pack
from mild_bench.curation.composing.pool_workspace import TrainScenes
from mild_bench.run.train_record import LOG, draw_curves, read_log
from mild_bench.run.train_settings import TrainSettings

RECORDS = "training"
"""In the pipeline's folder: config, logs and curves."""

PACK = "mild-bench-pack-train"
"""The asset pack's train part: not the test part that releases such as mild-mini are made of."""

INTRO = """# {name}: a small MILD

A layered eraser of people: a clean background, and a complete RGBA layer for each erased person.
It is our reading of *MILD: Multi-Layer Diffusion Strategy for Multi-Instance Human Erasing*
([arXiv 2508.06543](https://arxiv.org/abs/2508.06543)), not the authors' model, and its numbers are
not theirs.

```python
from mild_bench.mild.pipeline import MildPipeline

pipeline = MildPipeline.from_pretrained("FOLDER")
```

It needs the package `mild-bench`, whose `docs/mild.md` says what every part does."""

LIMITS = """## What it is for, and what not

For comparing parts of the method, for tests, and for trying out the toolkit without a GPU. It was
trained from nothing on few pictures of one style: rendered people on a handful of photographs, made
{frame} pixels large. Fine texture, other styles, real crowds and large holes are beyond it. Take an
inpainting base trained on photographs (presets `sd15`, `sdxl`) for anything else. The people it
learnt from show no real person; it cannot recognise anybody. Erasing people from pictures can
deceive: say that a picture was altered."""

OWN_LIMITS = """## What it is for, and what not

Pictures like those that it was trained on. Erasing people from pictures can deceive: say that a
picture was altered."""


@dataclass(frozen=True)
class Learnt:
    """What a model learnt from.

    Attributes:
        said: in words.
        limits: what follows from it.
        data_sets: names.
        whose: what has the licences.
        licences, credits: of the pictures.
    """

    said: str
    limits: str
    data_sets: tuple[str, ...]
    whose: str
    licences: Sequence[str]
    credits: Sequence[str]


def write_card(
    settings: TrainSettings,
    out: Path,
    pipeline: Path,
    own: TrainScenes | None = None,
    *,
    processes: int = 1,
) -> None:
    """Write ``README.md`` and ``training/`` into a finished pipeline's folder.

    Args:
        settings: what was trained.
        out: folder of the training.
        pipeline: folder of the result.
        own: the scenes, if they were not composed for it.
        processes: that trained it.
    """
    records = pipeline / RECORDS
    records.mkdir(exist_ok=True)
    config = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, width=100)
    (records / "config.yaml").write_text(config, encoding="utf-8")
    for stage in settings.stages:
        shutil.copyfile(out / stage.stage / LOG, records / f"{stage.stage}.jsonl")
        draw_curves(read_log(out / stage.stage), records / f"{stage.stage}.png")
    learnt = _from_pack(settings) if own is None else _from_workspace(settings, own)
    card = _card(settings, out, learnt, processes)
    (pipeline / "README.md").write_text(card, encoding="utf-8")


def _from_pack(settings: TrainSettings) -> Learnt:
    plates = load_pack("train").plates
    data = settings.data
    return Learnt(
        said=f"{data.scenes} scenes of the recipe "
        f"`{data.recipe}`, {data.size} pixels large, and the photographs of the train part alone. "
        "People, things and places of the test part were never seen, but the style is the same: on "
        "`mild-mini` this model is at home, which erasers trained elsewhere are not.",
        limits=LIMITS.format(frame=settings.model.frame),
        data_sets=(PACK,),
        whose="The photographs that it learnt from are {}; people and things are CC0-1.0.",
        licences=sorted({plate.licence for plate in plates}),
        credits=sorted({plate.credit for plate in plates}),
    )


def _from_workspace(settings: TrainSettings, own: TrainScenes) -> Learnt:
    return Learnt(
        said=f"{len(own.folders)} scenes of a workspace (SHA-256 `{own.hash}`), their shorter side "
        f"at most {settings.data.size} pixels, all of the split `train`.",
        limits=OWN_LIMITS,
        data_sets=(),
        whose="The scenes that it learnt from are {}.",
        licences=own.licences,
        credits=own.credits,
    )


def _card(settings: TrainSettings, out: Path, learnt: Learnt, processes: int) -> str:
    licences = learnt.licences
    header = {
        "license": "other" if len(licences) > 1 else licences[0].lower(),
        "license_name": " AND ".join(licences),
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["image-inpainting", "human-erasing", "layers"],
        **({"datasets": list(learnt.data_sets)} if learnt.data_sets else {}),
        **({"base_model": settings.model.start} if settings.model.start else {}),
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, width=1000)}---",
        INTRO.format(name=settings.name),
        learnt.limits,
        _training(settings, out, learnt, processes),
        _rights(settings, learnt),
    ]
    return "\n\n".join(parts) + "\n"


def _training(settings: TrainSettings, out: Path, learnt: Learnt, processes: int) -> str:
    lines = [
        "## How it was trained",
        "",
        f"`mild-bench train {RECORDS}/config.yaml`: {learnt.said} Losses are means over the first "
        "and the last tenth of the log.",
        "",
        "| stage | steps | batch | losses |",
        "|---|---|---|---|",
    ]
    for stage in settings.stages:
        log = read_log(out / stage.stage)
        lines.append(
            f"| `{stage.stage}` | {stage.steps} | {stage.batch * stage.accumulate * processes} | "
            f"{_losses(log)} |"
        )
    readings = [line for line in read_log(out / settings.stages[-1].stage) if "cag" in line]
    if readings:
        first, last = readings[0], readings[-1]
        lines += [
            "",
            "Attention of the background branch on training scenes, before and after the last "
            f"stage: CAG {first['cag']:.3f} and {last['cag']:.3f} nats, leakage "
            f"{first['leakage']:.3f} and {last['leakage']:.3f}.",
        ]
    lines += ["", *(f"![{stage.stage}]({RECORDS}/{stage.stage}.png)" for stage in settings.stages)]
    return "\n".join(lines)


def _losses(log: list[dict[str, Any]]) -> str:
    lines = [line for line in log if "loss" in line]
    tenth = max(1, len(lines) // 10)
    names = [name for name in lines[-1] if name not in ("step", "loss", "steps_per_second", "kl")]
    return ", ".join(
        f"{name} {_mean(lines[:tenth], name):.3f} to {_mean(lines[-tenth:], name):.3f}"
        for name in names
    )


def _mean(lines: list[dict[str, Any]], name: str) -> float:
    values = [line[name] for line in lines if name in line]
    return sum(values) / len(values) if values else float("nan")


def _rights(settings: TrainSettings, learnt: Learnt) -> str:
    start = settings.model.start
    base = "" if start is None else f" The base is `{start}`, with a licence of its own."
    return "\n".join(
        [
            "## Rights",
            "",
            f"{learnt.whose.format(', '.join(learnt.licences))} Keep these credits with the "
            f"weights.{base}",
            "",
            *(f"- {credit}" for credit in learnt.credits),
        ]
    )
