"""Factorized bilinear pooling of every pair of modalities."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

from einops import pack, rearrange
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class BilinearFusionConfig(Section):
    """Multi-modal factorized bilinear pooling (MFB; Yu et al. 2017) of all M (M - 1) / 2 pairs, side by side.

    Each pair has 2 d (factors d) weights and gives d features of the joint vector.
    """

    name: Literal["bilinear"] = "bilinear"
    factors: int = Field(default=5, gt=0, description="k: rank of each output feature's bilinear form; the paper's is 5.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Of the products; a probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where there is no pair."""
        if len(modalities) < 2:
            raise ConfigError(
                f"fusion bilinear joins pairs of modalities, the model reads only {modalities[0]}; "
                "add a modality, or write the fusion concat"
            )

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "BilinearFusion":
        self.check(modalities)
        poolings = {name: pooling.build(dim=dim) for name in modalities}
        return BilinearFusion(poolings=poolings, dim=dim, factors=self.factors, dropout=self.dropout)


class BilinearFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, M (M - 1) / 2 * d], the pairs in the order of the modalities."""

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, factors: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)
        self.pairs = tuple(combinations(self.modalities, 2))
        self.products = nn.ModuleList(BilinearPair(dim=dim, factors=factors, dropout=dropout) for _ in self.pairs)
        self.joint_dim = dim * len(self.pairs)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        pairs = zip(self.products, self.pairs, strict=True)
        joint = pack([product(pooled[first], pooled[second]) for product, (first, second) in pairs], "b *")[0]
        return Fused(joint=joint, per_modality=pooled)


class BilinearPair(nn.Module):
    """z_i = sum over k of dropout((U x)_ik * (V y)_ik) (equation 3), then a layer norm.

    The maps have biases, as in the authors' code, so that with one of the two missing the pair is a linear map of the
    other. The norm stands for the paper's signed square root and length 1, whose gradient is infinite at zero.
    """

    def __init__(self, *, dim: int, factors: int, dropout: float) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, dim * factors), nn.Linear(dim, dim * factors)
        self.factors, self.dropout, self.norm = factors, nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Two vectors [B, d] -> [B, d]."""
        product = self.dropout(self.first(first) * self.second(second))
        result: Tensor = self.norm(rearrange(product, "b (d k) -> b d k", k=self.factors).sum(dim=2))
        return result
