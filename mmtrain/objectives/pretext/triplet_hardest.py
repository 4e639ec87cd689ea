"""Triplet loss with the hardest negative: the one of the batch that is nearest."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.pairs import PairLoss, PairSection
from mmtrain.objectives.pretext.triplets import triplet


class TripletHardestConfig(PairSection):
    """The match nearer than the nearest negative by a margin. Samples of one group or with one text are no negatives.

    Faghri et al. 2018, "VSE++: Improving Visual-Semantic Embeddings with Hard Negatives", equation 6, in the squared
    distances of Schroff et al. 2015: a margin of theirs in cosines is here twice as large.
    """

    name: Literal["triplet_hardest"] = "triplet_hardest"
    margin: float = Field(default=0.2, gt=0, le=4, description="Of squared distances, which are 0 to 4.")

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PairLoss:  # noqa: ARG002
        return PairLoss(
            pairs=self.pairs_of(modalities),
            compare=lambda rows, _: triplet(rows, nearest, margin=self.margin),
            by_chance=lambda _: self.margin,
            exclude_alike=True,
        )


def nearest(distances: Tensor, match: Tensor, negatives: Tensor) -> Tensor:  # noqa: ARG001 - a Choose
    """[b]: the distance to the nearest negative."""
    return distances.masked_fill(~negatives, torch.inf).amin(dim=1)
