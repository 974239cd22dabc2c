"""The model card of a training, and what goes with the weights: config, logs, curves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import yaml

from mild_bench.curation.composing.pack import load_pack
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


def write_card(settings: TrainSettings, out: Path, pipeline: Path) -> None:
    """Write ``README.md`` and ``training/`` into a finished pipeline's folder.

    Args:
        settings: what was trained.
        out: folder of the training.
        pipeline: folder of the result.
    """
    records = pipeline / RECORDS
    records.mkdir(exist_ok=True)
    config = yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, width=100)
    (records / "config.yaml").write_text(config, encoding="utf-8")
    for stage in settings.stages:
        shutil.copyfile(out / stage.stage / LOG, records / f"{stage.stage}.jsonl")
        draw_curves(read_log(out / stage.stage), records / f"{stage.stage}.png")
    (pipeline / "README.md").write_text(_card(settings, out), encoding="utf-8")


def _card(settings: TrainSettings, out: Path) -> str:
    plates = load_pack("train").plates
    licences = sorted({plate.licence for plate in plates})
    header = {
        "license": "other" if len(licences) > 1 else licences[0].lower(),
        "license_name": " AND ".join(licences),
        "library_name": "diffusers",
        "pipeline_tag": "image-to-image",
        "tags": ["image-inpainting", "human-erasing", "layers"],
        "datasets": [PACK],
        **({"base_model": settings.model.start} if settings.model.start else {}),
    }
    parts = [
        f"---\n{yaml.safe_dump(header, sort_keys=False, width=1000)}---",
        INTRO.format(name=settings.name),
        LIMITS.format(frame=settings.model.frame),
        _training(settings, out),
        _rights(settings, sorted({plate.credit for plate in plates}), licences),
    ]
    return "\n\n".join(parts) + "\n"


def _training(settings: TrainSettings, out: Path) -> str:
    data = settings.data
    lines = [
        "## How it was trained",
        "",
        f"`mild-bench train {RECORDS}/config.yaml`: {data.scenes} scenes of the recipe "
        f"`{data.recipe}`, {data.size} pixels large, and the photographs of the train part alone. "
        "People, things and places of the test part were never seen, but the style is the same: on "
        "`mild-mini` this model is at home, which erasers trained elsewhere are not. Losses are "
        "means over the first and the last tenth of the log.",
        "",
        "| stage | steps | batch | losses |",
        "|---|---|---|---|",
    ]
    for stage in settings.stages:
        log = read_log(out / stage.stage)
        lines.append(
            f"| `{stage.stage}` | {stage.steps} | {stage.batch * stage.accumulate} | "
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


def _rights(settings: TrainSettings, credits: list[str], licences: list[str]) -> str:
    start = settings.model.start
    base = "" if start is None else f" The base is `{start}`, with a licence of its own."
    return "\n".join(
        [
            "## Rights",
            "",
            f"The photographs that it learnt from are {', '.join(licences)}; people and things are "
            f"CC0-1.0. Keep these credits with the weights.{base}",
            "",
            *(f"- {credit}" for credit in credits),
        ]
    )
