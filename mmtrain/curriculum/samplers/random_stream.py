"""One stream a batch, drawn at random."""

from collections.abc import Mapping
from itertools import accumulate
from typing import Literal

import numpy as np
from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.permutation import derive_key, hash_words
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class RandomStreamConfig(Section):
    """Whole batches of one stream, drawn with probabilities by a root of the size."""

    name: Literal["random_stream"] = "random_stream"
    temperature: float | None = Field(
        default=None, ge=0.1, le=1000, description="Null: all equally likely; 1: by size; between: by a root of the size."
    )

    def build(self, setting: Setting) -> "RandomStream":
        """The sampler of this stage."""
        exponent = 0.0 if self.temperature is None else 1 / self.temperature
        largest = max(stream.size for stream in setting.streams)
        weights = {stream.name: (stream.size / largest) ** exponent for stream in setting.streams}
        return RandomStream(weights=weights, seed=setting.seed)


class RandomStream(Stateless):
    """The batch of step i belongs to the active stream t whose part of the line [0, sum_s w_s) holds u_i sum_s w_s.

    u_i in [0, 1) is a hash of (seed, i): no generator advances, so the draw is the same however often it is asked for,
    and in a resumed run. `weights` by stream name, above 0: P(t) = w_t / sum_s w_s over the active streams.
    """

    def __init__(self, *, weights: Mapping[str, float], seed: int) -> None:
        self._weights, self._key = dict(weights), derive_key(seed, "random stream")

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step; the draw goes by the step."""
        return self._draw

    def _draw(self, step: int, active: Names) -> dict[str, float]:
        ends = list(accumulate(self._weights[name] for name in active))
        point = self.uniform(step) * ends[-1]
        drawn = next(name for name, end in zip(active, ends, strict=True) if point < end)
        return dict.fromkeys(active, 0.0) | {drawn: 1.0}

    def uniform(self, step: int) -> float:
        """u of this step: the upper 53 bits of its hash, as a fraction."""
        word = int(hash_words(np.array([step], dtype=np.uint64), self._key)[0])
        return (word >> 11) / (1 << 53)
