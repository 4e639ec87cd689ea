"""A model of Hugging Face by its name or folder, with what prepares its inputs; no code that lies beside it is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from data_prep.extractors.backbone import find_device, half_type, hash_weights
from mmtrain.errors import ConfigError


@dataclass(frozen=True)
class HuggingFaceModel:
    """`has_pooler`: whether the weights of what pools a model's output, where it has such a layer, are in its files."""

    model: Any
    prepare: Any
    has_pooler: bool
    weights: dict[str, str]
    device: torch.device
    dtype: torch.dtype

    def __call__(self, **inputs: Any) -> Any:
        """The model's output for prepared inputs; floating ones in the model's own precision."""
        with torch.inference_mode():
            return self.model(**self.to_device(inputs))

    def to_device(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Tensors where the model is."""
        return {
            key: value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)
            for key, value in inputs.items()
        }


def load_model(path: str, *, processor: str, device: str, half: bool) -> HuggingFaceModel:
    """`processor`: the class of transformers that prepares inputs, AutoImageProcessor or AutoFeatureExtractor.

    Errors: ConfigError where the model cannot be had, or some of its weights are not in its files.
    """
    import transformers

    folder = Path(path).expanduser()
    name = str(folder) if folder.is_dir() else path
    try:
        prepare = getattr(transformers, processor).from_pretrained(name, trust_remote_code=False)
        model, report = transformers.AutoModel.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except Exception as error:  # a damaged file, a missing package or no network make the libraries raise anything
        first = str(error).strip().split("\n")[0]
        raise ConfigError(
            f"hf:{path} cannot be loaded ({first}); write the folder of a model with its preprocessor_config.json, or, "
            "where there is a network, a name on the hub"
        ) from None
    missing = {key for key in report["missing_keys"] if "pooler" not in key}
    if missing:
        raise ConfigError(
            f"hf:{path}: the weights are not those of the model that its config.json describes: {len(missing)} tensors "
            f"are missing (first: {min(missing)})"
        )
    weights = {folder.name if folder.is_dir() else path: hash_weights(model)}
    dtype = half_type(device) if half else torch.float32
    where = find_device(device)
    return HuggingFaceModel(
        model=model.eval().to(where, dtype),
        prepare=prepare,
        has_pooler=not report["missing_keys"],
        weights=weights,
        device=where,
        dtype=dtype,
    )
