"""Modalities hidden at random in training, so that the model learns to do without them."""

from collections.abc import Mapping

import torch
from einops import pack
from torch import Tensor, nn

from mmtrain.data.batch import MaskedSequence


class ModalityDropout(nn.Module):
    """Hides each modality of a sample with its own probability, by the mask alone; nothing in eval mode.

    A sample never loses all that it has: where it would, one of its modalities, each as likely, stays. Random numbers come
    from torch's generator of the masks' device, as dropout's do; none are drawn where every probability is zero.

    `probabilities`: by modality, 0 for those that are not named.
    """

    def __init__(self, probabilities: Mapping[str, float]) -> None:
        super().__init__()
        self.probabilities = dict(probabilities)
        self.p = max(self.probabilities.values(), default=0.0)

    def forward(self, inputs: Mapping[str, MaskedSequence]) -> dict[str, MaskedSequence]:
        """The same values; what is hidden has no real row."""
        if not self.training or self.p == 0:
            return dict(inputs)
        present = pack([sequence.present for sequence in inputs.values()], "b *")[0]  # [B, M]
        kept = present & ~self._hidden(present, [self.probabilities.get(name, 0.0) for name in inputs])
        return {
            name: MaskedSequence(sequence.values, sequence.mask & kept[:, number, None])
            for number, (name, sequence) in enumerate(inputs.items())
        }

    def _hidden(self, present: Tensor, probabilities: list[float]) -> Tensor:
        """[B, M] bool: what each sample with the modalities `present` loses."""
        hidden = torch.rand(present.shape, device=present.device) < torch.tensor(probabilities, device=present.device)
        lots = torch.rand(present.shape, device=present.device).masked_fill(~present, -1)
        stays = torch.arange(present.shape[1], device=present.device) == lots.argmax(dim=1, keepdim=True)
        loses_all = (hidden | ~present).all(dim=1, keepdim=True)
        return hidden & ~(loses_all & stays)
