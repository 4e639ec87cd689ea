"""A forward pass of the model as pretext tasks look at it: what was read, encoded, fused, and the means to do it again."""

from collections.abc import Callable, Mapping

from torch import Tensor

from mmtrain.data.batch import Keys, MaskedSequence
from mmtrain.models.masks import masked_mean
from mmtrain.models.outputs import Fused

Sequences = Mapping[str, MaskedSequence]


class ModelViews:
    """`encoder`, `fusion`: the model's own, for tasks that need another pass. See objectives/pretext/protocol.py."""

    def __init__(
        self,
        *,
        inputs: Sequences,
        encoded: Sequences,
        fused: Fused,
        keys: Keys | None,
        encoder: Callable[[Sequences], dict[str, MaskedSequence]],
        fusion: Callable[[Sequences], Fused],
    ) -> None:
        self.inputs, self.encoded, self.fused, self.keys = inputs, encoded, fused, keys
        self._encoder, self._fusion = encoder, fusion
        self._pooled: dict[str, Tensor] = {}

    def pooled(self, modality: str) -> Tensor:
        """[B, d]: the mean of a modality's encoded rows, computed once."""
        if modality not in self._pooled:
            self._pooled[modality] = masked_mean(*self.encoded[modality])
        return self._pooled[modality]

    def encode(self, inputs: Sequences, /) -> dict[str, MaskedSequence]:
        """The modalities given, [B, T, d] each."""
        return self._encoder(inputs)

    def fuse(self, encoded: Sequences, /) -> Fused:
        """Rows of every modality that the model reads, fused."""
        return self._fusion(encoded)
