"""Schedule-free AdamW: an average of the iterates takes the place of a falling learning rate."""

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from mmtrain.engine.optimizers.groups import Decay, RatesSection
from mmtrain.engine.text_layers import TextLayers
from mmtrain.extras import require

Momentum = Annotated[float, Field(gt=0, lt=1)]


class ScheduleFreeAdamWConfig(RatesSection):
    """The Road Less Scheduled (Defazio et al., 2024, algorithm 1), of the package `schedulefree`.

    Gradients are taken at y = (1 - beta1) z + beta1 x; the average x is what is evaluated and saved. Statistics of batch
    normalization are those of y.
    """

    name: Literal["schedule_free_adamw"] = "schedule_free_adamw"
    lr: float = Field(default=2.5e-3, gt=0, description="Learning rate, behind warm-up, of everything but the text encoder.")
    text_lr: float = Field(
        default=5e-5, gt=0, description="Learning rate, behind warm-up, of the text encoder's own weights."
    )
    betas: tuple[Momentum, Decay] = Field(
        default=(0.9, 0.999), description="Interpolation with the average; weight of the past in the second moment."
    )
    eps: float = Field(default=1e-8, gt=0, description="Added to the root of the second moment.")

    def build(self, model: nn.Module, *, text: TextLayers | None) -> torch.optim.Optimizer:
        """The optimizer in training mode. Errors: ConfigError where the package is not installed."""
        require("training.optimizer: schedule_free_adamw", ["schedulefree"], extra="schedule-free")
        from schedulefree import AdamWScheduleFree

        optimizer: Any = AdamWScheduleFree(self.groups(model, text=text), lr=self.lr, betas=self.betas, eps=self.eps)
        optimizer.train()
        assert isinstance(optimizer, torch.optim.Optimizer)
        return optimizer
