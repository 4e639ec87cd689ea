"""Late fusion by addition: the normed vectors of the modalities that a sample has, summed."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.pooled import PooledModalities, presence, stack_normed
from mmtrain.models.masks import blank
from mmtrain.models.naming import module_dict
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class SumFusionConfig(Section):
    """The sum of the pooled vectors, each behind its own layer norm. The smallest fusion: 2 M d parameters."""

    name: Literal["sum"] = "sum"
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "SumFusion":
        return SumFusion(poolings={name: pooling.build(dim=dim) for name in modalities}, dim=dim, dropout=self.dropout)


class SumFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = sum over present m of LayerNorm_m(pooled_m).

    The norms stand before the sum, so that no modality outweighs another by its scale, and none after it, so that the
    number of modalities shows; a missing modality adds nothing.
    """

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)
        self.norms = module_dict("norm", {name: nn.LayerNorm(dim) for name in poolings})
        self.dropout = nn.Dropout(dropout)
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        normed = stack_normed(pooled, self.norms)
        joint = blank(normed, presence(inputs, self.modalities)).sum(dim=1)  # [B, M, d] -> [B, d]
        return Fused(joint=self.dropout(joint), per_modality=pooled)
