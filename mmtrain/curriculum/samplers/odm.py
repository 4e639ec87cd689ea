"""Online Data Mixing: a bandit that draws the streams of high loss, with exploration that dies away."""

from collections.abc import Mapping
from functools import cache
from math import exp, log, sqrt
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.importance import importance_weighted
from mmtrain.curriculum.samplers.protocol import normalized
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class OdmConfig(Section):
    """Shares by exponential weights of an importance-weighted moving average of the loss."""

    name: Literal["odm"] = "odm"
    smoothing: float = Field(default=0.9, ge=0, lt=1, description="alpha: weight of the past in the average of rewards.")

    def build(self, setting: Setting) -> "Odm":
        """The sampler of this stage."""
        return Odm(streams=setting.stream_names, smoothing=self.smoothing)


class Odm:
    """pi_t(i) = (1 - K e_t) exp(e_{t-1} R_i) / sum_j exp(e_{t-1} R_j) + e_t, e_t = min(1 / K, sqrt(ln K / (K t))).

    K active streams in window t = 1, 2, ...; e_0 = 1 / K. R_i <- alpha R_i + (1 - alpha) x_i for the streams drawn, from
    R_i = 0, where x_i is the importance-weighted loss of the stream (module `importance`; the mean over its tasks, a loss
    below 0 counts as 0) and alpha is `smoothing`. Losses of one scale are assumed, as in the paper.
    Source: Albalak et al. 2023, "Efficient Online Data Mixing For Language Model Pre-Training", algorithm 1; there the
    losses of a step are summed over its draws, here they are averaged, so that R has the scale of a loss whatever the
    length of the window.
    """

    def __init__(self, *, streams: Names, smoothing: float = 0.9) -> None:
        self.smoothing = smoothing
        self._rewards = dict.fromkeys(streams, 0.0)
        self._round = 1

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The policy's probabilities; the same for every step of the window."""
        estimates, number = dict(self._rewards), self._round

        @cache
        def by_active(active: Names) -> dict[str, float]:
            now, before = exploration(len(active), number), exploration(len(active), number - 1)
            largest = max(estimates[name] for name in active)
            parts = normalized({name: exp(before * (estimates[name] - largest)) for name in active})
            return {name: (1 - len(active) * now) * part + now for name, part in parts.items()}

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Take in the losses of a window; evaluations change nothing."""
        if isinstance(report, EvalReport):
            return
        losses = {stream: max(fmean(tasks.values()), 0.0) for stream, tasks in report.losses.items() if tasks}
        for stream, reward in importance_weighted(losses, report).items():
            self._rewards[stream] = self.smoothing * self._rewards[stream] + (1 - self.smoothing) * reward
        self._round += 1

    def state_dict(self) -> dict[str, Any]:
        """The number of the window under way and the averaged rewards."""
        return {"round": self._round, "rewards": dict(self._rewards)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._round, self._rewards = int(state["round"]), dict(state["rewards"])


def exploration(count: int, number: int) -> float:
    """e_t for K = `count` streams in window t = `number`."""
    return min(1 / count, sqrt(log(count) / (count * number))) if number else 1 / count
