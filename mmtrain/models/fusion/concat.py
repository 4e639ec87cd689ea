"""Late fusion: each modality pooled, side by side, then a small network."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, PositiveInt
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class ConcatFusionConfig(Section):
    """Late fusion: each modality pooled, side by side, a layer norm, then hidden layers if any."""

    name: Literal["concat"] = "concat"
    hidden: tuple[PositiveInt, ...] = Field(
        default=(), description="Widths of hidden layers after the norm; none by default."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "ConcatFusion":
        poolings = {name: pooling.build(dim=dim) for name in modalities}
        return ConcatFusion(poolings=poolings, dim=dim, hidden=self.hidden, dropout=self.dropout)


class ConcatFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, J]: J = M d, or the last hidden width. A missing modality is a block of zeros.

    h = Dropout(LayerNorm([x_1; ...; x_M])) of the pooled x_m; each hidden layer makes it Dropout(GELU(W h + b)).
    """

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, hidden: Sequence[int], dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.poolings = module_dict("pooling", poolings)
        widths = [dim * len(self.modalities), *hidden]
        layers: list[nn.Module] = [nn.LayerNorm(widths[0]), nn.Dropout(dropout)]
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.GELU(), nn.Dropout(dropout)]
        self.network = nn.Sequential(*layers)
        self.joint_dim = widths[-1]

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = {name: self.poolings[module_key(name, "pooling")](inputs[name]) for name in self.modalities}
        return Fused(joint=self.network(torch.cat(list(pooled.values()), dim=1)), per_modality=pooled)
