"""The named, hashed rules of scoring."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass

from mild_bench.errors import BadInput
from mild_bench.score import Mode
from mild_bench.store import canonical_json, sha256

ATTENTION_THRESHOLD = 0.5  # also what traces are taken with


@dataclass(frozen=True)
class Protocol:
    """Everything that changes a number without changing a picture.

    Attributes:
        mask: the mask that hole, band and compositing use; ``task`` is the one the eraser got.
        band_px: width of the boundary band, half inside and half outside the mask, in pixels.
        resize: how a result of another size is brought to the input's (``lanczos``), or
            ``refuse``.
        lpips_nets: backbones, in board order.
        clip_model, clip_weights: open_clip names; weights may also be a checkpoint file.
        attention_threshold: the part of a token's cell that a person must cover to have it.
        attention_part: the part of the model's batch whose attention counts, where there are
            several (``cond``: the prompted half of classifier-free guidance).
        primary: the score key that ranks the board.
        primary_mode: the half of the table that readers see first.
        bootstrap: resamples for the intervals.
    """

    name: str
    version: str = "1"
    mask: str = "task"
    band_px: int = 16
    resize: str = "lanczos"
    lpips_nets: tuple[str, ...] = ("alex", "vgg")
    clip_model: str = "ViT-B-32"
    clip_weights: str = "laion2b_s34b_b79k"
    attention_threshold: float = ATTENTION_THRESHOLD
    attention_part: str = "cond"
    primary: str = "lpips-alex/hole/composited"
    primary_mode: Mode = "composited"
    bootstrap: int = 2000
    seed: int = 0

    @property
    def hash(self) -> str:
        """Twelve hex digits that change with any rule."""
        return sha256(canonical_json(asdict(self)))[:12]

    def as_json(self) -> dict[str, object]:
        """Return the rules as plain JSON values, with their hash."""
        return {**asdict(self), "hash": self.hash}


PROTOCOLS = {"mild": Protocol("mild")}


def find_protocol(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        BadInput: an unknown name; suggests a near one.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    near = difflib.get_close_matches(name, PROTOCOLS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "see the README"
    raise BadInput(f"protocol: expected one of {', '.join(PROTOCOLS)}, got {name!r}; {hint}")
