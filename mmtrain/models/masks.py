"""The one place where boolean masks (True = real) meet values, scores and attention."""

import torch
from torch import Tensor


def blank(values: Tensor, mask: Tensor) -> Tensor:
    """Values [B, T, ...] with zeros where mask [B, T] is False, whatever lay there (also NaN, also in the backward pass)."""
    shape = mask.shape + (1,) * (values.dim() - mask.dim())
    return values.masked_fill(~mask.view(shape), 0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the real entries of values [B, T, ...] with mask [B, T]: [B, ...]; zeros where a sample has none."""
    count = mask.sum(dim=1).clamp(min=1)  # [B]
    return blank(values, mask).sum(dim=1) / count.view(-1, *[1] * (values.dim() - 2))


def with_one_visible(mask: Tensor) -> Tensor:
    """The mask [B, T], but with the first row visible where a sample has none.

    A softmax over no keys at all is NaN, forwards and backwards. The caller blanks the result of such a sample.
    """
    first = torch.arange(mask.shape[1], device=mask.device) == 0  # [T]
    return mask | (first & ~mask.any(dim=1, keepdim=True))


def key_mask(mask: Tensor) -> Tensor:
    """The boolean `attn_mask` [B, 1, 1, S] of scaled_dot_product_attention for keys with mask [B, S]."""
    return with_one_visible(mask)[:, None, None, :]


def key_bias(mask: Tensor, bias: Tensor) -> Tensor:
    """The additive `attn_mask` [B, H, T, S] for keys with mask [B, S] and scores to which bias [H, T, S] is added."""
    return bias[None].masked_fill(~key_mask(mask), torch.finfo(bias.dtype).min)


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the real entries of scores [B, T]; a sample without any gets finite weights, to be blanked."""
    return scores.masked_fill(~with_one_visible(mask), torch.finfo(scores.dtype).min).softmax(dim=1)
