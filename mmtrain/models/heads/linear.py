"""A head of one linear layer."""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from mmtrain.section import Section


class LinearHeadConfig(Section):
    """One linear layer."""

    name: Literal["linear"] = "linear"
    dropout: float = Field(default=0.0, ge=0, lt=1, description="Before the layer; a probability.")

    def build(self, *, input_dim: int, num_outputs: int) -> nn.Module:
        return LinearHead(input_dim=input_dim, num_outputs=num_outputs, dropout=self.dropout)


class LinearHead(nn.Module):
    """joint [B, J] to logits [B, C]."""

    def __init__(self, *, input_dim: int, num_outputs: int, dropout: float) -> None:
        super().__init__()
        self.dropout, self.output = nn.Dropout(dropout), nn.Linear(input_dim, num_outputs)

    def forward(self, joint: Tensor, labelled: Tensor | None = None) -> Tensor:  # noqa: ARG002 (every head is called alike)
        """`labelled` [B] makes no difference here."""
        logits: Tensor = self.output(self.dropout(joint))
        return logits
