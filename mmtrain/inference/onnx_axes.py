"""What the dynamic axes of an ONNX graph are called."""

from collections.abc import Collection
from typing import Any, cast

import torch

from mmtrain.data.schema import TEXTS


def name_axes(program: torch.onnx.ONNXProgram, modalities: Collection[str]) -> None:
    """`batch`, and for every modality `audio_rows` or `text_tokens`, in the place of generated names such as s77."""
    owners = {f"{name}_mask": name for name in modalities} | {name: name for name in modalities}
    names: dict[str, str] = {}
    for value in program.model.graph.inputs:
        modality = owners[str(value.name)]
        for axis, name in enumerate(("batch", f"{modality}_{'tokens' if modality in TEXTS else 'rows'}")):
            size = None if value.shape is None else value.shape[axis]
            generated = getattr(size, "value", None)  # None of an axis whose size the model fixes
            if isinstance(generated, str):
                names.setdefault(generated, name)
    if hasattr(program, "rename_axes"):  # newer than the oldest torch that is allowed
        program.rename_axes(cast("dict[Any, str]", names))
