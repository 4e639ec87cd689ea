"""Errors and correlations of values with labels: by torchmetrics, and as sums over samples."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmtrain.evaluation.moments import Moments, root_of, share_of
from mmtrain.evaluation.ranking import is_constant

Floats = npt.NDArray[np.floating]


def mean_absolute_error(values: Floats, labels: Floats) -> float:
    """NaN where there is no sample."""
    from torchmetrics.functional import mean_absolute_error as found

    return float(found(torch.from_numpy(values), torch.from_numpy(labels))) if len(labels) else float("nan")


def pearson_correlation(first: Floats, second: Floats) -> float:
    """NaN where one of two [N] is constant."""
    from torchmetrics.functional import pearson_corrcoef

    if is_constant(first) or is_constant(second):
        return float("nan")
    # standardized before: torchmetrics calls a small variance zero and warns
    a, b = ((values - np.mean(values)) / np.std(values) for values in (first, second))
    return float(pearson_corrcoef(torch.from_numpy(a), torch.from_numpy(b)))


def correlation(first: Floats, second: Floats) -> Moments:
    """The same as sums over samples, of values standardized before, which keeps digits."""
    a, b = ((values - np.mean(values)) / (np.std(values) or 1.0) if len(values) else values for values in (first, second))
    columns = np.stack([a, b, a * a, b * b, a * b, np.ones(len(a))], axis=1)

    def of(sums: Tensor) -> Tensor:
        one, two, square, other, product, _ = (sums / sums[:, 5:]).unbind(dim=1)
        spreads = square - one.square(), other - two.square()
        varies = (spreads[0] > 1e-12) & (spreads[1] > 1e-12)
        return torch.where(varies, share_of(product - one * two, root_of(spreads[0] * spreads[1])), torch.nan)

    return Moments(values=columns, of=of, bounds=(-1, 1))
