"""The module of tasks that compare modalities: each one's mean row, projected and put to length 1, and learned scalars."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.objectives.pretext.protocol import Views


class Scalar(NamedTuple):
    """A learned number, and the greatest value that it may take."""

    initial: float
    largest: float = math.inf


class PairHead(nn.Module):
    """Views to `embedding/<modality>` [B, dim] of length 1, `present/<modality>` [B] bool, and each scalar by its name.

    `input_dim`: d of the encoded rows; `hidden`: widths of the layers between, with GELU behind each; none: one layer.
    Where a sample lacks a modality, or is not spoken for, `present` is False and the embedding zero.
    """

    def __init__(
        self,
        *,
        modalities: Sequence[str],
        input_dim: int,
        dim: int,
        hidden: Sequence[int] = (),
        scalars: Mapping[str, Scalar] | None = None,
    ) -> None:
        super().__init__()
        self.modalities, self._bounds = tuple(modalities), dict(scalars or {})
        self.projections = nn.ModuleList(projection(input_dim, hidden, dim) for _ in modalities)
        self.scalars = nn.ParameterDict({name: torch.tensor(value.initial) for name, value in self._bounds.items()})

    def forward(self, views: Views, spoken: Tensor | None = None) -> dict[str, Tensor]:
        """`spoken` [B] bool: the samples that the task speaks for; None: all."""
        outputs = {}
        for modality, project in zip(self.modalities, self.projections, strict=True):
            present = views.encoded[modality].present
            present = present if spoken is None else present & spoken
            outputs[f"embedding/{modality}"] = unit(project(views.pooled(modality))).masked_fill(~present[:, None], 0)
            outputs[f"present/{modality}"] = present
        for name, value in self.scalars.items():
            if self.training:
                with torch.no_grad():  # as CLIP does: what the last step pushed over the bound is put back on it
                    value.clamp_(max=self._bounds[name].largest)
            outputs[name] = value.clamp(max=self._bounds[name].largest)
        return outputs


def projection(input_dim: int, hidden: Sequence[int], dim: int) -> nn.Sequential:
    """[B, input_dim] to [B, dim], with a hidden layer and GELU for each width of `hidden`."""
    layers: list[nn.Module] = []
    for width, following in pairwise((input_dim, *hidden)):
        layers += [nn.Linear(width, following), nn.GELU()]
    return nn.Sequential(*layers, nn.Linear((input_dim, *hidden)[-1], dim))


def unit(values: Tensor) -> Tensor:
    """[B, D] at length 1, at least float32; zeros stay zeros."""
    return F.normalize(values.to(torch.promote_types(values.dtype, torch.float32)), dim=1)
