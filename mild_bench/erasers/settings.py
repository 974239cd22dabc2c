"""Settings of an eraser: checked at the door, and spelled the same way on every board."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from mild_bench.erasure import Setting
from mild_bench.errors import BadInput
from mild_bench.plugins import parse_value


def given(
    eraser: str,
    chosen: Mapping[str, Setting],
    known: Sequence[str],
    *,
    numbers: Collection[str],
    words: Collection[str],
) -> dict[str, Any]:
    """Return the settings of a spec, as a dataclass with such fields takes them.

    Args:
        known: names of the settings there are.
        numbers: those that are floats, also where a whole number is written.
        words: those where ``none`` is a word of its own.

    Raises:
        BadInput: an unknown name.
    """
    unknown = [name for name in chosen if name not in known]
    if unknown:
        raise BadInput(
            f"{eraser}: there is no setting {unknown[0]!r}; there are {', '.join(known)}"
        )
    values: dict[str, Any] = dict(chosen)
    for name, value in chosen.items():
        if name in words and value is None:
            values[name] = "none"
        if name in numbers and isinstance(value, int) and not isinstance(value, bool):
            values[name] = float(value)
    return values


def number(eraser: str, name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` as a float.

    Raises:
        BadInput: not a number in [``low``, ``high``].
    """
    known = isinstance(value, int | float) and not isinstance(value, bool)
    if not known or not low <= float(str(value)) <= high:
        raise BadInput(
            f"{eraser}: {name} must be a number from {low:g} to {high:g}, got {value!r}; "
            f"write {eraser}[{name}={low:g}] for example"
        )
    return float(str(value))


def whole(eraser: str, name: str, value: object, low: int, high: int) -> int:
    """Return ``value`` as an int.

    Raises:
        BadInput: not a whole number in [``low``, ``high``].
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadInput(
            f"{eraser}: {name} must be a whole number from {low} to {high}, got {value!r}; "
            f"write {eraser}[{name}={low}] for example"
        )
    return value


def switch(eraser: str, name: str, value: object) -> bool:
    """Return ``value`` as a bool.

    Raises:
        BadInput: neither on nor off.
    """
    if not isinstance(value, bool):
        raise BadInput(f"{eraser}: {name} must be on or off, got {value!r}")
    return value


def choice(eraser: str, name: str, value: object, allowed: Sequence[str]) -> str:
    """Return ``value``.

    Raises:
        BadInput: not one of the words in ``allowed``.
    """
    if not isinstance(value, str) or value not in allowed:
        raise BadInput(f"{eraser}: {name} must be one of {', '.join(allowed)}, got {value!r}")
    return value


def text(eraser: str, name: str, value: object) -> str:
    """Return ``value``.

    Raises:
        BadInput: not text that a spec can hold: one line without double quotes.
    """
    if not isinstance(value, str) or '"' in value or not (value.isprintable()):
        raise BadInput(
            f"{eraser}: {name} must be one line of text without double quotes, got {value!r}; "
            f'write {eraser}[{name}="empty room, daylight"] for example'
        )
    return value


def board_name(
    eraser: str, settings: Mapping[str, Setting], defaults: Mapping[str, Setting]
) -> str:
    """Return the name with the settings that differ from the defaults in brackets."""
    chosen = [
        f"{key}={_spell(settings[key])}" for key in settings if settings[key] != defaults[key]
    ]
    return f"{eraser}[{','.join(chosen)}]" if chosen else eraser


def _spell(value: Setting) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str) and (
        parse_value(value) != value or set(value) & set(",[]") or not value
    ):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(value)
