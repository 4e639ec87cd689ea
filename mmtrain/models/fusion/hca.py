"""Hierarchical cross-attention: each modality reads the others one after the other."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.attending import Attends
from mmtrain.models.block import MultiHeadAttention
from mmtrain.models.masks import blank
from mmtrain.models.naming import module_dict, module_key
from mmtrain.models.outputs import Fused
from mmtrain.models.pooling import PoolingConfig
from mmtrain.section import Section


class HcaFusionConfig(Section):
    """Hierarchical cross-attention (HICCAP; Baharlouei et al., LREC-COLING 2024).

    The paper's model: `order: [video, text, audio]`, dim 768, 12 heads and the pooling `attention`: configs/hiccap.
    """

    name: Literal["hca"] = "hca"
    order: tuple[str, ...] | None = Field(
        default=None,
        description="Every modality once; each reads the others in this order. null: text, then as listed. The joint vector "
        "is always as listed.",
    )
    heads: int = Field(default=4, gt=0, description="Attention heads; must divide the model's dim.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Before each layer norm; a probability.")
    attention_dropout: float = Field(default=0.1, ge=0, lt=1, description="Of attention weights; a probability.")

    def check(self, modalities: Sequence[str]) -> None:
        """Errors: ConfigError where `order` is not a permutation of the modalities."""
        if self.order is not None and sorted(self.order) != sorted(modalities):
            unknown = [name for name in self.order if name not in modalities]
            fault = f"names '{unknown[0]}', which the model does not read" if unknown else "does not name each one once"
            raise ConfigError(
                f"fusion.order [{', '.join(self.order)}] {fault}; write the modalities {', '.join(modalities)} in any order"
            )

    def build(self, *, modalities: Sequence[str], dim: int, pooling: PoolingConfig) -> "HcaFusion":
        self.check(modalities)
        return HcaFusion(
            poolings={name: pooling.build(dim=dim) for name in modalities},
            order=self.order or tuple(modalities),
            dim=dim,
            heads=self.heads,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
        )


class HcaFusion(nn.Module):
    """{modality: [B, T, d]} to joint [B, M d]. A missing modality is passed over as context and pools to zeros.

    The joint vector has the modalities as `poolings` lists them; each reads the others in `order`.
    """

    def __init__(
        self,
        *,
        poolings: Mapping[str, nn.Module],
        order: Sequence[str],
        dim: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.modalities, self.order = tuple(poolings), tuple(order)
        readers = {
            name: Reader(
                pooling=pooling,
                num_contexts=len(poolings) - 1,
                dim=dim,
                heads=heads,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for name, pooling in poolings.items()
        }
        self.readers = module_dict("reader", readers)
        self.joint_dim = dim * len(self.modalities)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> Fused:
        clean = {name: MaskedSequence(blank(*inputs[name]), inputs[name].mask) for name in self.modalities}
        pooled = {}
        for name in self.modalities:
            others = [clean[other] for other in self.order if other != name]
            pooled[name] = self.readers[module_key(name, "reader")](clean[name], others)
        return Fused(joint=torch.cat(list(pooled.values()), dim=1), per_modality=pooled)

    def attends(self) -> Iterator[Attends]:
        """What each modality reads of the others, one after the other with the same weights."""
        for name in self.modalities:
            attention = getattr(self.readers[module_key(name, "reader")], "attention", None)
            for step, other in enumerate(other for other in self.order if other != name):
                assert isinstance(attention, MultiHeadAttention)
                yield Attends(attention, f"step {step + 1}", queries=(name,), keys=(other,), call=step)

    def own_rows(self) -> dict[str, tuple[str, ...]]:
        return {}


class Reader(nn.Module):
    """One modality: x = h; for each other k: x = LayerNorm_k(Dropout(Attention(x, h_k))); then pooling of x + h.

    The attention's weights are the same for every k, the norms are not.
    """

    def __init__(
        self, *, pooling: nn.Module, num_contexts: int, dim: int, heads: int, dropout: float, attention_dropout: float
    ) -> None:
        super().__init__()
        if num_contexts:
            self.attention = MultiHeadAttention(dim=dim, heads=heads, dropout=attention_dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(num_contexts))
        self.pooling, self.dropout, self.pooled_norm = pooling, nn.Dropout(dropout), nn.LayerNorm(dim)

    def forward(self, own: MaskedSequence, others: Sequence[MaskedSequence]) -> Tensor:
        rows = own.values  # [B, T, d]
        for norm, other in zip(self.norms, others, strict=True):
            read = norm(self.dropout(self.attention(rows, other.values, other.mask)))
            rows = torch.where(other.present[:, None, None], read, rows)
        pooled = self.pooling(MaskedSequence(rows + own.values, own.mask))  # [B, d]
        return blank(self.pooled_norm(self.dropout(pooled)), own.present)
