"""Pixels to rows of the model's width, frame by frame, through any backbone that reads pictures."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from mmtrain.data.batch import MaskedSequence
from mmtrain.section import Section

Share = Annotated[float, Field(ge=0, le=1)]
Spread = Annotated[float, Field(gt=0, le=1)]
Channels = tuple[float, float, float]  # red, green, blue


class FramesSection(Section):
    """What every image encoder's config has: how pixels are scaled."""

    mean: tuple[Share, Share, Share] = Field(
        default=(0.485, 0.456, 0.406), description="Subtracted from red, green and blue between 0 and 1; ImageNet's."
    )
    std: tuple[Spread, Spread, Spread] = Field(
        default=(0.229, 0.224, 0.225), description="What they are then divided by; ImageNet's."
    )


class FrameEncoder(nn.Module):
    """Pixels [B, T, 3, H, W] of 0 to 255 to [B, T, dim]: LayerNorm(W backbone(frame) + b), zeros under the mask.

    `backbone`: frames [n, 3, H, W] to [n, width]. It sees real frames alone, each scaled to (x / 255 - mean) / std; where a
    batch has none, one blank frame, whose rows go nowhere, so that every process's graph holds every parameter. Batch
    normalization in it uses its running statistics, and leaves them, where there are fewer than two real frames.
    `is_frozen`: the backbone stays in eval mode and learns nothing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, backbone: nn.Module, width: int, dim: int, mean: Channels, std: Channels, is_frozen: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.is_frozen = backbone.requires_grad_(not is_frozen), is_frozen
        self.projection, self.norm = nn.Linear(width, dim), nn.LayerNorm(dim)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.train()

    def train(self, mode: bool = True) -> "FrameEncoder":
        super().train(mode)
        if self.is_frozen:
            self.backbone.eval()
        return self

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        values, mask = sequence
        frames = values[mask]  # [n, 3, H, W]
        count = len(frames)
        if count == 0:
            frames = values.new_zeros(1, *values.shape[2:])
        rows = self.norm(self.projection(self._features(frames, is_few=count < 2)))[:count]
        spread = rows.new_zeros(*mask.shape, rows.shape[1])  # [B, T, dim]
        spread[mask] = rows
        return MaskedSequence(spread, mask)

    def _features(self, frames: Tensor, *, is_few: bool) -> Tensor:
        pixels = (frames.to(self.mean.dtype) / 255 - self.mean) / self.std
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            if not (is_few and self.backbone.training):
                features: Tensor = self.backbone(pixels)  # [n, width]
                return features
            with _running_statistics(self.backbone):
                # copies: the next forward pass may write into the buffers before this one's backward pass reads them
                buffers = {name: buffer.clone() for name, buffer in self.backbone.named_buffers()}
                alone: Tensor = functional_call(self.backbone, buffers, (pixels,))
                return alone


@contextmanager
def _running_statistics(backbone: nn.Module) -> Iterator[None]:
    """Batch normalization in eval mode inside; all else, such as dropout, as it was."""
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm) and module.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()
