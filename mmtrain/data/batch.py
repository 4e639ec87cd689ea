"""What a model reads: padded values with boolean masks, targets, and which targets exist."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Mask = npt.NDArray[np.bool_]


class MaskedSequence(NamedTuple):
    """Values with the mask of what is real: token ids [B, T], features [B, T, D] or pixels [B, T, 3, H, W]."""

    values: Tensor
    mask: Tensor  # [B, T] bool, True = a real row

    @property
    def present(self) -> Tensor:
        """[B] bool: the samples that have this modality at all."""
        return self.mask.any(dim=1)


class Keys(NamedTuple):
    """What tells samples of one source, or of one text, from others: numbers alike in every process and run."""

    group: Tensor  # [B] int64, of the store and the group
    text: Tensor  # [B] int64, of the text without regard to case and spaces; one of its own where there is none


@dataclass(frozen=True)
class Batch:
    """B samples; nothing in it depends on which process or worker made it."""

    ids: tuple[str, ...]
    stream: Tensor  # [B] int64, number of the sample's stream
    index: Tensor  # [B] int64, the sample's index in its store
    inputs: dict[str, MaskedSequence]
    targets: dict[str, Tensor]  # [B] or [B, C] float32 (int64 classes for multiclass), 0 where there is no label
    labelled: dict[str, Tensor]  # [B] bool; of a pretext task: the samples that it speaks for
    group: Tensor  # [B] int64, see Keys
    text_key: Tensor  # [B] int64, see Keys

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def keys(self) -> Keys:
        """What contrasts leave out of their negatives."""
        return Keys(self.group, self.text_key)

    def to(self, device: torch.device) -> "Batch":
        """The same batch on another device; copies from pinned memory do not wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin(self) -> "Batch":
        """The same batch in page-locked memory, from which copies to a GPU overlap with work."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            stream=change(self.stream),
            index=change(self.index),
            inputs={name: MaskedSequence(change(item.values), change(item.mask)) for name, item in self.inputs.items()},
            targets={name: change(value) for name, value in self.targets.items()},
            labelled={name: change(value) for name, value in self.labelled.items()},
            group=change(self.group),
            text_key=change(self.text_key),
        )
