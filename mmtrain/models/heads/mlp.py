"""A head with hidden layers, optionally normalized over labelled rows."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from mmtrain.models.heads.norm import LabelledBatchNorm
from mmtrain.section import Section

Activation = Literal["gelu", "relu", "tanh", "none"]
_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "tanh": nn.Tanh, "none": nn.Identity}


class MlpHeadConfig(Section):
    """Hidden layers (linear, batch norm if asked for, activation, dropout), then a linear layer."""

    name: Literal["mlp"] = "mlp"
    hidden: tuple[PositiveInt, ...] = Field(default=(128,), min_length=1, description="Widths of the hidden layers.")
    activation: Activation = Field(default="gelu", description="Behind each hidden layer; none: the identity.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="After each activation; a probability.")
    batch_norm: bool = Field(default=False, description="Normalize hidden layers over the rows that carry a label.")
    bare_layers: int = Field(
        default=0, ge=0, description="So many of the last hidden layers are linear maps alone: no norm, activation, dropout."
    )

    @model_validator(mode="after")
    def _bare_layers_are_there(self) -> Self:
        if self.bare_layers > len(self.hidden):
            raise ValueError(
                f"bare_layers is {self.bare_layers}, but `hidden` has {len(self.hidden)} layers; write at most that number"
            )
        return self

    def build(self, *, input_dim: int, num_outputs: int) -> nn.Module:
        return MlpHead(
            input_dim=input_dim,
            num_outputs=num_outputs,
            hidden=self.hidden,
            activation=self.activation,
            dropout=self.dropout,
            batch_norm=self.batch_norm,
            bare_layers=self.bare_layers,
        )


class MlpHead(nn.Module):
    """joint [B, J] to logits [B, C]. The last `bare_layers` hidden layers are linear maps and nothing else."""

    def __init__(
        self,
        *,
        input_dim: int,
        num_outputs: int,
        hidden: Sequence[int],
        activation: Activation,
        dropout: float,
        batch_norm: bool,
        bare_layers: int = 0,
    ) -> None:
        super().__init__()
        widths = [input_dim, *hidden]
        self.layers = nn.ModuleList(nn.Linear(width, following) for width, following in pairwise(widths))
        self._num_full = len(hidden) - bare_layers
        full = hidden[: self._num_full]
        self.norms = nn.ModuleList(LabelledBatchNorm(dim=width) for width in full) if batch_norm else None
        self.activation, self.dropout = _ACTIVATIONS[activation](), nn.Dropout(dropout)
        self.output = nn.Linear(widths[-1], num_outputs)

    def forward(self, joint: Tensor, labelled: Tensor | None = None) -> Tensor:
        """`labelled` [B] bool: the rows that batch norm may learn from; None: all."""
        for number, layer in enumerate(self.layers):
            joint = layer(joint)
            if number >= self._num_full:
                continue
            if self.norms is not None:
                joint = self.norms[number](joint, labelled)
            joint = self.dropout(self.activation(joint))
        logits: Tensor = self.output(joint)
        return logits
