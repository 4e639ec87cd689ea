"""One vector a text: a sentence encoder, trained or frozen as any text encoder."""

from typing import Any, Literal

from pydantic import Field
from torch import nn
from torch.nn import functional as F  # noqa: N812 (its usual name)

from mmtrain.data.batch import MaskedSequence
from mmtrain.models.encoders.text import HubText, TextEncoderSection
from mmtrain.models.masks import blank, masked_mean


class SentenceTextConfig(TextEncoderSection):
    """The mean of the real tokens' states (SBERT; Reimers and Gurevych 2019), special tokens included as in its library."""

    name: Literal["sentence"] = "sentence"
    normalize: bool = Field(default=False, description="Scale each vector to length 1, behind the projection.")

    def build(self, *, dim: int) -> nn.Module:
        """Errors: as of every text encoder."""
        encoder = self.load()
        return SentenceText(
            encoder=encoder,
            projection=self.projected(encoder, dim),
            trainable_layers=self.trainable_layers,
            normalize=self.normalize,
        )


class SentenceText(HubText):
    """Token ids [B, T] to [B, 1, d]; no row and zeros for an empty text."""

    def __init__(self, *, encoder: Any, projection: nn.Module, trainable_layers: int | None, normalize: bool) -> None:
        super().__init__(encoder=encoder, trainable_layers=trainable_layers)
        self.projection, self.normalize = projection, normalize

    def cacheable(self, sequence: MaskedSequence) -> MaskedSequence:
        """One row a text: [B, 1, hidden size], the mean before the projection; it is its own mean."""
        pooled = masked_mean(self.states(sequence), sequence.mask)[:, None]
        return MaskedSequence(pooled, sequence.mask.any(dim=1, keepdim=True))

    def forward(self, sequence: MaskedSequence) -> MaskedSequence:
        pooled = self.projection(masked_mean(self.states(sequence), sequence.mask))  # [B, d]
        rows = (F.normalize(pooled, dim=1) if self.normalize else pooled)[:, None]
        mask = sequence.mask.any(dim=1, keepdim=True)  # [B, 1]
        return MaskedSequence(blank(rows, mask), mask)
