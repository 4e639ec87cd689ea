"""Early fusion: the rows of all modalities in one transformer, read out by a learned query."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from einops import pack, repeat
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.attending import Attends
from mmtrain.models.block import TransformerBlock
from mmtrain.models.masks import blank
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section

_QUERY = "query"


class AttentionFusionConfig(Section):
    """The rows of all modalities in one transformer, each marked with its modality, read out by a learned query.

    The single stream of ViLT (Kim et al. 2021) over rows of any modalities; quadratic in the sum of their lengths.
    """

    name: Literal["attention"] = "attention"
    layers: int = Field(default=2, gt=0, description="Blocks, one behind the other.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layer, in multiples of dim.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "AttentionFusion":
        return AttentionFusion(
            poolings={name: pooling.build(dim=dim) for name in modalities},
            dim=dim,
            layers=self.layers,
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
        )


class AttentionFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d] = LayerNorm(z_0), z behind pre-norm blocks over [q; x_1 + e_1; ...; x_M + e_M].

    e_m marks each row with its modality (ViLT's equation 3; the blocks are its equations 4 and 5). The query token q is a
    learned vector plus the pooled vectors of the sample's modalities; it stands before their rows and is what is read after
    the last block. The pooled vectors are taken before the modalities meet, so that a loss that compares modalities cannot
    be met by copying from one to the other.
    """

    def __init__(
        self,
        *,
        poolings: Mapping[str, nn.Module],
        dim: int,
        layers: int,
        heads: int,
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(poolings)
        self.poolings = module_dict("pooling", poolings)
        self.query = nn.Parameter(torch.empty(dim).normal_(std=0.02))  # [d]
        self.marks = nn.Parameter(torch.empty(len(self.modalities), dim).normal_(std=0.02))  # [M, d]
        self.blocks = nn.ModuleList(
            TransformerBlock(dim=dim, heads=heads, expansion=expansion, dropout=dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        pooled = {name: self.poolings[module_key(name, "pooling")](inputs[name]) for name in self.modalities}
        tokens, mask = self._tokens(inputs, self.query + sum(pooled.values()))
        for block in self.blocks:
            tokens = block(tokens, mask)
        return Fused(joint=self.norm(tokens[:, 0]), per_modality=pooled)

    def attends(self) -> Iterator[Attends]:
        """Every block: the query and the rows of all modalities, among themselves."""
        rows = (_QUERY, *self.modalities)
        for number, block in enumerate(self.blocks, start=1):
            yield Attends(block.attention, f"layer {number}", queries=rows, keys=rows)  # type: ignore[arg-type]

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {_QUERY: (_QUERY,)}

    def _tokens(self, inputs: Mapping[str, MaskedSequence], query: Tensor) -> tuple[Tensor, Tensor]:
        """The query [B, d] and every modality's marked rows in one sequence: [B, 1 + sum of T, d], and its mask."""
        parts, masks = [query], [torch.ones(query.shape[0], dtype=torch.bool, device=query.device)]
        for number, name in enumerate(self.modalities):
            values, mask = inputs[name]
            parts.append(blank(values, mask) + repeat(self.marks[number], "d -> b 1 d", b=query.shape[0]))
            masks.append(mask)
        return pack(parts, "b * d")[0], pack(masks, "b *")[0]
