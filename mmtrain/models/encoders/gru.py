"""A bidirectional GRU over the real rows."""

from typing import Literal

from pydantic import Field
from torch import nn

from mmtrain.models.encoders.bidirectional import BidirectionalEncoder
from mmtrain.section import Section


class GruEncoderConfig(Section):
    """A bidirectional GRU (Cho et al. 2014) with a layer norm, projected to the model's width."""

    name: Literal["gru"] = "gru"
    hidden: int = Field(default=256, gt=0, description="Units of each direction.")
    layers: int = Field(default=2, gt=0, description="Recurrent layers, one above the other.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Between layers and before the norm; a probability.")

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return BidirectionalEncoder(
            cell=nn.GRU, input_dim=input_dim, dim=dim, hidden=self.hidden, layers=self.layers, dropout=self.dropout
        )
