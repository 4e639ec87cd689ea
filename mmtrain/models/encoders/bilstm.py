"""A bidirectional LSTM over the real rows."""

from typing import Literal

from pydantic import Field
from torch import nn

from mmtrain.models.encoders.bidirectional import BidirectionalEncoder
from mmtrain.section import Section


class BiLstmEncoderConfig(Section):
    """A bidirectional LSTM with a layer norm, projected to the model's width."""

    name: Literal["bilstm"] = "bilstm"
    hidden: int = Field(default=256, gt=0, description="Units of each direction.")
    layers: int = Field(default=2, gt=0, description="Recurrent layers, one above the other.")
    dropout: float = Field(default=0.2, ge=0, lt=1, description="Between layers and before the norm; a probability.")
    layer_dropout: float | None = Field(default=None, ge=0, lt=1, description="Between layers; null: as `dropout`.")
    output_norm: bool = Field(default=False, description="A second layer norm, behind the projection.")
    output_dropout: float = Field(default=0.0, ge=0, lt=1, description="Behind the projection and its norm; a probability.")

    def build(self, *, input_dim: int, dim: int) -> nn.Module:
        return BidirectionalEncoder(
            cell=nn.LSTM,
            input_dim=input_dim,
            dim=dim,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
            layer_dropout=self.layer_dropout,
            output_norm=self.output_norm,
            output_dropout=self.output_dropout,
        )
