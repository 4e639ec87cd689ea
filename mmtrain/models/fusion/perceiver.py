"""Latent queries that read the rows of all modalities, over and over."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from einops import pack, reduce, repeat
from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.attending import Attends
from mmtrain.models.block import CrossBlock, TransformerBlock
from mmtrain.models.encoders.transformer import add_positions
from mmtrain.models.masks import blank, masked_mean
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section

_LATENTS = "latents"


class PerceiverFusionConfig(Section):
    """Perceiver (Jaegle et al. 2021): linear in the number of rows, for long sequences. `pooling` is not used."""

    name: Literal["perceiver"] = "perceiver"
    latents: int = Field(default=16, gt=0, description="N: learned vectors that read.")
    layers: int = Field(default=2, gt=0, description="Times that the latents read all rows, then one another.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layers, in multiples of dim.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "PerceiverFusion":  # noqa: ARG002
        return PerceiverFusion(
            modalities=modalities,
            dim=dim,
            latents=self.latents,
            layers=self.layers,
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
        )


class PerceiverFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = LayerNorm(mean of the latents).

    Each layer is a cross-attention from the latents to the rows of all modalities, marked with modality and position, and
    a transformer block over the latents: O(N T d) and O(N^2 d). Layers share no weights. `per_modality` holds the mean of
    each modality's rows before they meet.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        dim: int,
        latents: int,
        layers: int,
        heads: int,
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.latents = nn.Parameter(torch.empty(latents, dim).normal_(std=0.02))
        self.marks = nn.Parameter(torch.empty(len(self.modalities), dim).normal_(std=0.02))  # [M, d]
        settings = {"dim": dim, "heads": heads, "expansion": expansion}
        self.readers = nn.ModuleList(CrossBlock(**settings, dropout=dropout) for _ in range(layers))
        self.blocks = nn.ModuleList(TransformerBlock(**settings, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        rows = self._rows(inputs)
        latents = repeat(self.latents, "n d -> b n d", b=rows.mask.shape[0])
        visible = torch.ones(latents.shape[:2], dtype=torch.bool, device=latents.device)
        for reader, block in zip(self.readers, self.blocks, strict=True):
            latents = block(reader(latents, rows), visible)
        joint = self.norm(reduce(latents, "b n d -> b d", "mean"))
        return Fused(joint=joint, per_modality={name: masked_mean(*inputs[name]) for name in self.modalities})

    def attends(self) -> Iterator[Attends]:
        """What the latents read of all modalities, then of one another."""
        for number, (reader, block) in enumerate(zip(self.readers, self.blocks, strict=True), start=1):
            yield Attends(reader.attention, f"layer {number}", queries=(_LATENTS,), keys=self.modalities)  # type: ignore[arg-type]
            yield Attends(block.attention, f"layer {number}", queries=(_LATENTS,), keys=(_LATENTS,))  # type: ignore[arg-type]

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {_LATENTS: tuple(f"latent {number + 1}" for number in range(len(self.latents)))}

    def _rows(self, inputs: Mapping[str, MaskedSequence]) -> MaskedSequence:
        """Every modality's rows, marked, in one sequence: [B, sum of T, d]."""
        parts = []
        for number, name in enumerate(self.modalities):
            parts.append(add_positions(blank(*inputs[name])) + self.marks[number])
        return MaskedSequence(pack(parts, "b * d")[0], pack([inputs[name].mask for name in self.modalities], "b *")[0])
