"""What a frozen text encoder makes of texts, as it is kept in a cache."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from mmtrain.data.batch import MaskedSequence
from mmtrain.data.cached_block import CachedText, Rows
from mmtrain.data.collate import pad_rows
from mmtrain.data.tokenize import Tokenizer
from mmtrain.models.encoders.text import HubText

# of a forward pass, padding included: constants, so that all who make a cache on one kind of device make the same. A CPU is
# a quarter slower with four times as many
_TOKENS, _TOKENS_OF_CPU = 8192, 2048

Autocast = Callable[[], AbstractContextManager[Any]]


class RowMaker:
    """Makes the rows of texts with an encoder, on the device where it is, under `autocast`."""

    def __init__(self, text: HubText, tokenizer: Tokenizer, *, autocast: Autocast) -> None:
        self._text, self._tokenizer, self._autocast = text, tokenizer, autocast

    @property
    def width(self) -> int:
        return int(self._text.encoder.config.hidden_size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Float32, which also holds what half precision makes; float64 of an encoder in that."""
        return np.dtype(np.float64 if self._weight.dtype == torch.float64 else np.float32)

    @property
    def _weight(self) -> torch.Tensor:
        weight: torch.Tensor = next(self._text.encoder.parameters())
        return weight

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], progress: Callable[[int], None] = lambda _: None) -> Iterator[CachedText]:
        """Texts of like length together, the longest first; none is blank. `progress` is told how many are done."""
        encoded, cut = self._tokenizer.read(texts)
        order = sorted(range(len(texts)), key=lambda number: -len(encoded[number]))
        self._text.encoder.eval()
        tokens = _TOKENS_OF_CPU if self._weight.device.type == "cpu" else _TOKENS
        while order:
            size = max(tokens // max(len(encoded[order[0]]), 1), 1)
            chosen, order = order[:size], order[size:]
            for number, rows in zip(chosen, self._rows([encoded[number] for number in chosen]), strict=True):
                yield CachedText(texts[number], rows, cut[number])
            progress(len(texts) - len(order))

    def _rows(self, ids: Sequence[Sequence[int]]) -> list[Rows]:
        device = self._weight.device
        tokens = pad_rows(
            [np.asarray(sequence, np.int64) for sequence in ids], (), np.dtype(np.int64), self._tokenizer.pad_id
        )
        with self._autocast():
            found, real = self._text.cacheable(MaskedSequence(tokens.values.to(device), tokens.mask.to(device)))
        kept = found.to(torch.promote_types(found.dtype, torch.float32)).cpu().numpy().astype(self.dtype)
        return [rows[: int(count)] for rows, count in zip(kept, real.sum(dim=1), strict=True)]


def encoder_fingerprint(text: HubText) -> str:
    """A hash of the encoder's architecture and of the bytes of its weights as they are loaded."""
    config = text.encoder.config.to_dict()
    config = {key: config[key] for key in config if key not in ("_name_or_path", "transformers_version")}
    digest = hashlib.sha256(json.dumps([type(text).__name__, config], sort_keys=True, default=str).encode())
    for name, value in sorted(text.encoder.state_dict().items()):
        if not name.startswith("pooler."):  # which is never called, and may be random
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
