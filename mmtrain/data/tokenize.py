"""Text to token ids through a Hugging Face tokenizer, with every truncation counted."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np


@dataclass
class Tokenizer:
    """Wraps a Hugging Face tokenizer. An empty text gives no tokens at all: the modality is missing."""

    tokenizer: Any  # transformers.PreTrainedTokenizerBase; the library is imported only where a config names it
    max_tokens: int
    truncation_side: Literal["left", "right"] = "right"
    num_texts: int = field(default=0, init=False)
    num_truncated: int = field(default=0, init=False)
    row_shape: ClassVar[tuple[int, ...]] = ()  # of a row of what it gives: an id
    dtype: ClassVar[np.dtype[np.int64]] = np.dtype(np.int64)

    def __post_init__(self) -> None:
        self.tokenizer.truncation_side = self.truncation_side

    @property
    def pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids with the special tokens, at most `max_tokens` each."""
        encoded, cut = self.read(texts)
        self.num_texts += sum(bool(text.strip()) for text in texts)
        self.num_truncated += sum(cut)
        return encoded

    def read(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """The same, uncounted; and which texts lost some of their tokens."""
        real = [text for text in texts if text.strip()]
        encoded = self._encode(real, truncation=True) if real else []
        full = [text for text, ids in zip(real, encoded, strict=True) if len(ids) == self.max_tokens]
        whole = iter(self._encode(full, truncation=False) if full else [])
        cut = [len(ids) == self.max_tokens and len(next(whole)) > self.max_tokens for ids in encoded]
        remaining = iter(zip(encoded, cut, strict=True))
        found = [next(remaining) if text.strip() else ([], False) for text in texts]
        return [ids for ids, _ in found], [is_cut for _, is_cut in found]

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """How many tokens a call gives of each, uncounted."""
        real = [text for text in texts if text.strip()]
        encoded = iter(self._encode(real, truncation=True) if real else [])
        return [len(next(encoded)) if text.strip() else 0 for text in texts]

    @property
    def fingerprint(self) -> str:
        """A hash of all that the ids of a text depend on."""
        record = {
            "kind": type(self.tokenizer).__name__,
            "max_tokens": self.max_tokens,
            "truncation_side": self.truncation_side,
            "special": self.tokenizer.special_tokens_map,
            "pieces": self.tokenizer.get_vocab(),
        }
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            rules = json.loads(backend.to_str())
            record["rules"] = {key: rules[key] for key in rules if key not in ("truncation", "padding")}  # set by each call
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()

    def _encode(self, texts: list[str], *, truncation: bool) -> list[list[int]]:
        limit = {"max_length": self.max_tokens} if truncation else {}
        ids: list[list[int]] = self.tokenizer(texts, truncation=truncation, verbose=False, **limit)["input_ids"]
        return ids
