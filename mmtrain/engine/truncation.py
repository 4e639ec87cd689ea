"""Texts longer than the encoder reads: counted while they are tokenized, said once."""

import torch
from accelerate import Accelerator

from mmtrain.data.cached_texts import CachedTexts
from mmtrain.data.tokenize import Tokenizer


def truncation_note(tokenizer: Tokenizer | CachedTexts | None, accelerator: Accelerator) -> str | None:
    """A sentence on the texts that all processes have cut so far; None where there was none."""
    if tokenizer is None:
        return None
    counts = torch.tensor([tokenizer.num_truncated, tokenizer.num_texts], device=accelerator.device)
    if accelerator.num_processes > 1:
        counts = accelerator.reduce(counts, reduction="sum")
    truncated, texts = counts.tolist()
    if not truncated:
        return None
    were = "text was" if texts == 1 else "texts were"
    return (
        f"{truncated:,} of {texts:,} {were} longer than {tokenizer.max_tokens} tokens and cut on the "
        f"{tokenizer.truncation_side}"
    )
