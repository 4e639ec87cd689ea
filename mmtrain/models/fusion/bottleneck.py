"""Attention bottlenecks: modalities exchange what a few shared tokens can carry."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from einops import pack, repeat
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.attending import Attends
from mmtrain.models.block import TransformerBlock
from mmtrain.models.fusion.pooled import presence
from mmtrain.models.masks import blank, masked_mean
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section

_BOTTLENECK = "bottleneck"


class BottleneckFusionConfig(Section):
    """Multimodal bottleneck transformer (MBT; Nagrani et al. 2021).

    Each modality attends to its own rows and to the bottleneck: quadratic in each modality's length, never in their sum.
    """

    name: Literal["bottleneck"] = "bottleneck"
    tokens: int = Field(default=4, gt=0, description="B: bottleneck tokens; the paper has 4.")
    layers: int = Field(default=2, ge=2, description="What one layer collects is read in the next: at least 2.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layers, in multiples of dim.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "BottleneckFusion":
        return BottleneckFusion(
            poolings={name: pooling.build(dim=dim) for name in modalities},
            dim=dim,
            tokens=self.tokens,
            layers=self.layers,
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
        )


class BottleneckFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, M d]: each modality's rows pooled after the last layer (the paper's CLS tokens).

    In every layer [z_m; f_m] = block_m([z_m; f]) for each modality with its own weights, then f = mean over the present
    modalities of f_m. `per_modality` holds the mean of each modality's rows before they meet.
    """

    def __init__(
        self,
        *,
        poolings: Mapping[str, nn.Module],
        dim: int,
        tokens: int,
        layers: int,
        heads: int,
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.tokens = nn.Parameter(torch.empty(tokens, dim).normal_(std=0.02))
        blocks = {
            name: nn.ModuleList(
                TransformerBlock(dim=dim, heads=heads, expansion=expansion, dropout=dropout) for _ in range(layers)
            )
            for name in poolings
        }
        self.blocks = module_dict("blocks", blocks)
        self.norms = module_dict("norm", {name: nn.LayerNorm(dim) for name in poolings})
        self.poolings = module_dict("pooling", poolings)
        self.layers, self.joint_dim = layers, dim * len(poolings)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        rows = {name: blank(*inputs[name]) for name in self.modalities}
        present = presence(inputs, self.modalities)
        shared: Tensor = repeat(self.tokens, "n d -> b n d", b=present.shape[0])
        for layer in range(self.layers):
            collected = []
            for name in self.modalities:
                block = self.blocks[module_key(name, "blocks")][layer]  # type: ignore[index]
                rows[name], tokens = self._exchange(block, MaskedSequence(rows[name], inputs[name].mask), shared)
                collected.append(tokens)
            shared = masked_mean(torch.stack(collected, dim=1), present)  # [B, M, N, d] -> [B, N, d]
        pooled = []
        for name in self.modalities:
            own = blank(self.norms[module_key(name, "norm")](rows[name]), inputs[name].mask)
            pooled.append(self.poolings[module_key(name, "pooling")](MaskedSequence(own, inputs[name].mask)))
        per_modality = {name: masked_mean(*inputs[name]) for name in self.modalities}
        return Fused(joint=pack(pooled, "b *")[0], per_modality=per_modality)

    def attends(self) -> Iterator[Attends]:
        """Each modality's rows and its version of the bottleneck, among themselves."""
        for name in self.modalities:
            rows = (name, _BOTTLENECK)
            blocks = self.blocks[module_key(name, "blocks")]
            for layer in range(self.layers):
                yield Attends(blocks[layer].attention, f"layer {layer + 1} of {name}", queries=rows, keys=rows)  # type: ignore[index]

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {_BOTTLENECK: tuple(f"token {number + 1}" for number in range(len(self.tokens)))}

    def _exchange(self, block: nn.Module, own: MaskedSequence, shared: Tensor) -> tuple[Tensor, Tensor]:
        """One modality's rows [B, T, d] and its version of the bottleneck [B, N, d] after a block over both."""
        visible = torch.ones(shared.shape[:2], dtype=torch.bool, device=shared.device)
        joined = block(torch.cat([own.values, shared], dim=1), torch.cat([own.mask, visible], dim=1))
        num_rows = own.values.shape[1]
        return joined[:, :num_rows], joined[:, num_rows:]
