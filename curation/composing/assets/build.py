"""Build this pack of pictures from the full asset folder: `python curation/composing/assets/build.py ASSETS`.

Kept so that anyone can see how the committed pictures were made; users never need it. Figures are
scaled to at most 250 px per metre (the largest that a 512 px scene shows) and saved as WebP;
plates stay the JPEG files they were. What stands below was set by eye on the pictures: which
plates, where people can stand, how the camera and the light are.
"""

# ruff: noqa: E501 - the tables below read best with a plate on a line

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from PIL import Image

PX_PER_M = 250.0
HERE = Path(__file__).parent

# Fractions of the plate: horizon, ground polygon; camera height in metres; blur of the photo in
# pixels; light: where it comes from (x right, y up, z to the camera), how hard its shadows are.
SOFT: dict[str, Any] = {"direction": [0.2, 0.95, 0.2], "cast": 0.0, "ambient": 0.55}


def _light(x: float, y: float, z: float, cast: float, ambient: float = 0.4) -> dict[str, Any]:
    return {"direction": [x, y, z], "cast": cast, "ambient": ambient}


Points = list[list[float]]


def _plate(
    split: str, horizon: float | None, height: float | None, ground: Points | None, blur: float,
    light: dict[str, Any], place: str = "outdoor",
) -> dict[str, Any]:  # fmt: skip
    return {
        "split": split, "horizon": horizon, "camera_height_m": height, "ground": ground,
        "blur_px": blur, "light": light, "place": place,
    }  # fmt: skip


