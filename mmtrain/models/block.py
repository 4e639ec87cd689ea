"""Multi-head attention between masked sequences, and the pre-norm transformer blocks made of it."""

import math
from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (its usual name)
from torch.utils.checkpoint import checkpoint

from mmtrain.data.batch import MaskedSequence
from mmtrain.errors import ConfigError
from mmtrain.models.dropout import dropout
from mmtrain.models.masks import blank, key_bias, key_mask


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention without an output projection (Vaswani et al. 2017, equation 1).

    Errors: ConfigError where `dim` is not a multiple of `heads`.
    """

    def __init__(self, *, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        if dim % heads:
            fitting = ", ".join(str(count) for count in range(1, min(dim, 64) + 1) if dim % count == 0)
            raise ConfigError(f"dim {dim} is not a multiple of heads {heads}; heads that fit: {fitting}")
        self.heads, self.dropout = heads, nn.Dropout(dropout)  # never called: it tells how much, and that there is some
        self.query, self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim), nn.Linear(dim, dim)

    def forward(self, queries: Tensor, context: Tensor, context_mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """Each row of queries [B, T, d] reads the real rows of context [B, S, d]: [B, T, d]. `bias` [H, T, S]: on scores.

        A sample whose context has no real row gets finite values that the caller must not use. Rows of the context under
        a False mask must be finite (see `blank`).
        """
        query, key, value = self._by_head(self.query(queries), self.key(context), self.value(context))
        p = self.dropout.p if self.training else 0.0
        if p and query.device.type == "cpu":  # where torch has no kernel with dropout
            mixed = _attend(query, key, value, key_bias(context_mask, query.new_zeros(1, 1, 1) if bias is None else bias), p)
        else:
            mask = key_mask(context_mask) if bias is None else key_bias(context_mask, bias.to(query.dtype))
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p)
        return rearrange(mixed, "b h t e -> b t (h e)")

    def weights(self, queries: Tensor, context: Tensor, context_mask: Tensor, bias: Tensor | None = None) -> Tensor:
        """What `forward` weighs the context's values with, [B, H, T, S], computed anew since its kernel keeps nothing.

        A row sums to 1 over the real rows of the context, which get all of it; to 0 where there is none.
        """
        query, key = self._by_head(self.query(queries), self.key(context))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[3])
        scores = scores if bias is None else scores + bias.to(scores.dtype)
        scores = scores.masked_fill(~key_mask(context_mask), torch.finfo(scores.dtype).min)
        return scores.softmax(dim=3).masked_fill(~context_mask[:, None, None, :], 0)

    def _by_head(self, *projected: Tensor) -> list[Tensor]:
        """[B, T, d] each to [B, H, T, d / H]."""
        return [rearrange(rows, "b t (h e) -> b h t e", h=self.heads) for rows in projected]


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x)), as in Xiong et al. 2020 (pre-norm), with GELU.

    `is_checkpointed`: training keeps the block's inputs alone, and computes it again in the backward pass.
    """

    is_checkpointed = False

    def __init__(self, *, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.output = nn.Linear(dim, dim)
        self.feedforward = _feedforward(dim=dim, expansion=expansion, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """values [B, T, d], mask [B, T] -> [B, T, d]; rows under the mask stay finite and are never read."""
        return _run(self, self._transform, values, mask)

    def _transform(self, values: Tensor, mask: Tensor) -> Tensor:
        normed = self.attention_norm(values)
        values = values + self.dropout(self.output(self.attention(normed, normed, mask)))
        result: Tensor = values + self.dropout(self.feedforward(self.feedforward_norm(values)))
        return result


class CrossBlock(nn.Module):
    """x + attention(norm(x), norm(context)), then x + feed-forward(norm(x)): a pre-norm block that reads other rows.

    `is_checkpointed`: as of a TransformerBlock.
    """

    is_checkpointed = False

    def __init__(self, *, dim: int, heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm, self.context_norm, self.feedforward_norm = (nn.LayerNorm(dim) for _ in range(3))
        self.attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.output = nn.Linear(dim, dim)
        self.feedforward = _feedforward(dim=dim, expansion=expansion, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, values: Tensor, context: MaskedSequence, bias: Tensor | None = None) -> Tensor:
        """values [B, T, d] -> [B, T, d]; a sample whose context has no real row reads nothing: its attention is zero.

        The context's values must be finite under its mask. `bias` [H, T, S] is added to the attention's scores.
        """
        return _run(self, self._transform, values, context, bias)

    def _transform(self, values: Tensor, context: MaskedSequence, bias: Tensor | None) -> Tensor:
        rows = self.context_norm(context.values)
        read = self.output(self.attention(self.attention_norm(values), rows, context.mask, bias))
        values = values + self.dropout(blank(read, context.present))
        result: Tensor = values + self.dropout(self.feedforward(self.feedforward_norm(values)))
        return result


def _attend(query: Tensor, key: Tensor, value: Tensor, added: Tensor, p: float) -> Tensor:
    """[B, H, T, e], and [B, H, S, e] twice -> [B, H, T, e], with dropout of the weights; `added` [B, H or 1, T or 1, S]."""
    scores = (query / math.sqrt(query.shape[3])) @ key.transpose(2, 3)
    weights = (scores + added.to(scores.dtype)).softmax(dim=3)
    return dropout(weights, p, training=True).to(value.dtype) @ value


def set_checkpointed(model: nn.Module, is_checkpointed: bool) -> None:
    """Let every block of a model keep its inputs alone, or all that its backward pass needs."""
    for module in model.modules():
        if isinstance(module, TransformerBlock | CrossBlock):
            module.is_checkpointed = is_checkpointed


def _run(block: TransformerBlock | CrossBlock, transform: Callable[..., Tensor], *rows: object) -> Tensor:
    if block.is_checkpointed and block.training and torch.is_grad_enabled():
        again: Tensor = checkpoint(transform, *rows, use_reentrant=False)
        return again
    return transform(*rows)


def _feedforward(*, dim: int, expansion: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, expansion * dim), nn.GELU(), nn.Dropout(dropout), nn.Linear(expansion * dim, dim))
