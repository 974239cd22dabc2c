"""Which class of diffusers erases with a saved pipeline."""

from __future__ import annotations

import inspect

from mild_bench.errors import BadInput

GIVEN = {"self", "prompt", "image", "mask_image"}


def inpainting_class(name: str) -> type:
    """Return the class of diffusers that erases with a pipeline saved as class ``name``.

    That is the class itself where it takes a picture and a mask, else its family's inpainting
    class, the one that ``AutoPipelineForInpainting`` would choose.

    Raises:
        BadInput: there is none, with the reason.
    """
    import diffusers
    from diffusers.pipelines.auto_pipeline import (
        AUTO_INPAINT_PIPELINES_MAPPING,
        SUPPORTED_TASKS_MAPPINGS,
    )

    families = [
        family
        for mapping in SUPPORTED_TASKS_MAPPINGS
        for family, member in mapping.items()
        if member.__name__ == name
    ]
    own = getattr(diffusers, name, None) if name.isidentifier() else None
    ready = [own, *(AUTO_INPAINT_PIPELINES_MAPPING.get(family) for family in families)]
    classes = [item for item in ready if isinstance(item, type)]
    reasons = {item.__name__: _why_not(item) for item in classes}
    usable = [item for item in classes if not reasons[item.__name__]]
    if usable:
        return usable[0]
    why = "; ".join(f"{item} {reason}" for item, reason in reasons.items())
    raise BadInput(
        f"diffusers: no inpainting for a {name} in diffusers {diffusers.__version__}"
        f"{f' ({why})' if why else ''}; choose an inpainting, fill or removal pipeline"
    )


def _why_not(pipeline_class: type) -> str:
    """Return why a class cannot erase with a picture and a mask alone; empty when it can."""
    import diffusers

    if not issubclass(pipeline_class, diffusers.DiffusionPipeline):
        return "is no pipeline that runs in torch"
    parameters = inspect.signature(pipeline_class.__call__).parameters
    if not {"image", "mask_image"} <= set(parameters):
        return "takes no picture and mask"
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needs = [
        name
        for name, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in variable
    ]
    more = [name for name in (*needs, "control_image") if name not in GIVEN and name in parameters]
    return f"needs {more[0]}, which erasing does not have" if more else ""
