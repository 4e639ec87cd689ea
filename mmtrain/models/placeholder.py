"""A learned row in the place of a modality that a sample lacks."""

from collections.abc import Sequence

import torch
from torch import nn

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank
from mmtrain.models.naming import module_key


class Placeholders(nn.Module):
    """One vector [d] for each of `modalities`; a modality that is not named stays missing, told by its mask.

    Source: the missing-modality token of Ma et al. 2022, "Are Multimodal Transformers Robust to Missing Modality?".
    """

    def __init__(self, modalities: Sequence[str], *, dim: int) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        rows = {module_key(name, "row"): nn.Parameter(torch.empty(dim).normal_(std=0.02)) for name in modalities}
        self.rows = nn.ParameterDict(rows)

    def forward(self, name: str, rows: MaskedSequence) -> MaskedSequence:
        """[B, T, d] to the same, the first row of each sample without a real one replaced, and real from here on."""
        if name not in self.modalities:
            return rows
        first = torch.arange(rows.mask.shape[1], device=rows.mask.device) == 0  # [T]
        filled = first & ~rows.present[:, None]  # [B, T]
        learned = self.rows[module_key(name, "row")].to(rows.values.dtype)
        return MaskedSequence(torch.where(filled[..., None], learned, blank(*rows)), rows.mask | filled)
