"""The unimodal baseline: one modality, as if the others were not there."""

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class OnlyFusionConfig(Section):
    """One modality alone, on the same samples in the same order as any other fusion; the others' encoders are not built.

    Every sample is trained on and scored, also those that lack the modality: for them the joint vector is the same
    constant, so that the figures stand beside those of the other fusions.
    """

    name: Literal["only"] = "only"
    modality: str = Field(min_length=1, description="The modality that is read.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where the model has no encoder of `modality`."""
        if self.modality not in modalities:
            raise ConfigError(
                f"fusion.modality '{self.modality}' is not read by the model; write one of {', '.join(modalities)}"
            )

    def needed(self, modalities: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 - of every row
        """The one."""
        return (self.modality,)

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "OnlyFusion":
        self.check(modalities)
        return OnlyFusion(poolings={self.modality: pooling.build(dim=dim)}, dim=dim, dropout=self.dropout)


class OnlyFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = LayerNorm(pooled) of the one modality in `poolings`."""

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        return Fused(joint=self.dropout(self.norm(pooled[self.modalities[0]])), per_modality=pooled)
