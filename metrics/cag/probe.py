"""AttentionProbe: reads a diffusers model's self-attention from outside, changing nothing."""

# mypy: disallow-untyped-calls=False
# some of torch's own methods carry no types.

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mild_bench.errors import BadInput
from mild_bench.metrics.cag.intercept import AttentionCall, Interception, in_backward
from mild_bench.metrics.cag.layout import Layout, ModelInput, Text, find_layout
from mild_bench.metrics.cag.maps import MapTotals
from mild_bench.metrics.cag.readings import Place, Reading, Tokens, read, sort_tokens, trace_of
from mild_bench.metrics.cag.regions import Regions, find_grid
from mild_bench.metrics.cag.trace import Trace

Parts = Sequence[str] | Callable[[], Sequence[str]]
GUIDED = ("uncond", "cond")  # the order in which diffusers' pipelines stack the two halves


class AttentionProbe:
    """Takes leakage, CAG, logit gap, margin and leakage matrix of every self-attention layer.

    Attach it with ``with``; the model's output is the same, bit for bit. Hooks on the attention
    modules see their calls of ``scaled_dot_product_attention``; processors stay as they are.

    Args:
        model: a diffusers UNet2DConditionModel or transformer, not compiled.
        regions: who is where in the picture that the model sees.
        parts: names of equal parts of the batch, in order: ``GUIDED`` under classifier-free
            guidance; or a function that tells while the model runs. A part whose name is empty
            is left out (it shows something else than ``regions``), and a call of the model with
            no other parts is not looked at and is no step.
        logit_gap: whether to take it.
        margin: whether to take it (a second pass over the logits of the query region).
        layers: name patterns (``down_blocks.*``) of the layers to read; all when None.
        steps: which calls of the model to read, from 0; all when None.
        text_order: where text stands among the tokens of joint attention, for processors that
            the probe does not know.

    Raises:
        BadInput: the model is compiled, has no attention modules, or no layer fits ``layers``.
    """

    def __init__(
        self,
        model: nn.Module,
        regions: Regions,
        *,
        parts: Parts = ("all",),
        logit_gap: bool = True,
        margin: bool = False,
        layers: Sequence[str] | None = None,
        steps: Collection[int] | None = None,
        text_order: Text | None = None,
    ) -> None:
        _refuse_compiled(model)
        self.model = model
        self.regions = regions
        self.parts = parts
        self.logit_gap = logit_gap
        self.margin = margin
        self.steps = steps
        self.text_order = text_order
        self._layers = _attention_layers(model, layers)
        self._handles: list[RemovableHandle] = []
        self._readings: list[Reading] = []
        self._skipped: dict[str, str] = {}
        self._maps = MapTotals()
        self._known: dict[object, Tokens | str] = {}
        self._names: tuple[str, ...] = ()
        self._step = -1
        self._timestep = math.nan
        self._input = ModelInput(None, None, 0)

    def __enter__(self) -> AttentionProbe:
        """Attach to the model."""
        _refuse_compiled(self.model)
        self._handles = [self.model.register_forward_pre_hook(self._begin, with_kwargs=True)]
        for name, module in self._layers.items():
            watch = _Watch(self, name)
            self._handles += [
                module.register_forward_pre_hook(watch.enter, with_kwargs=True),
                module.register_forward_hook(watch.leave, always_call=True),
            ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach; what was read stays."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def trace(self) -> Trace:
        """Return what was read so far."""
        silent = {} if self._readings or self._skipped else {"": UNSEEN}
        skipped = {**self._skipped, **silent}
        return trace_of(self._readings, self.regions, skipped, self._maps.maps())

    def _begin(self, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        if torch.compiler.is_compiling():
            raise BadInput(COMPILED)  # makes the tracer give up: the call then runs uncompiled
        self._names = tuple(self.parts() if callable(self.parts) else self.parts)
        if in_backward() or not any(self._names):
            return
        self._step += 1
        self._input = _model_input(module, args, given)
        timestep = given.get("timestep", args[1] if len(args) > 1 else None)
        try:
            self._timestep = float(torch.as_tensor(timestep).flatten()[0])
        except (TypeError, RuntimeError, IndexError):
            self._timestep = math.nan
        if self._input.latents is not None:
            self._check_shape(self._input.latents)

    def _check_shape(self, latents: tuple[int, int]) -> None:
        height, width = self.regions.size
        cells = height / latents[0], width / latents[1]
        if abs(math.log(cells[0] / cells[1])) > 1 / min(latents):
            raise BadInput(
                f"regions: masks are {height} x {width}, but the model works on "
                f"{latents[0]} x {latents[1]} tokens, another shape; give masks of the picture as "
                "the model sees it, after resizing, padding or cropping"
            )

    def _attend(self, name: str, processor: str, text: int | None, call: AttentionCall) -> Tensor:
        parts = self._names
        if not any(parts) or (self.steps is not None and self._step not in self.steps):
            return call.run()
        found = self._tokens(name, processor, text, call)
        if not isinstance(found, str) and call.query.shape[0] % len(parts):
            found = f"a batch of {call.query.shape[0]} has no {len(parts)} equal parts"
        if isinstance(found, str):
            self._skipped[name] = found
            return call.run()
        groups = found.groups
        seen = read(call, groups, with_gap=self.logit_gap, with_margin=self.margin)
        place = Place(name, self._step, self._timestep, parts, found.grid)
        self._readings.append(Reading(place, groups, seen.statistics))
        if len(groups.figures):
            on_people = seen.masses[:, :, found.picture, 1 : 1 + groups.people]
            self._maps.add(on_people, parts, found.grid)
        return seen.output

    def _tokens(
        self, name: str, processor: str, text: int | None, call: AttentionCall
    ) -> Tokens | str:
        if call.query.dim() != 4:
            return f"{processor}: attention is not batch x heads x tokens x width"
        if call.is_causal:
            return "causal attention"
        counts = call.query.shape[2], call.key.shape[2]
        case = (*counts, text, processor, self._input, call.query.device)
        if case not in self._known:
            layout = find_layout(*counts, text, processor, self._input, self.text_order)
            self._known[case] = layout if isinstance(layout, str) else self._sort(layout, call)
        return self._known[case]

    def _sort(self, layout: Layout, call: AttentionCall) -> Tokens | str:
        grid = find_grid(layout.picture, self.regions.size, self._input.latents)
        if grid is None:
            return (
                f"{layout.picture} tokens are no grid of a picture of "
                f"{self.regions.size[0]} x {self.regions.size[1]}"
            )
        return sort_tokens(self.regions, grid, layout, call.query.device)


def probe_pipeline(pipeline: Any, regions: Regions, **settings: Any) -> AttentionProbe:
    """Return a probe of a diffusers pipeline's UNet or transformer that tells guidance's halves.

    Args:
        pipeline: has ``unet`` or ``transformer``; may name its own ``attention_parts`` (see
            ``mild_bench.erasure.ProbedEraser``).
        regions: who is where in the picture that the model sees.
        settings: of ``AttentionProbe``, but ``parts``.

    Raises:
        BadInput: it has neither.
    """
    model = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if model is None:
        raise BadInput(
            f"pipeline: expected one with a unet or transformer, got {type(pipeline).__name__}"
        )

    # Combined pipelines (Kandinsky) leave the model to a decoder pipeline of theirs.
    runner = getattr(pipeline, "decoder_pipe", pipeline)

    def parts() -> Sequence[str]:
        named: Parts | None = getattr(pipeline, "attention_parts", None)
        if named is not None:
            return named() if callable(named) else named
        return GUIDED if getattr(runner, "do_classifier_free_guidance", False) else ("all",)

    return AttentionProbe(model, regions, parts=parts, **settings)


class _Watch:
    """Intercepts attention while one module runs."""

    def __init__(self, probe: AttentionProbe, name: str) -> None:
        self.probe = probe
        self.name = name
        self.open: list[Interception | None] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        if in_backward():
            self.open.append(None)
            return
        context = given.get("encoder_hidden_states", args[1] if len(args) > 1 else None)
        text = int(context.shape[1]) if isinstance(context, Tensor) else None
        processor = type(_innermost(module.processor)).__name__

        def attend(call: AttentionCall) -> Tensor:
            return self.probe._attend(self.name, processor, text, call)

        interception = Interception(attend)
        interception.__enter__()
        self.open.append(interception)

    def leave(self, module: nn.Module, args: object, output: object) -> None:
        interception = self.open.pop() if self.open else None
        if interception is None:
            return
        interception.__exit__(None, None, None)
        if not interception.seen and output is not None:
            self.probe._skipped[self.name] = (
                f"{type(module.processor).__name__} does not call scaled_dot_product_attention; "
                "set_attn_processor(AttnProcessor2_0()) and the native attention backend do"
            )


UNSEEN = (
    "no attention ran in the chosen layers and steps while the probe was attached, or it ran from "
    "a graph compiled before"
)
COMPILED = (
    "model: it is compiled, and a compiled graph hides its attention; probe it before "
    "torch.compile, or an uncompiled copy of the same weights"
)


def _innermost(processor: Any) -> Any:
    """The processor that does the work, where others (SMA's) are wrapped around it."""
    while hasattr(processor, "original"):
        processor = processor.original
    return processor


def _refuse_compiled(model: nn.Module) -> None:
    if any(
        getattr(module, "_compiled_call_impl", None) is not None or hasattr(module, "_orig_mod")
        for module in model.modules()
    ):
        raise BadInput(COMPILED)


def _attention_layers(model: nn.Module, patterns: Sequence[str] | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: module
        for name, module in model.named_modules()
        if hasattr(module, "processor") and hasattr(module, "set_processor")
    }
    chosen = {
        name: module
        for name, module in found.items()
        if patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)
    }
    if not chosen:
        raise BadInput(
            f"model: expected one with attention modules{f' like {patterns}' if found else ''}, "
            f"got {type(model).__name__} with {', '.join(list(found)[:3]) or 'none'}"
        )
    return chosen


def _model_input(model: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> ModelInput:
    picture = given.get("sample", given.get("hidden_states", args[0] if args else None))
    context = given.get("encoder_hidden_states")
    text = int(context.shape[1]) if isinstance(context, Tensor) else 0
    if not isinstance(picture, Tensor):
        return ModelInput(None, None, text)
    if picture.dim() == 3:
        return ModelInput(None, int(picture.shape[1]), text)
    patch = int(getattr(getattr(model, "config", None), "patch_size", None) or 1)
    height, width = (int(side) // patch for side in picture.shape[-2:])
    return ModelInput((height, width), None if patch == 1 else height * width, text)
