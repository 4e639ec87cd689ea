"""One stream a batch, the streams taking turns."""

from typing import Literal

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class RoundRobinConfig(Section):
    """Whole batches of one stream, in turn."""

    name: Literal["round_robin"] = "round_robin"

    def build(self, setting: Setting) -> "RoundRobin":  # noqa: ARG002 - every sampler is built alike
        """The sampler of this stage."""
        return RoundRobin()


class RoundRobin(Stateless):
    """The batch of step i belongs to active stream number i mod K."""

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step; the turn goes by the step."""
        return _turn


def _turn(step: int, active: Names) -> dict[str, float]:
    return dict.fromkeys(active, 0.0) | {active[step % len(active)]: 1.0}
