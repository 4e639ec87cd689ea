"""Gated multimodal units: every feature of the joint vector chooses among the modalities."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from einops import pack, rearrange
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.fusion.pooled import PooledModalities
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class GatedFusionConfig(Section):
    """Gated multimodal units (GMU; Arevalo et al. 2017). The gates have M^2 d^2 weights, for two modalities 2 d^2."""

    name: Literal["gated"] = "gated"
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "GatedFusion":
        return GatedFusion(poolings={name: pooling.build(dim=dim) for name in modalities}, dim=dim, dropout=self.dropout)


class GatedFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = LayerNorm(h).

    h_m = tanh(W_m x_m), z_m = sigmoid(V_m [x_1; ...; x_M]), h = sum of z_m * h_m (figure 2a); for two modalities the gates
    share one z, h = z * h_1 + (1 - z) * h_2 (section 3.1). No biases, as printed: a missing modality has h_m = 0. The layer
    norm is ours.
    """

    def __init__(self, *, poolings: Mapping[str, nn.Module], dim: int, dropout: float) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.pooled = PooledModalities(poolings)
        self.hidden = module_dict("hidden", {name: nn.Linear(dim, dim, bias=False) for name in poolings})
        num_gates = 1 if len(poolings) == 2 else len(poolings)
        self.gates = nn.Linear(len(poolings) * dim, num_gates * dim, bias=False)
        self.norm, self.dropout = nn.LayerNorm(dim), nn.Dropout(dropout)
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = self.pooled(inputs)
        hidden = torch.stack([self.hidden[module_key(name, "hidden")](pooled[name]) for name in self.modalities], dim=1)
        joint = (self._gates(list(pooled.values())) * hidden.tanh()).sum(dim=1)  # [B, M, d] -> [B, d]
        return Fused(joint=self.dropout(self.norm(joint)), per_modality=pooled)

    def _gates(self, pooled: Sequence[Tensor]) -> Tensor:
        """[B, M, d], each in (0, 1)."""
        own = rearrange(self.gates(pack(pooled, "b *")[0]), "b (m d) -> b m d", d=self.joint_dim).sigmoid()
        return torch.cat([own, 1 - own], dim=1) if len(self.modalities) == 2 else own
