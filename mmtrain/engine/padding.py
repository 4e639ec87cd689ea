"""How much of what the model read was padding, by modality, among the samples that have the modality."""

from collections.abc import Sequence

from mmtrain.data.batch import Batch


class PaddingMeter:
    """Counts real and padded positions of the batches it is shown (on the host, before they travel)."""

    def __init__(self) -> None:
        self.real: dict[str, int] = {}
        self.total: dict[str, int] = {}

    def add(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            for name, (_, mask) in batch.inputs.items():
                self.real[name] = self.real.get(name, 0) + int(mask.sum())
                self.total[name] = self.total.get(name, 0) + int(mask.any(dim=1).sum()) * mask.shape[1]

    def shares(self) -> dict[str, float]:
        """Padding share by modality, 0 to 1."""
        return {name: 1 - self.real[name] / total for name, total in self.total.items() if total}
