"""The first real row: the [CLS] token of a text."""

from typing import Literal

from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.section import Section


class FirstPoolingConfig(Section):
    """The first real row: the [CLS] token of a text."""

    name: Literal["first"] = "first"

    def build(self, *, dim: int) -> nn.Module:  # noqa: ARG002 (every pooling is built alike)
        return FirstPooling()


class FirstPooling(nn.Module):
    """[B, T, d] to [B, d]: the first real row; zeros where there is none."""

    def forward(self, sequence: MaskedSequence) -> Tensor:
        values = blank(sequence.values, sequence.mask)
        first = sequence.mask.int().argmax(dim=1)  # [B]
        return values.gather(1, first[:, None, None].expand(-1, 1, values.shape[2]))[:, 0]
