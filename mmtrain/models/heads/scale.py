"""A head that only scales and shifts: for fusions whose joint vector is one number already, such as a cosine."""

from typing import Literal

import torch
from torch import Tensor, nn

from mmtrain.errors import ConfigError
from mmtrain.section import Section


class ScaleHeadConfig(Section):
    """exp(a) x + b with learned a and b, both 0 at the start: it never turns the order of the samples round."""

    name: Literal["scale"] = "scale"

    def build(self, *, input_dim: int, num_outputs: int) -> nn.Module:
        """Errors: ConfigError where there is not one number on both sides."""
        if input_dim != 1 or num_outputs != 1:
            raise ConfigError(
                f"head scale: the fusion gives {input_dim} numbers a sample and the task wants {num_outputs}, both must "
                "be 1 (the fusion pair_cosine, a binary or regression task); write another head"
            )
        return ScaleHead()


class ScaleHead(nn.Module):
    """joint [B, 1] to logits [B, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale, self.bias = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, joint: Tensor, labelled: Tensor | None = None) -> Tensor:  # noqa: ARG002 (every head is called alike)
        """`labelled` [B] makes no difference here."""
        return joint * self.log_scale.exp() + self.bias
