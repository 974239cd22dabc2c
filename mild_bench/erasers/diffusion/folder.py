"""A saved diffusers pipeline: where it is, and loading it whole or not at all.

Weights are read from safetensors only, no code comes out of a folder, and a part whose weights
do not cover it is refused: diffusers itself would fill the gap with random numbers and a warning.
"""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

from mild_bench.erasers.diffusion.quiet import LIBRARIES, quiet
from mild_bench.errors import BadInput, MissingPart
from mild_bench.store import inside, read_json, sha256, sha256_file

INDEX = "model_index.json"
SAFE, UNSAFE = "*.safetensors", ("*.bin", "*.ckpt", "*.pt", "*.pth", "*.msgpack")
UNWANTED = ("safety_checker", "watermarker")  # they change pictures after the fact
SWITCHES: dict[str, bool | None] = {
    **dict.fromkeys(UNWANTED), "requires_safety_checker": False, "add_watermarker": False,
}  # fmt: skip
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
REASON_LENGTH = 240


def find_folder(where: str, *, download: bool) -> Path:
    """Return the folder of a pipeline: a folder of yours, or a hub id's in the local cache.

    ``download`` fetches what the cache lacks (safetensors only).

    Raises:
        BadInput: neither a folder nor a hub id.
        MissingPart: a hub id that is not in the cache, or could not be fetched.
    """
    folder = Path(where).expanduser()
    if where and folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(where):
        raise BadInput(
            f"diffusers: expected diffusers:DIR with a saved pipeline or diffusers:OWNER/NAME, "
            f"got {where!r}; save one with pipeline.save_pretrained(DIR)"
        )
    from diffusers import DiffusionPipeline

    try:
        with quiet():
            found = DiffusionPipeline.download(
                where, use_safetensors=True, local_files_only=not download
            )
    except Exception as error:  # the hub's client raises many kinds
        raise MissingPart(
            f"diffusers: {where} is no folder here and not in the Hugging Face cache"
            f"{f' ({_line(error)})' if download else ''}; "
            f"run 'hf download {where}' where there is a network, or add download=on"
        ) from error
    return Path(found)


def read_index(folder: Path) -> dict[str, Any]:
    """Return ``model_index.json``.

    Raises:
        BadInput: there is none, or it names no pipeline class of diffusers.
    """
    path = folder / INDEX
    if not path.is_file():
        raise BadInput(
            f"diffusers: {folder} holds no {INDEX}, so it is no saved pipeline; "
            "save one with pipeline.save_pretrained(DIR)"
        )
    index = read_json(path)
    name = index.get("_class_name") if isinstance(index, dict) else None
    if not isinstance(name, str):
        raise BadInput(
            f"diffusers: {path} names no pipeline class of diffusers (got {name!r}); code that "
            "comes with a pipeline is not run: run it yourself and hand in outputs:DIR"
        )
    return dict(index)


def load_pipeline(folder: Path, pipeline_class: Any, *, dtype: Any) -> Any:
    """Return the pipeline of a folder, every weight of it from the folder's safetensors.

    Nothing is fetched. Safety checkers and watermarks are left out.

    Raises:
        BadInput: a part, its weights or some of them are missing, or it does not load.
    """
    index = read_index(folder)
    parts = _parts(folder, index, pipeline_class)
    with quiet():
        modules = {
            name: _load_module(folder, name, module_class, dtype)
            for name, module_class in parts.items()
        }
        accepted = inspect.signature(pipeline_class.__init__).parameters
        extras = {name: value for name, value in SWITCHES.items() if name in accepted}
        try:
            loaded = pipeline_class.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                torch_dtype=dtype,
                **modules,
                **extras,
            )
        except Exception as error:  # its many parts raise many kinds
            raise BadInput(f"diffusers: {folder} does not load: {_line(error)}") from error
    loaded.set_progress_bar_config(disable=True)
    return loaded


def fingerprint(folder: Path) -> str:
    """Return twelve hex digits that change with any weight or configuration of a pipeline."""
    files = sorted(
        path
        for pattern in (SAFE, "*.json", "*.txt", "*.model")
        for path in (*folder.glob(pattern), *folder.glob(f"*/{pattern}"))
    )
    lines = [f"{path.relative_to(folder).as_posix()} {_content(path)}" for path in files]
    return sha256("\n".join(lines).encode())[:12]


def _parts(folder: Path, index: dict[str, Any], pipeline_class: type) -> dict[str, type]:
    """Return the class of every part that has weights, all of them known to be there."""
    import torch

    parts: dict[str, type] = {}
    faults = [f"{name} is not there" for name in _lacking(index, pipeline_class)]
    for name, entry in index.items():
        if name.startswith("_") or name in UNWANTED or not isinstance(entry, list):
            continue
        if len(entry) != 2 or entry[0] is None:
            continue
        part_class = _part_class(folder, name, *(str(word) for word in entry))
        if issubclass(part_class, torch.nn.Module):
            parts[name] = part_class
            faults += _weight_faults(folder, name)
        elif not inside(folder, name).is_dir():
            faults.append(f"{name} is not there")
    if faults:
        raise BadInput(
            f"diffusers: {folder} is no whole {pipeline_class.__name__}: {'; '.join(faults)}; "
            "save the pipeline again with save_pretrained(DIR, safe_serialization=True)"
        )
    return parts


def _lacking(index: dict[str, Any], pipeline_class: Any) -> list[str]:
    parameters = inspect.signature(pipeline_class.__init__).parameters
    optional = {"self", *getattr(pipeline_class, "_optional_components", ()), *UNWANTED}
    return [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty
        and name not in optional
        and not (isinstance(index.get(name), list) and index[name][0])
    ]


def _part_class(folder: Path, name: str, library: str, class_name: str) -> type:
    from diffusers import pipelines

    if library in LIBRARIES:
        home: Any = importlib.import_module(library)
    else:
        home = getattr(pipelines, library, None)
    found = getattr(home, class_name, None)
    if not isinstance(found, type):
        raise BadInput(
            f"diffusers: {folder}: its part {name} is a {class_name} of {library!r}, which "
            f"neither {' nor '.join(LIBRARIES)} has here; upgrade them (code that comes with a "
            "pipeline is not run)"
        )
    return found


def _weight_faults(folder: Path, name: str) -> list[str]:
    part = inside(folder, name)
    if any(part.glob(SAFE)):
        return []
    others = [path.name for pattern in UNSAFE for path in sorted(part.glob(pattern))]
    if others:
        return [f"{name} has only {others[0]}, which can run code when read, no safetensors"]
    return [f"{name} has no weights" if part.is_dir() else f"{name} is not there"]


def _load_module(folder: Path, name: str, module_class: Any, dtype: Any) -> Any:
    try:
        module, info = module_class.from_pretrained(
            inside(folder, name),
            local_files_only=True,
            use_safetensors=True,
            torch_dtype=dtype,
            output_loading_info=True,
        )
    except Exception as error:  # broken files raise many kinds
        raise BadInput(f"diffusers: {folder}: {name} does not load: {_line(error)}") from error
    missing = sorted(str(key) for key in info["missing_keys"])
    if missing:
        raise BadInput(
            f"diffusers: {folder}: the weights of {name} lack {len(missing)} of its parameters "
            f"({missing[0]}, ...), which would be random; fetch or save the pipeline again"
        )
    return module


def _content(path: Path) -> str:
    """Return a file's SHA-256: the hub's cache names large files by it."""
    blob = path.resolve().name
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else sha256_file(path)


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:REASON_LENGTH]
