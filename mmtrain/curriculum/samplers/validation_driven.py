"""The streams whose validation metric is furthest from its target get the larger shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport, metric_in
from mmtrain.curriculum.samplers.floor import check_floor, with_floor
from mmtrain.curriculum.samplers.protocol import normalized
from mmtrain.curriculum.samplers.uniform import uniform_shares
from mmtrain.curriculum.setting import Setting, check_complete
from mmtrain.section import Section


class TargetConfig(Section):
    """Where one stream should arrive."""

    metric: str = Field(description="A metric of the evaluations, `val/<task>/<metric>` or `val/<task>@<stream>/<metric>`.")
    target: float = Field(description="The value wanted.")
    mode: Literal["max", "min"] = Field(default="max", description="max: higher is better; min: lower is better.")
    scale: float = Field(default=1.0, gt=0, description="A gap of this size counts 1: makes unlike metrics comparable.")


class ValidationDrivenConfig(Section):
    """Shares by the gap between each stream's validation metric and its target."""

    name: Literal["validation_driven"] = "validation_driven"
    targets: dict[str, TargetConfig] = Field(description="Stream -> its target. Every stream is named.")
    floor: float = Field(default=0.05, ge=0, le=1, description="The least share of each active stream.")

    def watched_metrics(self, tasks: Sequence[str]) -> list[tuple[str, str]]:  # noqa: ARG002 - as in every such config
        """The metric of every target."""
        return [(f"targets.{stream}.metric", target.metric) for stream, target in self.targets.items()]

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:  # noqa: ARG002 - as in every such config
        """Errors: ConfigError for a stream unknown or not named."""
        check_complete("sampler validation_driven: targets", "stream", self.targets, streams)

    def build(self, setting: Setting) -> "ValidationDriven":
        """The sampler of this stage. Errors: ConfigError for a stream unknown or not named, and floors that exceed 1."""
        self.check_names(setting.stream_names, setting.tasks)
        check_floor("sampler validation_driven: floor", self.floor, setting)
        targets = {
            stream: Target(metric=goal.metric, value=goal.target, sign=1 if goal.mode == "max" else -1, scale=goal.scale)
            for stream, goal in self.targets.items()
        }
        return ValidationDriven(targets=targets, floor=self.floor)


@dataclass(frozen=True, kw_only=True)
class Target:
    """gap(v) = max(0, sign (value - v)) / scale; `sign` 1 where higher is better, -1 where lower is."""

    metric: str
    value: float
    sign: int = 1
    scale: float = 1.0

    def gap(self, found: float) -> float:
        """How far `found` falls short, in units of the scale."""
        return max(self.sign * (self.value - found), 0.0) / self.scale


class ValidationDriven:
    """share_t = floor + (1 - K floor) gap_t / sum_s gap_s over the K active streams, from the last evaluation.

    A metric that is not a number leaves its stream's gap as it was; a stream without a gap yet counts as the mean of the
    others. Before the first evaluation, and where every target is reached, shares are equal.
    """

    def __init__(self, *, targets: Mapping[str, Target], floor: float = 0.0) -> None:
        self.targets, self.floor = dict(targets), floor
        self._gaps: dict[str, float] = {}

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """Shares from the last evaluation; the same for every step of the window."""
        if not self._gaps:
            return uniform_shares
        gaps, unknown, floor = dict(self._gaps), fmean(self._gaps.values()), self.floor

        @cache
        def by_active(active: Names) -> dict[str, float]:
            return with_floor(normalized({name: gaps.get(name, unknown) for name in active}), floor)

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Take in an evaluation; windows change nothing. Errors: ConfigError where it lacks a target's metric."""
        if isinstance(report, WindowReport):
            return
        for stream, target in self.targets.items():
            found = metric_in(report, target.metric, where=f"sampler validation_driven: targets.{stream}.metric")
            if isfinite(found):
                self._gaps[stream] = target.gap(found)

    def state_dict(self) -> dict[str, Any]:
        """The gaps of the last evaluation, by stream."""
        return {"gaps": dict(self._gaps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._gaps = dict(state["gaps"])
