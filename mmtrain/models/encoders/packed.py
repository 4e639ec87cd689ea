"""A Hugging Face encoder over the real tokens of a batch alone, one text behind the other, with no padding between."""

from typing import Any

import torch
from torch import Tensor, nn

from mmtrain.models.dropout import dropout

# the families whose layers pass words on to an attention that is found by its name
FAMILIES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})
_NAME = "mmtrain_packed"


def let_pack(encoder: Any) -> bool:
    """Prepare an encoder for `packed_states`; False, and nothing is changed, where it cannot be asked of it.

    Padded passes are as before, by torch's own attention.
    """
    config = encoder.config
    if (
        config.model_type not in FAMILIES
        or config._attn_implementation != "sdpa"
        or getattr(config, "position_embedding_type", "absolute") not in (None, "absolute")
        or config.is_decoder
    ):
        return False
    from transformers import AttentionInterface, AttentionMaskInterface  # slow to import
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, sdpa_mask)
    config._attn_implementation = _NAME
    return True


def packed_states(encoder: Any, ids: Tensor, mask: Tensor, *, pad_id: int) -> Tensor:
    """The last hidden states [B, T, hidden size] of token ids [B, T], each sample with a real one; zeros under the mask.

    The same numbers as of a padded pass with this mask. What is done token by token is done to N real ones instead of B T;
    each text attends to itself alone, by products of its own length, so that nothing has to be masked.
    """
    places = mask.flatten().nonzero()[:, 0]  # [N]
    positions = _positions(encoder, ids, pad_id=pad_id).flatten()[places]
    lengths = mask.sum(dim=1).tolist()
    rows = encoder(input_ids=ids.flatten()[places][None], position_ids=positions[None], lengths=lengths)[0][0]
    states: Tensor = rows.new_zeros(mask.numel(), rows.shape[1]).index_copy(0, places, rows)
    return states.view(*mask.shape, -1)


def _positions(encoder: Any, ids: Tensor, *, pad_id: int) -> Tensor:
    """[B, T]: as the encoder counts them where it is told none; RoBERTa from behind the padding token's, over the others."""
    table = next(
        module
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith("position_embeddings")
    )
    if table.padding_idx is None:
        return torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    others = ids != pad_id
    return others.cumsum(dim=1) * others + table.padding_idx


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """A call as transformers makes it: [B, H, T, e] each -> [B, T, H, e]. With `lengths`: B = 1, and texts side by side."""
    if lengths is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        found: tuple[Tensor, Tensor | None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    p, scaling = options["dropout"], options["scaling"]
    parts = zip(*(torch.split(rows[0], lengths, dim=1) for rows in (query, key, value)), strict=True)
    mixed = [_attend(*part, scaling=scaling, p=p, training=module.training) for part in parts]
    return torch.cat(mixed, dim=1).transpose(0, 1)[None], None


def _attend(query: Tensor, key: Tensor, value: Tensor, *, scaling: float, p: float, training: bool) -> Tensor:
    """[H, T, e] each -> [H, T, e]."""
    weights = ((query * scaling) @ key.transpose(1, 2)).softmax(dim=2)
    return dropout(weights, p, training=training).to(value.dtype) @ value
