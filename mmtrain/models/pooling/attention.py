"""A learned weight for each real row."""

from typing import Literal

from einops import einsum
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank, masked_softmax
from mmtrain.section import Section


class AttentionPoolingConfig(Section):
    """A learned weight for each real row (Yang et al., Hierarchical Attention Networks, NAACL 2016, equations 5 to 7)."""

    name: Literal["attention"] = "attention"

    def build(self, *, dim: int) -> nn.Module:
        return AttentionPooling(dim=dim)


class AttentionPooling(nn.Module):
    """[B, T, d] to [B, d]: the sum of a_t h_t, a = softmax over real rows of v . tanh(W h_t + b); zeros without any."""

    def __init__(self, *, dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(dim, dim)
        self.context = nn.Linear(dim, 1, bias=False)

    def forward(self, sequence: MaskedSequence) -> Tensor:
        values = blank(sequence.values, sequence.mask)
        scores = self.context(self.hidden(values).tanh())[..., 0]  # [B, T]
        weights = masked_softmax(scores, sequence.mask)
        return blank(einsum(weights, values, "b t, b t d -> b d"), sequence.present)
