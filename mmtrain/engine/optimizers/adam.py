"""Adam as it was first written: weight decay, if any, is a part of the gradient."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.engine.optimizers.groups import Decay, RatesSection, is_fusable
from mmtrain.engine.text_layers import TextLayers


class AdamConfig(RatesSection):
    """Adam (Kingma and Ba, 2015, algorithm 1)."""

    name: Literal["adam"] = "adam"
    weight_decay: float = Field(default=0.0, ge=0, description="Times a matrix, added to its gradient.")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="Weight of the past in the two moments.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")

    def build(self, model: nn.Module, *, text: TextLayers | None) -> torch.optim.Optimizer:
        """Adam over the parameters that train, fused where the device has it."""
        groups = self.groups(model, text=text)
        return torch.optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=is_fusable(model))
