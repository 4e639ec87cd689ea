"""Two modalities as a pair: both vectors and how far they are apart, feature by feature."""

from collections.abc import Mapping, Sequence
from typing import Literal

from einops import pack
from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class PairFusionConfig(Section):
    """u, v and |u - v| side by side (SBERT's classification objective; Reimers and Gurevych 2019, section 3)."""

    name: Literal["pair"] = "pair"
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError unless there are two modalities."""
        check_pair(self.name, modalities)

    def needed(self, modalities: Sequence[str]) -> tuple[str, ...]:
        """Both."""
        return tuple(modalities)

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "PairFusion":
        self.check(modalities)
        return PairFusion(poolings={name: pooling.build(dim=dim) for name in modalities}, dim=dim, dropout=self.dropout)


def check_pair(fusion: str, modalities: Sequence[str]) -> None:
    """Errors: ConfigError unless there are two modalities."""
    if len(modalities) != 2:
        raise ConfigError(
            f"fusion {fusion} compares two modalities, the model reads {', '.join(modalities)}; write model.second_text: "
            "true for pairs of texts, or another fusion"
        )


class PairFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, 3 d] = [u; v; |u - v|]; a missing modality is zeros."""

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled, self.dropout = PooledModalities(poolings), nn.Dropout(dropout)
        self.joint_dim = 3 * dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        first, second = pooled.values()
        joint = pack([first, second, (first - second).abs()], "b *")[0]
        return Fused(joint=self.dropout(joint), per_modality=pooled)
