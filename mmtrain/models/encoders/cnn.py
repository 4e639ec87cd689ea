"""A small convolutional network over pixels, trained from scratch."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from mmtrain.data.schema import FrameShape
from mmtrain.models.encoders.frames import FrameEncoder, FramesSection


class CnnEncoderConfig(FramesSection):
    """Blocks of convolution (3 x 3, stride 2), batch norm over real frames and ReLU; the mean over all places."""

    name: Literal["cnn"] = "cnn"
    hidden: tuple[PositiveInt, ...] = Field(
        default=(32, 64, 128), min_length=1, description="Channels of the blocks; each halves height and width."
    )

    def build(self, *, shape: FrameShape, dim: int) -> nn.Module:
        backbone = Cnn(channels=shape[0], hidden=self.hidden)
        return FrameEncoder(backbone=backbone, width=self.hidden[-1], dim=dim, mean=self.mean, std=self.std)


class Cnn(nn.Module):
    """Frames [n, channels, H, W] to [n, hidden[-1]], the global average of the last block (Lin et al. 2014, section 3.2)."""

    def __init__(self, *, channels: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, following, kernel_size=3, stride=2, padding=1, bias=False),
                    nn.BatchNorm2d(following),
                    nn.ReLU(),
                )
                for width, following in pairwise([channels, *hidden])
            )
        )

    def forward(self, frames: Tensor) -> Tensor:
        maps: Tensor = self.blocks(frames)  # [n, hidden[-1], H', W']
        return maps.mean(dim=(2, 3))
