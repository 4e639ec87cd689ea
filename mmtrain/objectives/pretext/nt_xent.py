"""NT-Xent: a sample's two modalities find each other among all vectors of the batch, also those of their own modality."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.pairs import PairLoss, PairRows, PairSection


class NtXentConfig(PairSection):
    """SimCLR's loss with a sample's two modalities in the place of its two views, at a fixed temperature.

    Chen et al. 2020, "A Simple Framework for Contrastive Learning of Visual Representations", equation 1.
    """

    name: Literal["nt_xent"] = "nt_xent"
    temperature: float = Field(default=0.1, ge=0.01, le=10, description="It stays.")
    exclude_alike: bool = Field(
        default=False, description="Samples of one group, or with one text, are no negatives of each other."
    )

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PairLoss:  # noqa: ARG002
        return PairLoss(
            pairs=self.pairs_of(modalities),
            compare=partial(nt_xent, temperature=self.temperature),
            by_chance=lambda count: math.log(2 * count - 1),
            exclude_alike=self.exclude_alike,
        )


def nt_xent(rows: PairRows, outputs: Mapping[str, Tensor], *, temperature: float) -> Tensor:  # noqa: ARG001 - a Compare
    """[b]: each of the two vectors against its match and the 2 n - 2 vectors of the n - 1 negatives, the mean of both."""
    return (
        _against_all(rows.first, rows.all_second, rows.all_first, rows, temperature)
        + _against_all(rows.second, rows.all_first, rows.all_second, rows, temperature)
    ) / 2


def _against_all(anchors: Tensor, others: Tensor, alike: Tensor, rows: PairRows, temperature: float) -> Tensor:
    """anchors [b, D]; the other modality's vectors, which hold the match, and those of the anchors' own, [B, D] -> [b]."""
    across, within = anchors @ others.T / temperature, anchors @ alike.T / temperature
    match = across.gather(1, rows.own[:, None])[:, 0]
    across = across.masked_fill(~rows.negatives.scatter(1, rows.own[:, None], True), -torch.inf)
    logits = torch.cat([across, within.masked_fill(~rows.negatives, -torch.inf)], dim=1)  # [b, 2 B]
    return torch.logsumexp(logits, dim=1) - match
