"""Stochastic gradient descent with momentum."""

from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from mmtrain.engine.optimizers.groups import Decay, RatesSection
from mmtrain.engine.text_layers import TextLayers


class SGDConfig(RatesSection):
    """v <- momentum v + g; w <- w - lr v (Sutskever et al., 2013, as torch writes it)."""

    name: Literal["sgd"] = "sgd"
    lr: float = Field(default=1e-2, gt=0, description="Peak learning rate of everything but the text encoder.")
    text_lr: float = Field(default=1e-3, gt=0, description="Peak learning rate of the text encoder's own weights.")
    weight_decay: float = Field(default=0.0, ge=0, description="Times a matrix, added to its gradient.")
    momentum: Decay = Field(default=0.9, description="Weight of the past in the step; 0: none.")
    nesterov: bool = Field(default=False, description="Step by g + momentum v instead of v.")

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: needs a momentum above 0")
        return self

    def build(self, model: nn.Module, *, text: TextLayers | None) -> torch.optim.Optimizer:
        """SGD over the parameters that train; torch's fused form fails where some have a momentum and others have none."""
        groups = self.groups(model, text=text)
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov)
