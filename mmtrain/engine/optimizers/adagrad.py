"""Adagrad: the rate of each number falls with the sum of its squared gradients."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.engine.optimizers.groups import RatesSection
from mmtrain.engine.text_layers import TextLayers


class AdagradConfig(RatesSection):
    """Adagrad (Duchi et al., 2011)."""

    name: Literal["adagrad"] = "adagrad"
    lr: float = Field(default=1e-2, gt=0, description="Peak learning rate of everything but the text encoder.")
    text_lr: float = Field(default=2e-4, gt=0, description="Peak learning rate of the text encoder's own weights.")
    weight_decay: float = Field(default=0.0, ge=0, description="Times a matrix, added to its gradient.")
    initial_sum: float = Field(default=0.0, ge=0, description="What the sums of squared gradients begin with.")
    eps: float = Field(default=1e-10, gt=0, description="Added to the root of the sum of squared gradients.")

    def build(self, model: nn.Module, *, text: TextLayers | None) -> torch.optim.Optimizer:
        """Adagrad over the parameters that train."""
        groups = self.groups(model, text=text)
        return torch.optim.Adagrad(groups, lr=self.lr, initial_accumulator_value=self.initial_sum, eps=self.eps)
