"""Late fusion by averaging: the mean of the normed vectors of the modalities that a sample has."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.pooled import PooledModalities, presence, stack_normed
from mmtrain.models.masks import masked_mean
from mmtrain.models.naming import module_dict
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class MeanFusionConfig(Section):
    """The mean of the pooled vectors that are there, each behind its own layer norm."""

    name: Literal["mean"] = "mean"
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "MeanFusion":
        return MeanFusion(poolings={name: pooling.build(dim=dim) for name in modalities}, dim=dim, dropout=self.dropout)


class MeanFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = mean over present m of LayerNorm_m(pooled_m).

    The norms stand before the mean, so that no modality outweighs another by its scale. A missing modality is not counted:
    the joint vector of a sample with one modality is as large as that of a sample with all.
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
        joint = masked_mean(normed, presence(inputs, self.modalities))  # [B, M, d] -> [B, d]
        return Fused(joint=self.dropout(joint), per_modality=pooled)
