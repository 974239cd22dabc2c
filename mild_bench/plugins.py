"""Find an eraser by its spec: built-ins in one table, third parties by entry point.

A spec is ``name``, ``name:argument``, or either with settings: ``patchmatch[patch_size=7]``. Text
with a comma or a bracket in it goes in double quotes: ``name[prompt="empty room, daylight"]``.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from mild_bench.erasure import Eraser, Setting
from mild_bench.errors import BadInput, MissingPart

GROUP = "mild_bench.erasers"

ERASERS = {
    "copy-input": "mild_bench.erasers.controls:copy_input",
    "mean-fill": "mild_bench.erasers.controls:mean_fill",
    "blur": "mild_bench.erasers.controls:blur",
    "truth": "mild_bench.erasers.controls:truth",
    "telea": "mild_bench.erasers.classical:telea",
    "navier-stokes": "mild_bench.erasers.classical:navier_stokes",
    "biharmonic": "mild_bench.erasers.classical:biharmonic",
    "patchmatch": "mild_bench.erasers.patchmatch:patchmatch",
    "outputs": "mild_bench.erasers.outputs:outputs",
    "diffusers": "mild_bench.erasers.diffusion.eraser:diffusion",
    "mild": "mild_bench.erasers.mild:mild",
}

_SPEC = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9_.-]*)(:(?P<argument>.*?))?(\[(?P<settings>(\"[^\"]*\"|[^\]\"])*)\])?"
)
_PAIR = re.compile(r"(\"[^\"]*\"|[^,\"])+")  # what stands between commas outside of quotes


@dataclass(frozen=True)
class EraserSpec:
    """A parsed eraser spec."""

    name: str
    argument: str | None
    settings: dict[str, Setting]


def parse_spec(text: str) -> EraserSpec:
    """Parse ``name:argument[key=value,...]``.

    ``on``, ``off``, ``none`` and numbers become what they say; a value in double quotes is text,
    whatever it says, and may hold commas and brackets.

    Raises:
        BadInput: not of that form.
    """
    match = _SPEC.fullmatch(text)
    found = _PAIR.finditer((match and match["settings"]) or "")
    pairs = [pair[0] for pair in found if pair[0].strip()]
    if match is None or any("=" not in pair for pair in pairs):
        raise BadInput(
            f"eraser: expected name, name:argument or name[key=value,...], got {text!r}; "
            f"names: {', '.join(eraser_names())}"
        )
    settings = {
        key.strip(): parse_value(raw.strip()) for key, raw in (p.split("=", 1) for p in pairs)
    }
    return EraserSpec(match["name"], match["argument"], settings)


def eraser_names() -> list[str]:
    """Return every name that ``load_eraser`` knows, built-in first."""
    return [*ERASERS, *sorted(set(_third_party()) - set(ERASERS))]


def load_eraser(text: str) -> Eraser:
    """Return the eraser of a spec. Factories take the argument (if any) and the settings.

    Raises:
        BadInput: unknown name (suggests near ones), unknown or wrong setting.
    """
    spec = parse_spec(text)
    factory = _factory(spec.name)
    arguments = [] if spec.argument is None else [spec.argument]
    try:
        eraser = factory(*arguments, **spec.settings)
    except TypeError as error:
        raise BadInput(f"eraser {text!r}: {error}; see docs/erasers.md for its settings") from error
    if not isinstance(eraser, Eraser):
        raise BadInput(f"eraser {text!r}: expected an Eraser with a card, got {type(eraser)}")
    return eraser


def _factory(name: str) -> Callable[..., Eraser]:
    if name in ERASERS:
        module, attribute = ERASERS[name].split(":")
        factory: Callable[..., Eraser] = getattr(importlib.import_module(module), attribute)
        return factory
    others = _third_party()
    if name in others:
        try:
            loaded: Callable[..., Eraser] = others[name].load()
        except Exception as error:  # a stranger's module may raise anything on import
            raise MissingPart(
                f"eraser {name!r}: {others[name].value} does not load "
                f"({type(error).__name__}: {error}); mend or remove the package that adds it"
            ) from error
        return loaded
    near = difflib.get_close_matches(name, eraser_names(), n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"names: {', '.join(eraser_names())}"
    raise BadInput(f"eraser: no eraser is called {name!r}; {hint}")


def _third_party() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def parse_value(raw: str) -> Setting:
    """Return what a setting's spelling stands for."""
    if len(raw) > 1 and raw[0] == raw[-1] == '"':
        return raw[1:-1]
    words: dict[str, Setting] = {
        "on": True, "true": True, "off": False, "false": False, "none": None,
    }  # fmt: skip
    if raw.lower() in words:
        return words[raw.lower()]
    for number in (int, float):
        try:
            return number(raw)
        except ValueError:
            continue
    return raw
