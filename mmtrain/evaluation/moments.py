"""Metrics that are functions of sums over samples: from groups' sums come a resample's value and its own standard error."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Index = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_ROUNDING = 1e-12  # what is below this part of the terms that it is the sum of, is none
_ENTRIES = 4_000_000  # of the matrices [R, G] that stand in memory at once


@dataclass(frozen=True, kw_only=True)
class Moments:
    """A metric of N samples as `of` their sums.

    `values`: [N, k] numbers of every sample; `of`: sums [R, k] -> [R], NaN where the metric is undefined; the same for any
    multiple of the sums, so that it can be asked of means as well. `bounds`: what the metric can be at least and at most.
    """

    values: npt.NDArray[np.generic]
    of: Callable[[Tensor], Tensor]
    bounds: tuple[float, float] = (-np.inf, np.inf)

    def __call__(self, index: Index) -> float:
        """The metric of the samples at an index."""
        if not len(index):
            return float("nan")
        return float(self.of(torch.from_numpy(self.values[index].sum(axis=0, dtype=np.float64)[None]))[0])

    def __sub__(self, other: "Moments") -> "Moments":
        """The difference of two metrics of the same samples."""
        width = self.values.shape[1]
        return Moments(
            values=np.concatenate([self.values, other.values], axis=1),
            of=lambda sums: self.of(sums[:, :width]) - other.of(sums[:, width:]),
            bounds=(self.bounds[0] - other.bounds[1], self.bounds[1] - other.bounds[0]),
        )

    def group_sums(self, codes: Index, num_groups: int) -> Floats:
        """[G, k] the sums over the samples of every group; `codes`: [N] its number, 0 .. G - 1."""
        order = np.argsort(codes, kind="stable")
        starts = np.searchsorted(codes[order], np.arange(num_groups))
        sums: Floats = np.add.reduceat(self.values[order], starts, axis=0, dtype=np.float64)
        return sums

    def weighted(self, sums: Floats, weights: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        """The metric [R] of each row of `weights` [R, G], how often every group is in it, and its standard error [R].

        The error is the delta method's over groups: with g the gradient at the row's own sums and m_i the sums of group i,
        sqrt(G / (G - 1) sum_i w_i (g . m_i)^2). No mean is taken off (g . m_i), since that over all groups is 0 for a
        function that no multiple of the sums changes.
        """
        num_groups, rows = len(sums), max(_ENTRIES // max(len(sums), 1), 1)
        parts = [self._weighted(sums, weights[start : start + rows]) for start in range(0, len(weights), rows)]
        values, squares = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return values, np.sqrt(squares * num_groups / max(num_groups - 1, 1))

    def _weighted(self, sums: Floats, weights: npt.NDArray[np.generic]) -> tuple[Floats, Floats]:
        counts, groups = torch.from_numpy(weights.astype(np.float64)), torch.from_numpy(sums)
        totals = (counts @ groups).requires_grad_()  # [R, k]
        with torch.enable_grad():
            found = self.of(totals)
            (gradient,) = torch.autograd.grad(found.nan_to_num().sum(), totals)
        gradient = gradient.nan_to_num(posinf=0, neginf=0)
        parts, terms = gradient @ groups.T, gradient.abs() @ groups.abs().T  # [R, G]
        parts = torch.where(parts.abs() > _ROUNDING * terms, parts, 0.0)
        return found.detach().numpy(), (counts * parts.square()).sum(dim=1).numpy()


def mean_of(values: npt.NDArray[np.generic], bounds: tuple[float, float] = (-np.inf, np.inf)) -> Moments:
    """The mean of [N]."""
    columns = np.stack([np.asarray(values, np.float64), np.ones(len(values))], axis=1)
    return Moments(values=columns, of=lambda sums: sums[:, 0] / sums[:, 1], bounds=bounds)


def share_of(sums: Tensor, whole: Tensor) -> Tensor:
    """sums / whole, NaN where whole is 0; its gradient is 0 there."""
    some = whole > 0
    return torch.where(some, sums / torch.where(some, whole, 1.0), torch.nan)


def root_of(values: Tensor) -> Tensor:
    """The square root, of what rounding put below 0 too; its gradient at 0 is 0."""
    some = values > 0
    return torch.where(some, torch.where(some, values, 1.0).sqrt(), 0.0)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """The mean over the last axis of what is `chosen`; NaN where nothing is."""
    return share_of(torch.where(chosen, values, 0.0).sum(dim=-1), chosen.sum(dim=-1).to(values.dtype))
