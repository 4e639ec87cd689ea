"""Triplet loss with a semi-hard negative: the nearest of those that are farther away than the match."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.pairs import PairLoss, PairSection
from mmtrain.objectives.pretext.triplets import triplet


class TripletSemiHardConfig(PairSection):
    """The match nearer than a semi-hard negative by a margin. Samples of one group or with one text are no negatives.

    Schroff et al. 2015, "FaceNet: A Unified Embedding for Face Recognition and Clustering", equations 3 and 4. Where no
    negative is farther away than the match, the farthest is taken.
    """

    name: Literal["triplet_semi_hard"] = "triplet_semi_hard"
    margin: float = Field(default=0.2, gt=0, le=4, description="Of squared distances, which are 0 to 4.")

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PairLoss:  # noqa: ARG002
        return PairLoss(
            pairs=self.pairs_of(modalities),
            compare=lambda rows, _: triplet(rows, semi_hard, margin=self.margin),
            by_chance=lambda _: self.margin,
            exclude_alike=True,
        )


def semi_hard(distances: Tensor, match: Tensor, negatives: Tensor) -> Tensor:
    """[b]: the distance to the nearest negative beyond the match; to the farthest where there is none beyond."""
    beyond = negatives & (distances > match)
    farthest = distances.masked_fill(~negatives, -torch.inf).amax(dim=1)
    return torch.where(beyond.any(dim=1), distances.masked_fill(~beyond, torch.inf).amin(dim=1), farthest)
