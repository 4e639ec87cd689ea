"""What a tokenizer says of the words that masked modelling may hide."""

from typing import NamedTuple, Self

from mmtrain.data.tokenize import Tokenizer
from mmtrain.errors import ConfigError


class Words(NamedTuple):
    """What of a text's tokens may be hidden, and by what."""

    mask: int  # the token that stands for a hidden one
    special: tuple[int, ...]  # tokens that are never hidden
    vocabulary: int
    probability: float

    @classmethod
    def of(cls, tokenizer: Tokenizer, probability: float) -> Self:
        """Errors: ConfigError where there is no mask token."""
        inner = tokenizer.tokenizer
        if inner.mask_token_id is None:
            raise ConfigError("modalities: the text's tokenizer has no mask token; name the other modalities alone")
        return cls(inner.mask_token_id, tuple(inner.all_special_ids), len(inner), probability)
