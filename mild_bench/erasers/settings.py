"""Settings of an eraser: checked at the door, and spelled the same way on every board."""

from __future__ import annotations

from collections.abc import Mapping

from mild_bench.erasure import Setting
from mild_bench.errors import BadInput


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
    return f"{value:g}" if isinstance(value, float) else str(value)
