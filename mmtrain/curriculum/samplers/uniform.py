"""Every active stream gets the same share."""

from typing import Literal

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class UniformConfig(Section):
    """Equal shares, whatever the streams' sizes."""

    name: Literal["uniform"] = "uniform"

    def build(self, setting: Setting) -> "Uniform":  # noqa: ARG002 - every sampler is built alike
        """The sampler of this stage."""
        return Uniform()


class Uniform(Stateless):
    """share_t = 1 / K over the K active streams."""

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step."""
        return uniform_shares


def uniform_shares(step: int, active: Names) -> dict[str, float]:  # noqa: ARG001 - a ShareRule
    """1 / K for each of the K active streams."""
    return dict.fromkeys(active, 1 / len(active))
