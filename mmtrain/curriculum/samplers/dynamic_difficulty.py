"""The streams that the model finds hard now get the larger shares."""

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.floor import check_floor, with_floor
from mmtrain.curriculum.samplers.proportional import weighted_rule
from mmtrain.curriculum.samplers.protocol import normalized
from mmtrain.curriculum.samplers.uniform import uniform_shares
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.errors import ConfigError
from mmtrain.section import Section

_SMALLEST_REFERENCE = 1e-8  # an initial loss of 0 says nothing of scale
ByTask = Mapping[str, Mapping[str, float]]  # stream -> task -> number


class DynamicDifficultyConfig(Section):
    """Shares by each stream's loss in the last window."""

    name: Literal["dynamic_difficulty"] = "dynamic_difficulty"
    temperature: float = Field(default=1.0, ge=0.01, le=1000, description="Below 1 sharpens towards the hardest stream.")
    floor: float = Field(default=0.02, ge=0, le=1, description="The least share of each active stream.")
    smoothing: float = Field(default=0.0, ge=0, lt=1, description="Weight of the past in the average of losses; 0 = none.")
    reference: Literal["none", "initial", "chance"] = Field(
        default="none", description="What each task's loss is divided by: 1, its first loss, or a prior-only predictor's."
    )
    start: Literal["uniform", "proportional"] = Field(default="uniform", description="Shares before the first report.")

    def build(self, setting: Setting) -> "DynamicDifficulty":
        """The sampler of this stage. Errors: ConfigError where the floors exceed 1 or a chance loss is 0."""
        check_floor("sampler dynamic_difficulty: floor", self.floor, setting)
        rule = weighted_rule({stream.name: float(stream.size) for stream in setting.streams})
        return DynamicDifficulty(
            temperature=self.temperature,
            floor=self.floor,
            smoothing=self.smoothing,
            learn_references=self.reference == "initial",
            references=_chances(setting.streams) if self.reference == "chance" else {},
            start=rule if self.start == "proportional" else uniform_shares,
        )


class DynamicDifficulty:
    """share_t = floor + (1 - K floor) L_t^(1/temperature) / sum_s L_s^(1/temperature) over the K active streams.

    L_t is the mean over the stream's tasks of its mean loss per sample in the last window (with `smoothing` s: s old +
    (1 - s) new), each divided by its reference. What was not drawn keeps its last value; a stream never drawn counts as
    hard as the mean of the others; a loss below 0 counts as 0. Before the first report the rule is `start`.
    `references`: stream -> task -> what to divide by, 1 where not named; with `learn_references` the first loss seen.
    Source: Piergiovanni et al., "Dynamic Pretraining of Vision-Language Models".
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        floor: float = 0.0,
        smoothing: float = 0.0,
        learn_references: bool = False,
        references: ByTask | None = None,
        start: ShareRule = uniform_shares,
    ) -> None:
        self.temperature, self.floor, self.smoothing = temperature, floor, smoothing
        self.learn_references, self._start = learn_references, start
        self._references = _copy(references or {})
        self._losses: dict[str, dict[str, float]] = {}

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """Shares from the losses heard so far; the same for every step of the window."""
        if not self._losses:
            return self._start
        difficulties = {stream: self._difficulty(stream) for stream in self._losses}
        temperature, floor = self.temperature, self.floor

        @cache
        def by_active(active: Names) -> dict[str, float]:
            return _shares(difficulties, active, temperature, floor)

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Take in the losses of a window; evaluations change nothing."""
        if isinstance(report, EvalReport):
            return
        for stream, tasks in report.losses.items():
            for task, loss in tasks.items():
                known = self._losses.setdefault(stream, {})
                known[task] = self.smoothing * known[task] + (1 - self.smoothing) * loss if task in known else loss
                if self.learn_references:
                    self._references.setdefault(stream, {}).setdefault(task, max(loss, _SMALLEST_REFERENCE))

    def state_dict(self) -> dict[str, Any]:
        """The last (or averaged) losses and the references, by stream and task."""
        return {"losses": _copy(self._losses), "references": _copy(self._references)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._losses, self._references = _copy(state["losses"]), _copy(state["references"])

    def _difficulty(self, stream: str) -> float:
        references = self._references.get(stream, {})
        return fmean(max(loss, 0.0) / references.get(task, 1.0) for task, loss in self._losses[stream].items())


def _shares(difficulties: Mapping[str, float], active: Names, temperature: float, floor: float) -> dict[str, float]:
    unknown = fmean(difficulties.values())
    losses = {name: difficulties.get(name, unknown) for name in active}
    hardest = max(losses.values())
    if hardest == 0:
        return uniform_shares(0, active)
    parts = normalized({name: (loss / hardest) ** (1 / temperature) for name, loss in losses.items()})
    return with_floor(parts, floor)


def _chances(streams: Sequence[StreamSpec]) -> dict[str, dict[str, float]]:
    for stream in streams:
        for task, loss in stream.chance.items():
            if not loss > 0:
                raise ConfigError(
                    f"sampler dynamic_difficulty: reference chance, but a constant predicts task '{task}' of stream "
                    f"'{stream.name}' with loss {loss:g} (all its training labels are alike). Write reference: initial"
                )
    return {stream.name: dict(stream.chance) for stream in streams}


def _copy(values: ByTask) -> dict[str, dict[str, float]]:
    return {stream: dict(tasks) for stream, tasks in values.items()}
