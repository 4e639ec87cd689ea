"""Every modality's rows as one vector, and which samples have it: what late fusions start from."""

from collections.abc import Mapping, Sequence

import torch
from einops import pack
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.naming import module_dict, module_key


class PooledModalities(nn.Module):
    """{modality: [B, T, d]} to {modality: [B, d]}, zeros where the sample lacks it; `poolings` by modality."""

    def __init__(self, poolings: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.poolings = module_dict("pooling", poolings)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> dict[str, Tensor]:
        return {name: self.poolings[module_key(name, "pooling")](inputs[name]) for name in self.modalities}


def stack_normed(vectors: Mapping[str, Tensor], norms: nn.ModuleDict) -> Tensor:
    """{modality: [B, d]} to [B, M, d], each vector behind its modality's own norm."""
    return torch.stack([norms[module_key(name, "norm")](rows) for name, rows in vectors.items()], dim=1)


def presence(inputs: Mapping[str, MaskedSequence], modalities: Sequence[str]) -> Tensor:
    """[B, M] bool: which of the modalities each sample has."""
    return pack([inputs[name].present for name in modalities], "b *")[0]
