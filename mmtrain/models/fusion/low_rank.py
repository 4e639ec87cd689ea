"""Low-rank tensor fusion: the outer product of all modalities and the layer behind it, never written out."""

from collections.abc import Mapping, Sequence
from typing import Literal

from einops import rearrange
from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class LowRankFusionConfig(Section):
    """Low-rank multimodal fusion (LMF; Liu et al. 2018): M rank d (d + 1) weights, for any number of modalities."""

    name: Literal["low_rank"] = "low_rank"
    rank: int = Field(default=4, gt=0, description="Rank of the layer behind the product of all modalities.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "LowRankFusion":
        poolings = {name: pooling.build(dim=dim) for name in modalities}
        return LowRankFusion(poolings=poolings, dim=dim, rank=self.rank, dropout=self.dropout)


class LowRankFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = LayerNorm(h).

    h = sum over i to rank of the product over m, feature by feature, of W_m^(i) [x_m; 1] (section 3.2). The bias of a factor
    is the column of the 1, so a missing modality leaves the products of the others. The layer norm is ours: it undoes the
    shrinking of products of many small numbers.
    """

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, rank: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)
        self.factors = module_dict("factor", {name: nn.Linear(dim, rank * dim) for name in poolings})
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        first, *others = [self.factors[module_key(name, "factor")](pooled[name]) for name in self.modalities]
        for other in others:
            first = first * other  # [B, rank d]
        joint = rearrange(first, "b (r d) -> b r d", d=self.joint_dim).sum(dim=1)
        return Fused(joint=self.dropout(self.norm(joint)), per_modality=pooled)
