"""Adafactor: second moments kept as one row and one column a matrix, steps relative to the weights' own size."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.engine.optimizers.groups import RatesSection
from mmtrain.engine.text_layers import TextLayers


class AdafactorConfig(RatesSection):
    """Adafactor (Shazeer and Stern, 2018, algorithms 4 and 5), torch's: lr takes the place of the paper's 0.01.

    At step t a parameter moves by max(eps, RMS of its values) * min(lr, 1 / sqrt(t)) at most, `clip` being 1: a rate here
    is a share of the weights, so that it is larger than Adam's.
    """

    name: Literal["adafactor"] = "adafactor"
    lr: float = Field(default=1e-2, gt=0, description="Peak learning rate, relative, of everything but the text encoder.")
    text_lr: float = Field(
        default=1e-3, gt=0, description="Peak learning rate, relative, of the text encoder's own weights."
    )
    weight_decay: float = Field(default=0.0, ge=0, description="Decay of matrices, times lr, apart from the moments.")
    beta2_decay: Annotated[float, Field(ge=-1, lt=0)] = Field(
        default=-0.8, description="The second moment's new part at step t is t^beta2_decay."
    )
    eps: float = Field(default=1e-3, gt=0, description="The least size that a parameter counts as having.")
    clip: float = Field(default=1.0, ge=1, description="Largest root mean square of an update before it is scaled.")

    def build(self, model: nn.Module, *, text: TextLayers | None) -> torch.optim.Optimizer:
        """Adafactor over the parameters that train."""
        groups = self.groups(model, text=text)
        return torch.optim.Adafactor(groups, lr=self.lr, beta2_decay=self.beta2_decay, eps=(None, self.eps), d=self.clip)
