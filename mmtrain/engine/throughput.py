"""How much the model has read and how long that took: samples, tokens, rows and padding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from mmtrain.data.batch import Batch
from mmtrain.data.schema import TEXTS
from mmtrain.engine.processes import sum_over_processes


@dataclass
class Throughput:
    """Sums over steps. Positions are counted on the host, before batches travel."""

    samples: int = 0  # of global batches
    seconds: float = 0.0
    real: dict[str, int] = field(default_factory=dict)  # modality -> positions under a true mask
    total: dict[str, int] = field(default_factory=dict)  # modality -> with padding, of the samples that have the modality

    def add(self, batches: Sequence[Batch], *, samples: int) -> None:
        """Count a step: the positions of its micro-batches, and the samples of its global batch."""
        self.samples += samples
        for batch in batches:
            for name, (_, mask) in batch.inputs.items():
                is_real = mask.numpy()
                present = int(np.count_nonzero(is_real.any(axis=1)))
                self.real[name] = self.real.get(name, 0) + int(np.count_nonzero(is_real))
                self.total[name] = self.total.get(name, 0) + present * mask.shape[1]

    def join(self, other: "Throughput") -> None:
        """Add what another has counted."""
        self.samples, self.seconds = self.samples + other.samples, self.seconds + other.seconds
        self.real, self.total = _sum(self.real, other.real), _sum(self.total, other.total)

    def clear(self) -> None:
        """Count from nothing."""
        self.samples, self.seconds, self.real, self.total = 0, 0.0, {}, {}

    def reduce(self, accelerator: Accelerator) -> None:
        """Turn positions of this process's slices into those of the global batches; every process takes part."""
        if accelerator.num_processes == 1:
            return
        names = list(self.real)  # alike everywhere: a collator gives every batch the same modalities
        mine = torch.tensor([[self.real[name], self.total[name]] for name in names], device=accelerator.device)
        for name, (real, total) in zip(names, sum_over_processes(accelerator, mine).tolist(), strict=True):
            self.real[name], self.total[name] = real, total

    def record(self) -> dict[str, Any]:
        """Rates by the second. Tokens are those of all texts, rows those of each other modality; padding counts as neither.

        `padding`: its share of the positions, 0 to 1, by modality.
        """
        rates = {name: count / self.seconds for name, count in self.real.items()}
        texts = [rates.pop(name) for name in TEXTS if name in rates]
        tokens = {"tokens_per_second": round(sum(texts), 2)} if texts else {}
        return {
            "seconds": round(self.seconds, 4),
            "samples_per_second": round(self.samples / self.seconds, 2),
            **tokens,
            "rows_per_second": {name: round(rate, 2) for name, rate in rates.items()},
            "padding": {name: round(1 - self.real[name] / total, 4) for name, total in self.total.items() if total},
        }


def _sum(some: Mapping[str, int], more: Mapping[str, int]) -> dict[str, int]:
    return {name: some.get(name, 0) + more.get(name, 0) for name in dict.fromkeys([*some, *more])}
