"""Batch normalization whose statistics are those of the labelled rows only."""

import torch
from torch import Tensor, nn


class LabelledBatchNorm(nn.Module):
    """nn.BatchNorm1d over the rows that carry a label (Ioffe and Szegedy 2015); every row is normalized with the result.

    With fewer than two such rows it uses its running statistics and leaves them as they are. Which of both holds is decided
    by torch.where, so that the device is not waited for.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, *, dim: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, values: Tensor, labelled: Tensor | None = None) -> Tensor:
        """values [B, D], labelled [B] bool (None: all rows) -> [B, D]."""
        rows = values.to(torch.promote_types(values.dtype, torch.float32))  # half precision is too coarse for statistics
        mean, variance = self.running_mean, self.running_var
        if self.training:
            mean, variance = self._observe(rows, labelled)
        normed = (rows - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias
        return normed.to(values.dtype)

    def _observe(self, rows: Tensor, labelled: Tensor | None) -> tuple[Tensor, Tensor]:
        chosen = rows.new_ones(len(rows), 1, dtype=torch.bool) if labelled is None else labelled[:, None]  # [B, 1]
        count = chosen.sum()
        mean = rows.masked_fill(~chosen, 0).sum(dim=0) / count.clamp(min=1)
        variance = (rows - mean).masked_fill(~chosen, 0).square().sum(dim=0) / count.clamp(min=1)
        is_enough = count >= 2
        used = torch.where(is_enough, mean, self.running_mean), torch.where(is_enough, variance, self.running_var)
        with torch.no_grad():
            weight = self.momentum * is_enough
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean, weight)
            self.running_var.lerp_(unbiased, weight)
            self.num_batches_tracked += is_enough
        return used
