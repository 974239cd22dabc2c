"""The dataset card of a release: what is in it, what it may be used for, how it was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

HUB_LICENCES = {
    "CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0", "CC-BY-3.0": "cc-by-3.0",
    "CC-BY-SA-4.0": "cc-by-sa-4.0", "Apache-2.0": "apache-2.0", "MIT": "mit",
}  # fmt: skip
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
BINS = ("none", "light", "moderate", "heavy")
TAGS = ["image-inpainting", "object-removal", "human-erasing", "occlusion", "benchmark"]


def card(manifest: Mapping[str, Any]) -> str:
    """Return ``README.md`` of a release: the Hub's YAML header and Markdown for people.

    Args:
        manifest: name, version, recipe, seed, versions, rejected, tasks, scenes, licence, credits.
    """
    header = yaml.safe_dump(_header(manifest), sort_keys=False, allow_unicode=True, width=1000)
    parts = [f"---\n{header}---", _opening(manifest), _use(manifest), _counts(manifest)]
    parts += [_columns(), _made(manifest), _rejections(manifest), _rights(manifest)]
    return "\n\n".join(part for part in parts if part) + "\n"


def splits_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the splits of a release, in order."""
    return sorted({scene["split"] for scene in manifest["scenes"]})


def _header(manifest: Mapping[str, Any]) -> dict[str, Any]:
    tasks = len(manifest["tasks"])
    size = next((label for limit, label in SIZES if tasks < limit), "100K<n<1M")
    licence = HUB_LICENCES.get(manifest["licence"], "other")
    other = {"license_name": manifest["licence"]} if licence == "other" else {}
    return {
        "pretty_name": f"{manifest['name']} {manifest['version']}",
        "license": licence,
        **other,
        "task_categories": ["image-to-image"],
        "tags": TAGS,
        "size_categories": [size],
        "configs": [
            _config(manifest, "tasks", default=True),
            _config(manifest, "scenes", default=False),
        ],
    }


def _config(manifest: Mapping[str, Any], table: str, *, default: bool) -> dict[str, Any]:
    files = [
        {"split": split, "path": f"data/{table}-{split}.parquet"} for split in splits_of(manifest)
    ]
    first = {"default": True} if default else {}
    return {"config_name": table, "data_files": files, **first}


def _opening(manifest: Mapping[str, Any]) -> str:
    kinds = sorted({scene["truth_kind"] for scene in manifest["scenes"]})
    meaning = {
        "exact": "`exact`: plate and layers are known, so the picture without any of its people is",
        "derived": "`derived`: plate and layers are estimated from video",
        "masks-only": "`masks-only`: there is no picture without the people",
    }
    return (
        f"# {manifest['name']} {manifest['version']}\n\n"
        "Which people to take out of a picture, and what stood behind them. "
        f"{len(manifest['tasks'])} tasks about {len(manifest['scenes'])} scenes with several "
        "people, for benchmarking human erasing with mild-bench.\n\n"
        f"Truth: {'; '.join(meaning[kind] for kind in kinds)}."
    )


def _use(manifest: Mapping[str, Any]) -> str:
    split = splits_of(manifest)[0]
    return (
        "```python\n"
        "from datasets import load_dataset\n\n"
        f'tasks = load_dataset("path/to/{manifest["name"]}", "tasks", split="{split}")\n'
        f'scenes = load_dataset("path/to/{manifest["name"]}", "scenes", split="{split}")\n'
        "```\n\n"
        f"or `mild-bench erase path/to/{manifest['name']} --eraser telea --out runs/telea`."
    )


def _counts(manifest: Mapping[str, Any]) -> str:
    tasks, scenes = manifest["tasks"], manifest["scenes"]
    marks = ("human_human", "human_object", "human_background")
    rows = [
        ("split", _tally(scene["split"] for scene in scenes), _tally(t["split"] for t in tasks)),
        (
            "people in the scene",
            _tally(scene["people"] for scene in scenes),
            _tally(task["people"] for task in tasks),
        ),
        (
            "occlusion bin",
            _tally((scene["occlusion_bin"] for scene in scenes), BINS),
            _tally((task["occlusion_bin"] for task in tasks), BINS),
        ),
        (
            "challenge",
            _tally((name for scene in scenes for name in scene["challenges"]), marks),
            _tally((name for task in tasks for name in marks if task[name]), marks),
        ),
        ("task kind", "", _tally(task["kind"] for task in tasks)),
        ("mask source", "", _tally(task["mask_source"] for task in tasks)),
    ]
    lines = [f"| {name} | {left} | {right} |" for name, left, right in rows]
    return "\n".join(
        [
            "## What is in it",
            "",
            f"| | {len(scenes)} scenes | {len(tasks)} tasks |",
            "|---|---|---|",
            *lines,
        ]
    )


def _tally(values: Iterable[object], order: tuple[str, ...] = ()) -> str:
    counts = Counter(str(value) for value in values)
    rest = sorted(set(counts) - set(order), key=lambda word: (len(word), word))
    return ", ".join(f"{word}: {counts[word]}" for word in [*order, *rest])


def _columns() -> str:
    return """## Columns

`tasks`: `input` is the picture, `mask` (white = erase) what the eraser gets, `truth` the picture
without the people in `erase` and what they hold, shadows included; `people_map` labels the visible
people, k = `person_ids[k - 1]`. The others describe the task: `kind` (`all`, `occluder`,
`occluded`, `pair`, `single`), `people` and `erased` (how many), `occlusion` (highest rate among
the people), `occlusion_bin`, the three challenges, `mask_area` (share of the frame), `mask_source`
(`exact`, `dilated:6`, `box`, `effects` = with shadows), `truth_kind`, `group` (the place).

`scenes`: `plate` is the place without anybody; `layers`, from far to near, are complete also where
they are hidden: `image` (straight alpha), `effect` (light lost by cast and contact shadow),
`parts` (0 none, 1 hair, 2 head, 3 arms, 4 legs, 5 upper clothes, 6 lower clothes, 8 shoes,
9 other), `keypoints` (COCO-17: x, y, visibility). `annotations` and `provenance` are JSON text."""


def _made(manifest: Mapping[str, Any]) -> str:
    tools = ", ".join(f"{name} {version}" for name, version in sorted(manifest["versions"].items()))
    lines = [
        "## How it was made",
        "",
        f"`mild-bench curate release`, seed {manifest['seed']}, with {tools}. "
        "`manifest.json` holds the SHA-256 of every file: `mild-bench curate verify` checks them.",
    ]
    if manifest["recipe"]:
        recipe = yaml.safe_dump(manifest["recipe"], sort_keys=True, allow_unicode=True)
        lines += ["", "```yaml", recipe.rstrip(), "```"]
    return "\n".join(lines)


def _rejections(manifest: Mapping[str, Any]) -> str:
    if not manifest["rejected"]:
        return ""
    lines = [
        f"| {name} | {' '.join(reason.split()).replace('|', '/')} |"
        for name, reason in sorted(manifest["rejected"].items())
    ]
    return "\n".join(["## Left out", "", "| scene | reason |", "|---|---|", *lines])


def _rights(manifest: Mapping[str, Any]) -> str:
    credits = [f"- {line}" for line in manifest["credits"]]
    return "\n".join(
        ["## Licence and credits", "", f"Pictures: {manifest['licence']}.", "", *credits]
    ).rstrip()
