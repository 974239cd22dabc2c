"""Two LoRA adapters, background and person, on one UNet: every sample of a batch has its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from mild_bench.errors import BadInput

Kind = Literal["bg", "fg"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TARGETS = {
    "attention": ("to_q", "to_k", "to_v", "to_out.0"),
    "everything": (
        "to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
        "conv1", "conv2", "time_emb_proj",
    ),
}  # fmt: skip
MOST_SHOWN = 4  # keys in a message


@dataclass(frozen=True)
class AdapterSettings:
    """The size of the adapters.

    Attributes:
        rank: of each LoRA matrix, from 1.
        alpha: its output is scaled by alpha / rank.
        targets: ``attention`` projections only, or ``everything``: convolutions and feed-forward
            layers too.

    Raises:
        BadInput: a value that is not allowed.
    """

    rank: int = 16
    alpha: float = 16.0
    targets: str = "attention"

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or self.targets not in TARGETS:
            raise BadInput(
                "adapters: expected rank from 1, alpha above 0 and targets among "
                f"{', '.join(TARGETS)}, got {self.rank}, {self.alpha} and {self.targets!r}"
            )


class Adapters:
    """The adapters ``bg`` and ``fg`` of a UNet; both start as the UNet itself.

    The UNet's own parameters are frozen, those of both adapters need gradients.
    """

    def __init__(self, unet: Any, settings: AdapterSettings) -> None:
        """Put the adapters on a UNet2DConditionModel.

        Raises:
            BadInput: it has adapters already.
        """
        if any(isinstance(module, LoraLayer) for module in unet.modules()):
            raise BadInput("unet: it has LoRA layers already; unload_lora() them first")
        self.unet = unet
        self.settings = settings
        self._names: list[str] | None = None
        targets = list(TARGETS[settings.targets])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of the second adapter: it is wanted
            for kind in KINDS:
                config = LoraConfig(
                    r=settings.rank, lora_alpha=settings.alpha, target_modules=targets
                )
                unet.add_adapter(config, adapter_name=kind)
        unet.requires_grad_(False)
        for parameter in self.named_parameters().values():
            parameter.requires_grad_(True)
        for module in unet.modules():
            if isinstance(module, LoraLayer):
                module.register_forward_pre_hook(self._name_adapters, with_kwargs=True)

    @contextmanager
    def on(self, kinds: Sequence[Kind]) -> Iterator[None]:
        """While entered, sample i of the UNet's batch runs with the adapter ``kinds[i]``.

        Works in training too: gradients reach both adapters. Outside of it the UNet runs with
        the adapter that diffusers' ``set_adapter`` chose last.
        """
        before, self._names = self._names, list(kinds)
        try:
            yield
        finally:
            self._names = before

    def named_parameters(self, kind: Kind | None = None) -> dict[str, nn.Parameter]:
        """Return the parameters of one adapter, or of both, named as in ``state_dict``."""
        found = {}
        for name, parameter in self.unet.named_parameters():
            for one in KINDS if kind is None else (kind,):
                if f".lora_A.{one}." in name or f".lora_B.{one}." in name:
                    found[f"{one}.{name.replace(f'.{one}.', '.', 1)}"] = parameter
        return found

    def state_dict(self) -> dict[str, Tensor]:
        """Return all weights by name, ``bg.<layer>.lora_A.weight`` and so on."""
        return {name: value.detach() for name, value in self.named_parameters().items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take weights that ``state_dict`` gave.

        Raises:
            BadInput: keys or shapes that do not fit, by name.
        """
        ours = self.named_parameters()
        check_keys("adapters", ours, state)
        for name, parameter in ours.items():
            parameter.data.copy_(state[name])

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """While entered, the UNet's ``state_dict`` is the one it had without adapters.

        A UNet that is saved with them reloads with random attention weights and a warning.
        """
        handle = self.unet.register_state_dict_post_hook(_without_adapters)
        try:
            yield
        finally:
            handle.remove()

    def _name_adapters(
        self, _module: nn.Module, args: tuple[Any, ...], given: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        return None if self._names is None else (args, {**given, "adapter_names": self._names})


def check_keys(what: str, ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    """Compare a checkpoint with the parameters it is for.

    Raises:
        BadInput: keys that lack, are too many or have another shape, and which.
    """
    other = [
        f"{key} is {_size(theirs[key])} instead of {_size(ours[key])}"
        for key in sorted(ours)
        if key in theirs and theirs[key].shape != ours[key].shape
    ]
    faults = [
        f"{label} {', '.join(keys[:MOST_SHOWN])}"
        + (f" and {len(keys) - MOST_SHOWN} more" if len(keys) > MOST_SHOWN else "")
        for label, keys in (
            ("there is no", sorted(set(ours) - set(theirs))),
            ("nothing here takes", sorted(set(theirs) - set(ours))),
            ("another shape:", other),
        )
        if keys
    ]
    if faults:
        raise BadInput(
            f"{what}: expected the {len(ours)} weights of this model, got {len(theirs)}: "
            f"{'; '.join(faults)}; use the checkpoint with the base and settings it was made with"
        )


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "one number"


def _without_adapters(_unet: nn.Module, state: dict[str, Any], _prefix: str, _meta: Any) -> None:
    for key in list(state):
        value = state.pop(key)
        if ".lora_" not in key:
            state[key.replace(".base_layer.", ".")] = value
