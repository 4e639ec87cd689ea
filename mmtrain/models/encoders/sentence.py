"""One vector a text: a sentence encoder, trained or frozen as any text encoder."""

from typing import Any, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders.text import HubText, TextEncoderSection
from mmtrain.models.masks import blank, masked_mean


class SentenceTextConfig(TextEncoderSection):
    """The mean of the real tokens' states (SBERT; Reimers and Gurevych 2019), special tokens included as in its library.

    Where `model.dim` is the encoder's hidden size the vector is used as it is; else a linear map brings it to dim.
    """

    name: Literal["sentence"] = "sentence"
    normalize: bool = Field(default=False, description="Scale each vector to length 1, behind the linear map.")

    def build(self, *, dim: int) -> nn.Module:
        """Errors: as of every text encoder."""
        return SentenceText(encoder=self.load(), dim=dim, trainable_layers=self.trainable_layers, normalize=self.normalize)


class SentenceText(HubText):
    """Token ids [B, T] to [B, 1, dim]; no row and zeros for an empty text."""

    def __init__(self, *, encoder: Any, dim: int, trainable_layers: int | None, normalize: bool) -> None:
        super().__init__(encoder=encoder, trainable_layers=trainable_layers)
        width = encoder.config.hidden_size
        self.projection = nn.Identity() if width == dim else nn.Linear(width, dim)
        self.normalize = normalize

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        pooled = self.projection(masked_mean(self.states(sequence), sequence.mask))  # [B, dim]
        rows = (F.normalize(pooled, dim=1) if self.normalize else pooled)[:, None]
        mask = sequence.mask.any(dim=1, keepdim=True)  # [B, 1]
        return MaskedSequence(blank(rows, mask), mask)
