"""The contrastive loss of pairs: matches together, all else at least a margin apart."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.pairs import PairLoss, PairRows, PairSection

_NEAREST = 1e-4  # vectors that are nearer have no direction to be pushed in


class ContrastiveMarginConfig(PairSection):
    """Half the squared distance of a match, and the mean over negatives of half the square of what they lack to a margin.

    Hadsell et al. 2006, "Dimensionality Reduction by Learning an Invariant Mapping", equation 4; the mean over negatives
    where they sum over all pairs. Samples of one group or with one text are no negatives.
    """

    name: Literal["contrastive_margin"] = "contrastive_margin"
    margin: float = Field(default=1.0, gt=0, le=2, description="Of Euclidean distances, which are 0 to 2.")

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PairLoss:  # noqa: ARG002
        return PairLoss(
            pairs=self.pairs_of(modalities),
            compare=partial(contrastive_margin, margin=self.margin),
            by_chance=lambda _: self.margin**2 / 4,  # all at half the margin
            exclude_alike=True,
        )


def contrastive_margin(rows: PairRows, outputs: Mapping[str, Tensor], *, margin: float) -> Tensor:  # noqa: ARG001
    """[b]: d(a, p)^2 / 2 + the mean over negatives of max(0, margin - d(a, n))^2 / 2, the mean of both directions."""
    return (_apart(rows.first, rows.all_second, rows, margin) + _apart(rows.second, rows.all_first, rows, margin)) / 2


def _apart(anchors: Tensor, others: Tensor, rows: PairRows, margin: float) -> Tensor:
    squares = 2 - 2 * anchors @ others.T  # [b, B] of unit vectors
    match = squares.gather(1, rows.own[:, None])[:, 0]
    lack = (margin - squares.clamp(min=_NEAREST**2).sqrt()).clamp(min=0)
    repelled = lack.square().masked_fill(~rows.negatives, 0).sum(dim=1) / rows.negatives.sum(dim=1).clamp(min=1)
    return (match + repelled) / 2
