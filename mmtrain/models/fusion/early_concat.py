"""Early fusion: the modalities' features side by side at every time step, then one sequence model over them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from einops import pack
from pydantic import Field
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.attending import Attends
from mmtrain.models.block import TransformerBlock
from mmtrain.models.encoders.transformer import add_positions
from mmtrain.models.masks import blank, masked_mean
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.models.row_order import stretch
from mmtrain.section import Section

_STEPS = "steps"


class EarlyConcatFusionConfig(Section):
    """Features joined per time step, then transformer blocks over the joined rows.

    Every modality is resampled to the longest of its sample: a row is repeated over the steps that fall into its time. The
    attention is quadratic in that length, as one modality's transformer is, whatever the number of modalities.
    """

    name: Literal["early_concat"] = "early_concat"
    layers: int = Field(default=1, gt=0, description="Transformer blocks over the joined rows.")
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    expansion: int = Field(default=4, gt=0, description="Width of the feed-forward layer, in multiples of dim.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="A probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Any modalities will do."""

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "EarlyConcatFusion":
        return EarlyConcatFusion(
            modalities=modalities,
            pooling=pooling.build(dim=dim),
            dim=dim,
            layers=self.layers,
            heads=self.heads,
            expansion=self.expansion,
            dropout=self.dropout,
        )


class EarlyConcatFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, d]: pooled blocks(W [x_1(t); ...; x_M(t)] + position(t)).

    A missing modality is zeros at every step. `per_modality` holds the mean of each modality's rows before they meet: a
    pooling with parameters would get no gradient there.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        pooling: nn.Module,
        dim: int,
        layers: int,
        heads: int,
        expansion: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.join, self.dropout = nn.Linear(dim * len(self.modalities), dim), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            TransformerBlock(dim=dim, heads=heads, expansion=expansion, dropout=dropout) for _ in range(layers)
        )
        self.norm, self.pooling = nn.LayerNorm(dim), pooling
        self.joint_dim = dim

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        rows, mask = self.joined(inputs)
        rows = self.join(rows)
        rows = self.dropout(add_positions(rows))
        for block in self.blocks:
            rows = block(rows, mask)
        joint = self.pooling(MaskedSequence(blank(self.norm(rows), mask), mask))
        return Fused(joint=joint, per_modality={name: masked_mean(*inputs[name]) for name in self.modalities})

    def attends(self) -> Iterator[Attends]:
        """The steps of time, in which all modalities are joined, among themselves."""
        for number, block in enumerate(self.blocks, start=1):
            yield Attends(block.attention, f"layer {number}", queries=(_STEPS,), keys=(_STEPS,))  # type: ignore[arg-type]

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {_STEPS: ()}  # as many as the sample's longest modality has rows

    def joined(self, inputs: Mapping[str, MaskedSequence]) -> MaskedSequence:
        """[B, T, M d] with T the longest modality's; the mask holds as many rows as the sample's longest modality."""
        masks = [inputs[name].mask for name in self.modalities]
        longest = torch.stack([mask.sum(dim=1) for mask in masks]).amax(dim=0)  # [B]
        steps = torch.arange(max(mask.shape[1] for mask in masks), device=longest.device)
        mask = steps < longest[:, None]  # [B, T]
        rows = [stretch(inputs[name], mask) for name in self.modalities]
        return MaskedSequence(pack(rows, "b t *")[0], mask)
