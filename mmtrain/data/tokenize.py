"""Text to token ids through a Hugging Face tokenizer, with every truncation counted."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class Tokenizer:
    """Wraps a Hugging Face tokenizer. An empty text gives no tokens at all: the modality is missing."""

    tokenizer: Any  # transformers.PreTrainedTokenizerBase; the library is imported only where a config names it
    max_tokens: int
    truncation_side: Literal["left", "right"] = "right"
    num_texts: int = field(default=0, init=False)
    num_truncated: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.tokenizer.truncation_side = self.truncation_side

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the special tokens, at most `max_tokens` each."""
        real = [text for text in texts if text.strip()]
        encoded = self._encode(real, truncation=True) if real else []
        self.num_texts += len(real)
        full = [text for text, ids in zip(real, encoded, strict=True) if len(ids) == self.max_tokens]
        if full:
            self.num_truncated += sum(len(ids) > self.max_tokens for ids in self._encode(full, truncation=False))
        remaining = iter(encoded)
        return [next(remaining) if text.strip() else [] for text in texts]

    def _encode(self, texts: list[str], *, truncation: bool) -> list[list[int]]:
        limit = {"max_length": self.max_tokens} if truncation else {}
        ids: list[list[int]] = self.tokenizer(texts, truncation=truncation, verbose=False, **limit)["input_ids"]
        return ids
