"""What the dynamic axes of an ONNX graph are called."""

from typing import Any

import torch

from mmtrain.data.schema import TEXTS


def name_axes(program: torch.onnx.ONNXProgram) -> None:
    """`batch`, and for every modality `audio_rows` or `text_tokens`, in the place of generated names such as s77."""
    names: dict[Any, str] = {}
    for value in program.model.graph.inputs:
        modality = str(value.name).removesuffix("_mask")
        for axis, name in enumerate(("batch", f"{modality}_{'tokens' if modality in TEXTS else 'rows'}")):
            size = None if value.shape is None else value.shape[axis]
            generated = getattr(size, "value", None)  # None of an axis whose size the model fixes
            if isinstance(generated, str):
                names.setdefault(generated, name)
    if hasattr(program, "rename_axes"):  # newer than the oldest torch that is allowed
        program.rename_axes(names)
