"""Self-paced learning with soft weights: the closer a loss comes to the threshold, the less the sample counts."""

from typing import Literal

import numpy as np

from mmtrain.curriculum.decision import Weights
from mmtrain.curriculum.pacing.pacer import Pacer
from mmtrain.curriculum.pacing.ranking import Floats
from mmtrain.curriculum.pacing.self_paced import SelfPaced, ThresholdConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import Integers


class SelfPacedLinearConfig(ThresholdConfig):
    """The samples whose loss is below the threshold, weighing less the nearer they are to it."""

    name: Literal["self_paced_linear"] = "self_paced_linear"

    def build(self, setting: Setting) -> Pacer:
        """The pacer of this stage."""
        pacing = SelfPacedLinear(start=self.start, growth=self.growth)
        return Pacer(pacing, setting=setting, listens=True, probe_every=self.probe_every)


class SelfPacedLinear(SelfPaced):
    """v_i = max(0, 1 - l_i / lambda), l_i the sample's last known loss when the window starts.

    Where no loss is below lambda, the pool is the easiest sample, with weight 1.
    Source: Jiang et al. 2014, "Easy Samples First: Self-paced Reranking for Zero-Example Multimedia Search", equation 8.
    """

    def weights(self, values: Floats, *, stream: str, numbers: Integers) -> Weights:
        """1 - l / lambda [n], each with the threshold of its pass."""
        passes, which = np.unique(numbers, return_inverse=True)
        thresholds = np.array([self.threshold(stream, number) for number in passes.tolist()])
        weights: Weights = np.clip(1 - values.astype(np.float64) / thresholds[which], 0, 1).astype(np.float32)
        return weights
