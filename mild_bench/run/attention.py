"""``--probe cag``: what an eraser's model looks at, taken while it erases."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from mild_bench.erasure import Eraser, ProbedEraser, SeenTask
from mild_bench.errors import BadInput, explain
from mild_bench.protocol import ATTENTION_THRESHOLD
from mild_bench.run.run_folder import Probed
from mild_bench.store import sha256

if TYPE_CHECKING:
    from mild_bench.metrics.cag.probe import AttentionProbe
    from mild_bench.metrics.cag.regions import Regions
    from mild_bench.metrics.cag.trace import Trace

PROBES = ("cag",)
NO_ATTENTION = "this eraser has no attention to read"
BOAST = "its card promises attention, but the eraser has no pipeline and on_task"
NOBODY = "no person is visible in this task"
UNSEEN = "the eraser did not show this task to the probe"


def check_probe(name: str | None) -> None:
    """Refuse a probe that there is none of.

    Raises:
        BadInput: an unknown name; suggests a near one.
    """
    if name is None or name in PROBES:
        return
    near = difflib.get_close_matches(name, PROBES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise BadInput(f"--probe: expected {' or '.join(PROBES)}, got {name!r}{hint}")


class Watch:
    """Probes every task that an eraser shows while attached, and hands out what it found.

    Attributes:
        name: one of ``PROBES``.
        eraser: the one to watch; None where there is no attention to read.
    """

    def __init__(self, eraser: Eraser, name: str) -> None:
        """Take any eraser; one without attention is left alone."""
        self.name = name
        self.eraser: ProbedEraser | None = None
        self._nothing = NO_ATTENTION
        self._found: dict[str, tuple[AttentionProbe, SeenTask] | str] = {}
        if eraser.card.supports_attention_probe:
            self.eraser = eraser if isinstance(eraser, ProbedEraser) else None
            self._nothing = UNSEEN if self.eraser else BOAST

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Watch while the block runs."""
        if self.eraser is None:
            yield
            return
        pipeline, before = self.eraser.pipeline, self.eraser.on_task
        self.eraser.on_task = lambda seen: self._look(pipeline, seen)
        try:
            yield
        finally:
            self.eraser.on_task = before

    def give_up(self, task_id: str, reason: str) -> None:
        """Note why a task has no trace."""
        self._found[task_id] = f"the probe failed, so this task was erased without it: {reason}"

    def take(self, task_id: str) -> Probed:
        """Return what was found for a task, once."""
        found = self._found.pop(task_id, self._nothing)
        if isinstance(found, str):
            return Probed(self.name, reason=found)
        probe, seen = found
        try:
            return _files(self.name, probe, seen)
        except Exception as error:  # a picture is never lost over what was to be read beside it
            return Probed(self.name, reason=f"no trace could be made: {explain(error)}")

    @contextmanager
    def _look(self, pipeline: Any, seen: SeenTask) -> Iterator[None]:
        from mild_bench.metrics.cag.probe import probe_pipeline

        task_id = seen.task.task_id
        if not seen.people:
            self._found[task_id] = NOBODY
            yield
            return
        with probe_pipeline(pipeline, regions_of(seen)) as probe:
            yield
        self._found[task_id] = probe, seen


def regions_of(seen: SeenTask) -> Regions:
    """Return who is where: all visible people, the hole asked about, padding left out."""
    from mild_bench.metrics.cag.regions import Regions

    names = tuple(seen.people)
    return Regions(
        np.stack([seen.people[name] for name in names]),
        query=seen.hole,
        padding=seen.padding if seen.padding.any() else None,
        threshold=ATTENTION_THRESHOLD,
        names=names,
        erased=tuple(name for name in names if name in seen.task.erase),
    )


def read_attention(header: Mapping[str, Any], note: Mapping[str, Any], data: bytes) -> Trace | str:
    """Return the trace of a run's task, or the reason why there is none to score.

    Args:
        header: of the run.
        note: of the task.
        data: the trace file's content, empty when there is no such file.
    """
    if not header["eraser"].get("supports_attention_probe"):
        return NO_ATTENTION
    noted = note.get("probe")
    if not isinstance(noted, dict):
        return "erased without --probe cag"
    if noted.get("sha256") is None:
        return str(noted.get("reason"))
    if sha256(data) != noted["sha256"]:
        return "the trace's file is not the one that the run wrote; erase this task again"
    from mild_bench.metrics.cag.trace_file import read_trace

    try:
        return read_trace(data, name="the trace")
    except BadInput as error:
        return str(error)


def _files(name: str, probe: AttentionProbe, seen: SeenTask) -> Probed:
    from mild_bench.metrics.cag.trace_file import trace_bytes

    trace = probe.trace()
    data = trace_bytes(trace)
    try:
        from mild_bench.metrics.cag.picture import trace_picture

        drawn = trace_picture(trace, seen.picture, seen.hole)
    except Exception as error:
        return Probed(name, data, reason=f"no picture of the trace: {explain(error)}")
    return Probed(name, data, drawn)
