"""Weights drawn anew at every step: the baseline that adaptive weightings have to beat."""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

import numpy as np

from mmtrain.curriculum.permutation import derive_key, hash_words
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.protocol import normalized_to_count
from mmtrain.section import Section


class RlwConfig(Section):
    """Random loss weighting with a normal distribution."""

    name: Literal["rlw"] = "rlw"

    def build(self, setting: Setting) -> "Rlw":
        return Rlw(tasks=setting.tasks, seed=setting.seed)


class Rlw(Stateless):
    """w = K softmax(z) over the K active tasks, z_k ~ N(0, 1).

    z is a hash of (seed, task, step): the same on every process and after a resume.
    Source: Lin et al. 2022, "Reasonable Effectiveness of Random Weighting", section 3 (there without the factor K).
    """

    def __init__(self, *, tasks: Sequence[str], seed: int) -> None:
        self._keys = {task: derive_key(seed, "rlw", task) for task in tasks}

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:
        draws = {task: self.normal(task, step) for task in active}
        largest = max(draws.values())
        return normalized_to_count({task: float(np.exp(draw - largest)) for task, draw in draws.items()})

    def normal(self, task: str, step: int) -> float:
        """z of a task at a step: the normal quantile of the upper 53 bits of its hash, moved off 0 and 1."""
        word = int(hash_words(np.array([step], dtype=np.uint64), self._keys[task])[0])
        return NormalDist().inv_cdf(((word >> 11) + 0.5) / (1 << 53))
