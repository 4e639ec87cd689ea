"""SigLIP: of every pair of vectors of the batch by itself, do they belong together?"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.pairs import PairLoss, PairRows, PairSection
from mmtrain.objectives.pretext.projection import Scalar


class SiglipConfig(PairSection):
    """A binary decision for every pair of vectors, with a learned temperature and bias; a sum of n decisions a sample.

    Zhai et al. 2023, "Sigmoid Loss for Language Image Pre-Training", equation of section 3.2 and algorithm 1.
    """

    name: Literal["siglip"] = "siglip"
    temperature: float = Field(default=0.1, ge=0.001, le=10, description="To begin with; it is learned.")
    bias: float = Field(
        default=-10.0, ge=-100, le=100, description="To begin with; it is learned. Below 0: most pairs do not match."
    )
    exclude_alike: bool = Field(
        default=False, description="Samples of one group, or with one text, are no negatives of each other."
    )

    @property
    def scalars(self) -> dict[str, Scalar]:
        """The logarithm of the scale, 1 / temperature, and the bias."""
        return {"log_scale": Scalar(math.log(1 / self.temperature)), "bias": Scalar(self.bias)}

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PairLoss:  # noqa: ARG002
        return PairLoss(
            pairs=self.pairs_of(modalities), compare=siglip, by_chance=_by_chance, exclude_alike=self.exclude_alike
        )


def siglip(rows: PairRows, outputs: Mapping[str, Tensor]) -> Tensor:
    """[b]: -log sigmoid(z (scale x y + bias)), z = 1 for the match and -1 for negatives, summed; the mean of both ways.

    The sum over samples is the same for both.
    """
    return (_decide(rows.first, rows.all_second, rows, outputs) + _decide(rows.second, rows.all_first, rows, outputs)) / 2


def _decide(anchors: Tensor, others: Tensor, rows: PairRows, outputs: Mapping[str, Tensor]) -> Tensor:
    logits = outputs["log_scale"].exp() * anchors @ others.T + outputs["bias"]  # [b, B]
    match = F.softplus(-logits.gather(1, rows.own[:, None])[:, 0])
    return match + F.softplus(logits).masked_fill(~rows.negatives, 0).sum(dim=1)


def _by_chance(count: float) -> float:
    """One match in n decisions, each at the odds of 1 to n - 1."""
    return math.log(count) + (count - 1) * math.log(count / (count - 1))
