"""InfoNCE: of all samples of the batch, which one does this text, this sound or this picture belong to?"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from mmtrain.data.schema import TaskSchema
from mmtrain.objectives.pretext.pairs import PairLoss, PairRows, PairSection
from mmtrain.objectives.pretext.projection import Scalar

_LARGEST_SCALE = 100.0


class InfoNceConfig(PairSection):
    """Symmetric cross-entropy of each pair's similarities over the batch, with a learned temperature.

    van den Oord et al. 2018, "Representation Learning with Contrastive Predictive Coding", equation 4; both directions and
    the temperature as in Radford et al. 2021 (CLIP), figure 3.
    """

    name: Literal["info_nce"] = "info_nce"
    temperature: float = Field(
        default=0.07, ge=1 / _LARGEST_SCALE, le=10, description="To begin with; it is learned, and never below 0.01."
    )
    exclude_alike: bool = Field(
        default=False, description="Samples of one group, or with one text, are no negatives of each other."
    )

    @property
    def scalars(self) -> dict[str, Scalar]:
        """The logarithm of the scale, 1 / temperature."""
        return {"log_scale": Scalar(math.log(1 / self.temperature), largest=math.log(_LARGEST_SCALE))}

    def build_loss(self, *, modalities: Sequence[str], tasks: Mapping[str, TaskSchema]) -> PairLoss:  # noqa: ARG002
        return PairLoss(
            pairs=self.pairs_of(modalities), compare=info_nce, by_chance=math.log, exclude_alike=self.exclude_alike
        )


def info_nce(rows: PairRows, outputs: Mapping[str, Tensor]) -> Tensor:
    """[b]: -log softmax of the own match among it and the negatives, the mean of both directions."""
    scale = outputs["log_scale"].exp()
    return (
        _cross_entropy(scale * rows.first @ rows.all_second.T, rows)
        + _cross_entropy(scale * rows.second @ rows.all_first.T, rows)
    ) / 2


def _cross_entropy(logits: Tensor, rows: PairRows) -> Tensor:
    """logits [b, B] -> [b]."""
    candidates = rows.negatives.scatter(1, rows.own[:, None], True)
    logits = logits.masked_fill(~candidates, -torch.inf)  # the own match is always a candidate
    return torch.logsumexp(logits, dim=1) - logits.gather(1, rows.own[:, None])[:, 0]
