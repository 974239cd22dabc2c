"""A recipe: what scenes to compose. Read from YAML, refused with every fault in one line."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mild_bench.errors import BadInput
from mild_bench.store import canonical_json, sha256

MAX_SCENES = 200_000
Share = dict[str, float]
Entanglement = Literal["none", "in-front", "held", "seat", "beside"]
Bin = Literal["none", "light", "moderate", "heavy"]


class Recipe(BaseModel):
    """What to compose; every field has the meaning and range written here.

    Attributes:
        name: start of the scene ids, ``[a-z0-9-]+``.
        split: ``train`` or ``test``: which people, props and plates may be used.
        scenes: how many, 1 to 200,000.
        size: side of the square scenes in pixels, 128 to 768.
        seed: 0 or more; the same recipe, seed and pack give the same bytes.
        people: fewest and most people in a scene, within 2 to 8.
        occlusion: shares of the four occlusion bins (they are scaled to sum to 1).
        entanglement: shares of scenes with a prop in front of, held by, sat on by or beside one.
        camouflage: share of scenes in which one person wears the colours of the plate.
        truncation: share of scenes in which one person is cut by the frame.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=60)
    split: Literal["train", "test"]
    scenes: int = Field(ge=1, le=MAX_SCENES)
    size: int = Field(default=512, ge=128, le=768)
    seed: int = Field(default=0, ge=0, lt=2**63)
    people: tuple[int, int] = (2, 6)
    occlusion: dict[Bin, float] = {"none": 1, "light": 1, "moderate": 1, "heavy": 1}
    entanglement: dict[Entanglement, float] = {
        "none": 3, "in-front": 2, "held": 2, "seat": 2, "beside": 1,
    }  # fmt: skip
    camouflage: float = Field(default=0.25, ge=0, le=1)
    truncation: float = Field(default=0.2, ge=0, le=1)

    @field_validator("people")
    @classmethod
    def _people(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 2 <= value[0] <= value[1] <= 8:
            raise ValueError("expected [fewest, most] within 2 to 8")
        return value

    @model_validator(mode="after")
    def _shares(self) -> Recipe:
        for name in ("occlusion", "entanglement"):
            shares = getattr(self, name)
            if any(not 0 <= share < 1e6 for share in shares.values()) or not sum(shares.values()):
                raise ValueError(f"{name}: expected shares of 0 or more, not all 0")
        return self

    @property
    def hash(self) -> str:
        """SHA-256 of everything but the number of scenes: more scenes keep the first ones."""
        return sha256(canonical_json(self.model_dump(mode="json", exclude={"scenes"})))


def read_recipe(path: Path, *, scenes: int | None = None) -> Recipe:
    """Read a recipe; ``scenes`` replaces the number in the file.

    Raises:
        BadInput: no such file, not YAML, unknown keys or values out of range (all in one line).
    """
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: expected a recipe file, got none ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: expected YAML, got {error}") from error
    if not isinstance(values, dict):
        raise BadInput(f"{path}: expected keys and values, got {type(values).__name__}")
    if scenes is not None:
        values["scenes"] = scenes
    try:
        return Recipe(**values)
    except (ValidationError, TypeError) as error:
        raise BadInput(
            f"{path}: {_faults(error)}; keys: {', '.join(Recipe.model_fields)}"
        ) from error


def _faults(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    faults = []
    for fault in error.errors():
        where = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, Recipe.model_fields, n=1)
            faults.append(f"{where}: no such key" + (f" (did you mean {near[0]}?)" if near else ""))
            continue
        got = "" if fault["type"] in ("missing", "value_error") else f", got {fault['input']!r}"
        faults.append(f"{where}: {fault['msg']}{got}" if where else f"{fault['msg']}")
    return "; ".join(faults)


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a path, or the name of one that comes with the package.

    Raises:
        BadInput: neither.
    """
    own = Path(__file__).parent / "recipes"
    built_in = sorted(path.stem for path in own.glob("*.yaml"))
    if name in built_in:
        return own / f"{name}.yaml"
    if not Path(name).exists():
        raise BadInput(
            f"{name}: no such recipe file; recipes in the package: {', '.join(built_in)}"
        )
    return Path(name)
