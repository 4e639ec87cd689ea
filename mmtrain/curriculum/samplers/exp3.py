"""A bandit that bets on the streams whose loss falls, and holds against an adversary."""

from collections.abc import Mapping
from functools import cache
from math import exp
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.importance import importance_weighted
from mmtrain.curriculum.samplers.progress import Progress, rewards
from mmtrain.curriculum.samplers.protocol import normalized
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class Exp3Config(Section):
    """Shares by exponential weights of the rewards earned; the reward is the part by which the loss fell."""

    name: Literal["exp3"] = "exp3"
    exploration: float = Field(default=0.1, gt=0, le=1, description="gamma: the part of the batches shared equally.")

    def build(self, setting: Setting) -> "Exp3":
        """The sampler of this stage."""
        return Exp3(streams=setting.stream_names, exploration=self.exploration)


class Exp3:
    """p_t = (1 - g) w_t / sum_s w_s + g / K over the K active streams; w_t <- w_t exp(g x_t / K'), K' all streams.

    g is `exploration`; x_t is the importance-weighted reward of the window (module `importance`), from the fall of the
    loss as a part of it, held to [0, 1]; a stream's first loss earns nothing, it is what the next is compared with.
    Source: Auer, Cesa-Bianchi, Freund and Schapire 2002, "The Nonstochastic Multiarmed Bandit Problem", figure 1; a
    window is a round, its shares are the policy's probabilities. The state holds ln w, the largest of them 0.
    """

    def __init__(self, *, streams: Names, exploration: float = 0.1) -> None:
        self.exploration = exploration
        self._progress = Progress()
        self._log_weights = dict.fromkeys(streams, 0.0)

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The policy's probabilities; the same for every step of the window."""
        log_weights, explored = dict(self._log_weights), self.exploration

        @cache
        def by_active(active: Names) -> dict[str, float]:
            largest = max(log_weights[name] for name in active)
            parts = normalized({name: exp(log_weights[name] - largest) for name in active})
            return {name: (1 - explored) * part + explored / len(active) for name, part in parts.items()}

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Take in the losses of a window; evaluations change nothing."""
        if isinstance(report, EvalReport):
            return
        earned = importance_weighted(rewards(self._progress.falls(report)), report)
        for stream, reward in earned.items():
            self._log_weights[stream] += self.exploration * reward / len(self._log_weights)
        largest = max(self._log_weights.values())
        self._log_weights = {name: value - largest for name, value in self._log_weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """The last losses by stream and task, and the logarithms of the weights."""
        return {"losses": self._progress.state_dict(), "log_weights": dict(self._log_weights)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._progress.load_state_dict(state["losses"])
        self._log_weights = dict(state["log_weights"])
