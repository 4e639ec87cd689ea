"""AdamW: Adam whose weight decay does not pass through the moments."""

from typing import Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.engine.optimizers.groups import Decay, RatesSection, is_fusable
from mmtrain.engine.text_layers import TextLayers


class AdamWConfig(RatesSection):
    """Decoupled weight decay (Loshchilov and Hutter, 2019)."""

    name: Literal["adamw"] = "adamw"
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="Weight of the past in the two moments.")
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")

    def build(self, model: nn.Module, *, text: TextLayers | None) -> torch.optim.Optimizer:
        """AdamW over the parameters that train, fused where the device has it."""
        groups = self.groups(model, text=text)
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=is_fusable(model))
