"""Croissant metadata of a release (MLCommons Croissant 1.1, https://docs.mlcommons.org/croissant).

Written by hand, so that freezing does not need ``mlcroissant``; a test reads it with that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}

# Column -> data type and meaning. The nested layers of a scene have no Croissant type that readers
# share: the parquet schema describes them.
TASK_FIELDS = {
    "task_id": ("sc:Text", "Name of the task."),
    "scene_id": ("sc:Text", "The scene it asks about."),
    "kind": ("sc:Text", "all, occluder, occluded, pair or single."),
    "input": ("sc:ImageObject", "The picture."),
    "mask": ("sc:ImageObject", "What the eraser gets: white = erase."),
    "truth": ("sc:ImageObject", "The picture without the erased people and their shadows."),
    "people_map": ("sc:ImageObject", "Visible people by number, 0 = nobody."),
    "people": ("sc:Integer", "How many people the scene has."),
    "erased": ("sc:Integer", "How many of them to erase."),
    "occlusion": ("sc:Float", "Highest occlusion rate among the people, 0 to 1."),
    "occlusion_bin": ("sc:Text", "none, light, moderate or heavy."),
    "human_human": ("sc:Boolean", "People hide people."),
    "human_object": ("sc:Boolean", "People are entangled with things."),
    "human_background": ("sc:Boolean", "People blend into the background."),
    "mask_area": ("sc:Float", "Erased share of the frame, 0 to 1."),
    "mask_source": ("sc:Text", "How the mask was made."),
    "truth_kind": ("sc:Text", "exact, derived or masks-only."),
    "group": ("sc:Text", "The place, photo or video."),
}
SCENE_FIELDS = {
    "scene_id": ("sc:Text", "Name of the scene."),
    "split": ("sc:Text", "The split it is in."),
    "group": ("sc:Text", "The place, photo or video."),
    "truth_kind": ("sc:Text", "exact, derived or masks-only."),
    "licence": ("sc:Text", "SPDX id of the picture's licence."),
    "input": ("sc:ImageObject", "The picture."),
    "plate": ("sc:ImageObject", "The place without anybody."),
    "annotations": ("sc:Text", "Occlusion annotations as JSON."),
    "provenance": ("sc:Text", "What is needed to make it again, as JSON."),
}
FIELDS = {"tasks": TASK_FIELDS, "scenes": SCENE_FIELDS}


def croissant(manifest: Mapping[str, Any], tables: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON-LD of a release.

    Args:
        manifest: name, version, licence, credits, tasks and scenes.
        tables: parquet files by path in the release, with their SHA-256.
    """
    version = str(manifest["version"])
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": manifest["name"],
        "description": (
            f"{len(manifest['tasks'])} tasks about {len(manifest['scenes'])} scenes with several "
            "people: which of them to erase from the picture, and what stood behind them."
        ),
        "version": version if version.count(".") == 2 else f"{version}.0",
        "license": [
            f"https://spdx.org/licenses/{name}" for name in str(manifest["licence"]).split(" AND ")
        ],
        "citeAs": f"{manifest['name']} {version}, a release of mild-bench",
        "creditText": "; ".join(manifest["credits"]),
        "distribution": [_file(path, digest) for path, digest in sorted(tables.items())],
        "recordSet": [_record_set(path) for path in sorted(tables)],
    }


def _file(path: str, digest: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": path,
        "name": path,
        "contentUrl": path,
        "encodingFormat": "application/x-parquet",
        "sha256": digest,
    }


def _record_set(path: str) -> dict[str, Any]:
    stem = path.removeprefix("data/").removesuffix(".parquet")
    table, split = stem.split("-", 1)
    return {
        "@type": "cr:RecordSet",
        "@id": f"{table}_{split}",
        "name": f"{table}_{split}",
        "description": f"The {table} of the split {split}.",
        "field": [
            _field(f"{table}_{split}", path, column, kind, meaning)
            for column, (kind, meaning) in FIELDS[table].items()
        ],
    }


def _field(records: str, path: str, column: str, kind: str, meaning: str) -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": path}, "extract": {"column": column}}
    if kind == "sc:ImageObject":
        source["transform"] = {"jsonPath": "bytes"}
    return {
        "@type": "cr:Field",
        "@id": f"{records}/{column}",
        "name": f"{records}/{column}",
        "description": meaning,
        "dataType": kind,
        "source": source,
    }
