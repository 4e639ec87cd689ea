"""Every coordinate of the update comes from gradients of one sign, drawn at random."""

from typing import Literal

from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.weighting.gradients import Aggregation, GradientSection


class GraddropConfig(GradientSection):
    """Gradient sign dropout.

    In each coordinate the positive entries are kept (and the negative dropped) with probability
    (1 + sum_i g_i / sum_i |g_i|) / 2, else the other way round; what is kept is summed.
    Source: Chen et al. 2020, "Just Pick a Sign: Optimizing Deep Multitask Models with Gradient Sign Dropout", algorithm 1;
    torchjd's GradDrop.
    """

    name: Literal["graddrop"] = "graddrop"

    def build(self, setting: Setting) -> Aggregation:
        from torchjd.aggregation import GradDrop

        return Aggregation(aggregator=GradDrop(), over=self.over, seed=setting.seed)
