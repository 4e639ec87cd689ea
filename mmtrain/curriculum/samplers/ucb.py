"""A bandit that plays the stream with the best upper bound on how fast its loss falls."""

from collections.abc import Mapping
from functools import cache
from math import inf, log, sqrt
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.floor import check_floor, with_floor
from mmtrain.curriculum.samplers.progress import Progress, rewards
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class UcbConfig(Section):
    """The window belongs to one stream, all but the floors."""

    name: Literal["ucb"] = "ucb"
    exploration: float = Field(default=1.0, ge=0, le=100, description="Factor of the bound's width; 1 = UCB1.")
    floor: float = Field(default=0.05, ge=0, le=1, description="The least share of each active stream; 0 = UCB1.")

    def build(self, setting: Setting) -> "Ucb":
        """The sampler of this stage. Errors: ConfigError where the floors exceed 1."""
        check_floor("sampler ucb: floor", self.floor, setting)
        return Ucb(streams=setting.stream_names, exploration=self.exploration, floor=self.floor)


class Ucb:
    """Share floor + (1 - K floor) for the active stream of the largest m_t + exploration sqrt(2 ln n / n_t), else floor.

    m_t is the mean reward over the stream's plays n_t, n = sum_s n_s; the reward is the fall of the loss as a part of it,
    held to [0, 1]. A window counts as n_t <- n_t + (its share of the window's samples), so with floor 0 a play is 1, as in
    the paper. A stream's first window gives no reward, it is what the next is compared with: a stream is played until it
    has one. Ties go to the first. Source: Auer, Cesa-Bianchi and Fischer 2002, "Finite-time Analysis of the Multiarmed
    Bandit Problem", figure 1 (UCB1).
    """

    def __init__(self, *, streams: Names, exploration: float = 1.0, floor: float = 0.0) -> None:
        self.exploration, self.floor = exploration, floor
        self._progress = Progress()
        self._plays = dict.fromkeys(streams, 0.0)
        self._earned = dict.fromkeys(streams, 0.0)

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """All but the floors for the best stream; the same for every step of the window."""
        bounds, floor = {name: self._bound(name) for name in self._plays}, self.floor

        @cache
        def by_active(active: Names) -> dict[str, float]:
            best = max(active, key=bounds.__getitem__)
            return with_floor(dict.fromkeys(active, 0.0) | {best: 1.0}, floor)

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Take in the losses of a window; evaluations change nothing."""
        if isinstance(report, EvalReport):
            return
        drawn = sum(report.counts.values())
        for stream, reward in rewards(self._progress.falls(report)).items():
            part = report.counts.get(stream, 0) / max(drawn, 1)
            self._plays[stream] += part
            self._earned[stream] += part * reward

    def state_dict(self) -> dict[str, Any]:
        """The last losses by stream and task; plays and rewards by stream."""
        return {"losses": self._progress.state_dict(), "plays": dict(self._plays), "earned": dict(self._earned)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._progress.load_state_dict(state["losses"])
        self._plays, self._earned = dict(state["plays"]), dict(state["earned"])

    def _bound(self, stream: str) -> float:
        plays, total = self._plays[stream], sum(self._plays.values())
        if plays == 0:
            return inf
        return self._earned[stream] / plays + self.exploration * sqrt(2 * log(max(total, 1.0)) / plays)
