"""Keep diffusers and transformers off the terminal."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("diffusers", "transformers")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' bars, notices and warnings off the terminal: errors still raise."""
    logs = [importlib.import_module(f"{name}.utils.logging") for name in LIBRARIES]
    before = [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]
    try:
        for log in logs:
            log.set_verbosity_error()
            log.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, (verbosity, bars) in zip(logs, before, strict=True):
            log.set_verbosity(verbosity)
            if bars:
                log.enable_progress_bar()