WIDE = [[0, 0.56], [0.3, 0.545], [0.5, 0.54], [0.7, 0.55], [1, 0.585], [1, 1.3], [0, 1.3]]
MEADOW = [[0, 0.53], [1, 0.5], [1, 1.3], [0, 1.3]]
PLATES = {
    "bg_city_0": _plate("train", 0.39, 1.6, WIDE, 1.0, SOFT),
    "bg_city_1": _plate("train", 0.39, 1.6, WIDE, 1.0, SOFT),
    "bg_city_2": _plate("train", 0.39, 1.6, WIDE, 1.0, SOFT),
    "bg_city_3": _plate("train", 0.39, 1.6, WIDE, 1.0, SOFT),
    "bg_sunrise_0": _plate("train", 0.376, 1.6, MEADOW, 1.0, _light(-0.8, 0.4, -0.2, 0.3)),
    "bg_sunrise_1": _plate("train", 0.376, 1.6, MEADOW, 1.0, _light(-0.7, 0.4, 0.5, 0.3)),
    "bg_sunrise_2": _plate("train", 0.376, 1.6, MEADOW, 1.0, _light(-0.7, 0.35, -0.6, 0.35)),
    "bg_picos_0": _plate(
        "train", 0.3, 1.9, [[0.32, 0.6], [0.6, 0.55], [1, 0.5], [1, 1.3], [0.25, 1.3]], 0.5,
        _light(0.4, 0.75, 0.3, 0.45),
    ),
    "bg_picos_1": _plate(
        "train", 0.35, 1.9, [[0, 0.62], [1, 0.58], [1, 1.3], [0, 1.3]], 0.5,
        _light(0.4, 0.75, 0.3, 0.45),
    ),
    "bg_studio_0": _plate(
        "train", 0.39, 1.5, [[0.05, 0.72], [0.55, 0.72], [0.63, 0.98], [0.7, 1.3], [0, 1.3]], 1.0,
        SOFT, "indoor",
    ),
    "bg_studio_1": _plate(
        "train", 0.39, 1.5, [[0.28, 0.95], [0.85, 0.95], [0.9, 1.3], [0.2, 1.3]], 1.0, SOFT, "indoor"
    ),
    "bg_life_0": _plate("train", 0.25, 1.6, [[0.05, 1.02], [0.95, 1.02], [0.95, 1.3], [0.05, 1.3]], 0.5, SOFT),
    "bg_life_1": _plate("train", 0.25, 1.6, [[0.05, 1.02], [0.95, 1.02], [0.95, 1.3], [0.05, 1.3]], 0.5, SOFT),
    "bg_sunset_hill": _plate(
        "train", 0.2, 1.7, [[0, 0.62], [1, 0.62], [1, 1.3], [0, 1.3]], 0.7,
        _light(0.2, 0.3, -0.9, 0.3),
    ),
    "bg_bridge": _plate("train", None, None, None, 0.6, SOFT),
    "bg_wine": _plate("train", None, None, None, 0.6, SOFT, "indoor"),
    "bg_seeding": _plate("train", None, None, None, 0.8, SOFT),
    "bg_dragonfly": _plate("train", None, None, None, 0.6, SOFT),
    "bg_courtyard_1": _plate(
        "test", 0.348, 1.6,
        [[0.45, 0.53], [0.72, 0.52], [0.78, 0.6], [0.95, 0.72], [1, 1.3], [0, 1.3], [0.0, 0.87]], 0.9,
        SOFT,
    ),
    "bg_courtyard_2": _plate(
        "test", 0.348, 1.6, [[0, 0.66], [0.25, 0.66], [0.42, 0.86], [0.5, 1], [1, 1.08], [1, 1.3], [0, 1.3]],
        0.9, SOFT,
    ),
    "bg_courtyard_3": _plate(
        "test", 0.348, 1.6, [[0.28, 0.6], [0.4, 0.58], [0.98, 0.74], [1, 1.3], [0.1, 1.3], [0.26, 0.85]],
        0.9, SOFT,
    ),
    "bg_sunset_0": _plate("test", 0.362, 1.6, [[0, 0.5], [1, 0.5], [1, 1.3], [0, 1.3]], 1.0, SOFT),
    "bg_sunset_1": _plate("test", 0.362, 1.6, [[0, 0.86], [1, 0.93], [1, 1.3], [0, 1.3]], 1.0, SOFT),
    "bg_aitzgorri_0": _plate("test", 0.33, 2.0, [[0, 0.52], [1, 0.58], [1, 1.3], [0, 1.3]], 0.6, SOFT),
    "bg_aitzgorri_1": _plate("test", 0.36, 2.0, [[0, 0.58], [1, 0.7], [1, 1.3], [0, 1.3]], 0.6, SOFT),
    "bg_forest_1": _plate("test", 0.376, 1.6, [[0, 0.7], [1, 0.72], [1, 1.3], [0, 1.3]], 1.0, SOFT),
    "bg_forest_2": _plate(
        "test", 0.376, 1.6,
        [[0.12, 0.6], [0.36, 0.53], [0.52, 0.5], [0.56, 0.56], [0.68, 0.8], [0.8, 1.3], [0, 1.3], [0, 0.72]],
        1.0, _light(0.5, 0.5, -0.6, 0.3),
    ),
    "bg_interior_0": _plate("test", 0.276, 1.5, [[0.2, 0.99], [0.95, 1.0], [1, 1.3], [0.15, 1.3]], 1.0, SOFT, "indoor"),
    "bg_interior_2": _plate("test", 0.276, 1.5, [[0.48, 0.97], [0.98, 1.0], [1, 1.3], [0.45, 1.3]], 1.0, SOFT, "indoor"),
    "bg_china": _plate("test", 0.45, 1.6, [[0, 1.03], [1, 1.03], [1, 1.3], [0, 1.3]], 0.8, _light(-0.4, 0.8, 0.4, 0.3)),
}  # fmt: skip

# Seat: where one sits, in pixels of the full-size prop picture.
SEATS = {
    "chair_0": [131, 212], "chair_1": [135, 212], "bench_0": [348, 205], "bench_1": [290, 225],
    "box_0": [147, 40], "box_1": [147, 55],
}  # fmt: skip
# Grip: where a hand holds it, in pixels of the full-size prop picture.
GRIPS = {
    "umbrella_0": [234, 372], "umbrella_1": [241, 372], "backpack_0": [110, 16],
    "backpack_1": [82, 16], "box_0": [147, 150], "box_1": [147, 165],
}  # fmt: skip


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def _points(points: list[list[Any]], scale: float) -> list[list[Any]]:
    return [[round(p[0] * scale, 2), round(p[1] * scale, 2), *p[2:]] for p in points]


