"""A sample's pictures to torchvision's transforms and back."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Pixels = npt.NDArray[np.uint8]  # [T, 3, H, W]


def transform(value: Pixels, change: Callable[[Any], Any]) -> Pixels:
    """`change`, a function of a tensor [T, 3, H, W] uint8, done to a copy of the pixels."""
    changed: torch.Tensor = change(torch.from_numpy(np.array(value)))
    return np.ascontiguousarray(changed.numpy(), dtype=np.uint8)
