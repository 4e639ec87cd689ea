"""Layers as a graph can hold them, in the place of those whose passes depend on the data."""

import torch
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.inference.recurrent import OneOperation
from mmtrain.models.encoders.frames import FrameEncoder
from mmtrain.models.masks import blank


class EveryFrame(nn.Module):
    """A FrameEncoder in eval mode whose backbone sees masked frames too, blank ones, so that their number is a shape.

    Frames are told apart by nothing in eval mode, so that the real ones' rows are the same.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        """[B, T, 3, H, W] to [B, T, dim], zeros under the mask."""
        values, mask = sequence
        encoder, (count, length) = self.encoder, mask.shape
        frames = torch.where(mask[:, :, None, None, None], values, 0).flatten(0, 1)  # [B T, 3, H, W]
        pixels = (frames.to(encoder.mean.dtype) / 255 - encoder.mean) / encoder.std
        rows = encoder.norm(encoder.projection(encoder.backbone(pixels))).view(count, length, -1)
        return MaskedSequence(blank(rows, mask), mask)


def for_a_graph(module: nn.Module) -> None:
    """Replace, inside `module`, recurrent layers by one operation each, and encoders of real frames by those of all."""
    for name, child in module.named_children():
        if isinstance(child, nn.LSTM | nn.GRU):
            setattr(module, name, OneOperation(child))
        elif isinstance(child, FrameEncoder):
            setattr(module, name, EveryFrame(child))
        else:
            for_a_graph(child)