def _scaled(image: Image.Image, scale: float) -> Image.Image:
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, quality=90, alpha_quality=100, method=6)


def people(assets: Path) -> list[dict[str, Any]]:
    """Write the figures; a third of the characters is for testing."""
    records = _lines(assets / "people/index.jsonl")
    characters = sorted({record["character"] for record in records})
    test = set(characters[::3])
    out = []
    for record in records:
        scale = min(1.0, PX_PER_M / record["px_per_m"])
        picture = _scaled(Image.open(assets / record["file"]), scale)
        parts = Image.open(assets / record["parts"]).resize(picture.size, Image.Resampling.NEAREST)
        _save(picture, HERE / "people" / f"{record['id']}.webp")
        parts.save(HERE / "people" / f"{record['id']}.parts.png", optimize=True)
        out.append({
            "id": record["id"], "split": "test" if record["character"] in test else "train",
            "character": record["character"], "pose": record["pose"],
            "yaw": record["view"]["yaw"], "elevation": record["view"]["elevation"],
            "px_per_m": round(record["px_per_m"] * scale, 3),
            "height_m": record["posed_height_m"],
            "ground": _points([[record["width"] / 2, record["ground_y_center"]]], scale)[0],
            "ground_y": round(record["ground_y"] * scale, 2),
            "feet": _points([record["foot_left"], record["foot_right"]], scale),
            "keypoints": _points(record["keypoints"], scale),
            "light": record["light"]["dir_to_light_camera"],
        })  # fmt: skip
    return out


def props(assets: Path) -> list[dict[str, Any]]:
    """Write the props; the second view of each kind is for testing."""
    out = []
    for record in _lines(assets / "props/index.jsonl"):
        scale = min(1.0, PX_PER_M / record["px_per_m"])
        name = record["id"]
        _save(_scaled(Image.open(assets / record["file"]), scale), HERE / "props" / f"{name}.webp")
        point = {key: _points([table[name]], scale)[0] if name in table else None
                 for key, table in (("seat", SEATS), ("grip", GRIPS))}  # fmt: skip
        out.append({
            "id": name, "kind": record["kind"], "yaw": record["view"]["yaw"],
            "px_per_m": round(record["px_per_m"] * scale, 3), "height_m": record["height_m"],
            "ground": _points([[record["ground_x_center"], record["ground_y_center"]]], scale)[0],
            "ground_y": round(record["ground_y"] * scale, 2),
            "contact_x": [round(x * scale, 2) for x in record["contact_x"]],
            "light": record["light"]["dir_to_light_camera"], **point,
        })  # fmt: skip
    return out


def plates(assets: Path) -> list[dict[str, Any]]:
    """Copy the plates whose licence names the very file."""
    out = []
    for record in _lines(assets / "backgrounds/index.jsonl"):
        if record["id"] not in PLATES:
            continue
        if record["licence_confidence"] != "file-level":
            raise SystemExit(f"{record['id']}: the licence does not name this file")
        shutil.copyfile(assets / record["file"], HERE / "plates" / f"{record['id']}.jpg")
        camera = record.get("camera") or {}
        out.append({
            "id": record["id"], "group": record["group"], "licence": record["licence"],
            "author": record["author"], "credit": record["credit"], "source": record["source"],
            "focal": (camera.get("focal_px") or record["height"]) / record["height"],
            **PLATES[record["id"]],
        })  # fmt: skip
    return out


def main(assets: Path) -> None:
    """Write pictures and ``index.json``."""
    for name in ("people", "props", "plates"):
        shutil.rmtree(HERE / name, ignore_errors=True)
        (HERE / name).mkdir()
    index = {"people": people(assets), "props": props(assets), "plates": plates(assets)}
    (HERE / "index.json").write_text(json.dumps(index, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
