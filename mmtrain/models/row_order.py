"""Rows in another order or number within their real length: real ones first, backwards, stretched over other rows."""

import torch
from torch import Tensor

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.masks import blank


def take(rows: Tensor, index: Tensor) -> Tensor:
    """Rows [B, T, d] in the order of index [B, S]: [B, S, d]."""
    return rows.gather(1, index[..., None].expand(-1, -1, rows.shape[2]))


def real_first(mask: Tensor) -> Tensor:
    """[B, T]: the slot of each row when real rows come first, both kinds in their old order. Right-padded: 0 .. T - 1."""
    return torch.where(mask, mask.cumsum(dim=1), mask.sum(dim=1, keepdim=True) + (~mask).cumsum(dim=1)) - 1


def put_real_first(sequence: MaskedSequence) -> Tensor:
    """[B, T, d]: the real rows in their order, then zeros."""
    rows, slots = blank(*sequence), real_first(sequence.mask)
    return torch.zeros_like(rows).scatter(1, slots[..., None].expand_as(rows), rows)


def reverse_within(lengths: Tensor, num_rows: int) -> Tensor:
    """[B, T]: index that reverses the first `lengths` rows of each sample and leaves the rest; its own inverse."""
    step = torch.arange(num_rows, device=lengths.device)[None]  # [1, T]
    return torch.where(step < lengths[:, None], lengths[:, None] - 1 - step, step)


def stretch(sequence: MaskedSequence, mask: Tensor) -> Tensor:
    """The n real rows of a sequence [B, T, d] spread evenly over the L real rows of mask [B, S]: [B, S, d].

    Row i is the mean of the rows floor(i n / L) to floor((i + 1) n / L) - 1, at least the first of them: long sequences are
    averaged piece by piece, short ones repeated. Zeros under the mask and where there are no rows. Linear in T + S; sums are
    at least float32, also of half-precision rows.
    """
    rows = put_real_first(sequence)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    have = sequence.mask.sum(dim=1, keepdim=True).clamp(min=1)  # n, [B, 1]
    want = mask.sum(dim=1, keepdim=True).clamp(min=1)  # L, [B, 1]
    source, target = (torch.arange(count, device=mask.device)[None] for count in (rows.shape[1], mask.shape[1]))
    piece = (((source + 1) * want - 1) // have).clamp(max=mask.shape[1] - 1)  # [B, T] the piece that each row falls into
    sums = torch.zeros_like(rows[:, :1]).repeat(1, mask.shape[1], 1)  # [B, S, d]
    sums = sums.scatter_add(1, piece[..., None].expand_as(rows), rows)
    first = target * have // want  # [B, S]
    size = ((target + 1) * have // want - first).clamp(min=1)
    repeated = take(rows, first.clamp(max=rows.shape[1] - 1))
    spread = torch.where((have >= want)[..., None], sums / size[..., None], repeated)
    return blank(take(spread, real_first(mask)), mask)
