"""Every active stream gets a share proportional to its size: the samples of all streams are equally likely."""

from collections.abc import Mapping
from functools import cache
from typing import Literal

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.samplers.protocol import Stateless, normalized
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class ProportionalConfig(Section):
    """Shares by size, as if the streams were one data set."""

    name: Literal["proportional"] = "proportional"

    def build(self, setting: Setting) -> "Proportional":
        """The sampler of this stage."""
        return Proportional(sizes={stream.name: stream.size for stream in setting.streams})


class Proportional(Stateless):
    """share_t = n_t / sum_s n_s over the active streams; `sizes` by stream name."""

    def __init__(self, *, sizes: Mapping[str, int]) -> None:
        self._rule = weighted_rule({name: float(size) for name, size in sizes.items()})

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step."""
        return self._rule


def weighted_rule(weights: Mapping[str, float]) -> ShareRule:
    """Shares proportional to fixed positive weights, over whichever streams are active."""

    @cache
    def by_active(active: Names) -> dict[str, float]:
        return normalized({name: weights[name] for name in active})

    return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule
