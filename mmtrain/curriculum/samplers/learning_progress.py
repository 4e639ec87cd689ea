"""The streams on which the model is learning now get the larger shares."""

from collections.abc import Mapping
from functools import cache
from statistics import fmean
from typing import Any, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport
from mmtrain.curriculum.samplers.floor import check_floor, with_floor
from mmtrain.curriculum.samplers.progress import Progress
from mmtrain.curriculum.samplers.protocol import normalized
from mmtrain.curriculum.samplers.uniform import uniform_shares
from mmtrain.curriculum.setting import Setting
from mmtrain.section import Section


class LearningProgressConfig(Section):
    """Shares by how fast each stream's loss changes."""

    name: Literal["learning_progress"] = "learning_progress"
    sign: Literal["both", "falls"] = Field(
        default="both",
        description="both: a rising loss counts like a falling one, so what is being forgotten is drawn again; "
        "falls: only a falling loss counts, so what cannot be learned is let go.",
    )
    smoothing: float = Field(default=0.5, ge=0, lt=1, description="Weight of the past in the average of falls; 0 = none.")
    floor: float = Field(default=0.05, ge=0, le=1, description="The least share of each active stream.")

    def build(self, setting: Setting) -> "LearningProgress":
        """The sampler of this stage. Errors: ConfigError where the floors exceed 1."""
        check_floor("sampler learning_progress: floor", self.floor, setting)
        return LearningProgress(rises_count=self.sign == "both", smoothing=self.smoothing, floor=self.floor)


class LearningProgress:
    """share_t = floor + (1 - K floor) f(Q_t) / sum_s f(Q_s) over the K active streams.

    Q_t <- smoothing Q_t + (1 - smoothing) r_t, where r_t is the fall of the loss since the stream was last drawn, as a part
    of it; f(Q) = |Q| where `rises_count`, else max(Q, 0). The first fall stands for itself. A stream without a fall yet
    counts as the mean of the others; before any, and where all are 0, shares are equal.
    Source: Matiisen et al. 2017, "Teacher-Student Curriculum Learning", section 3.2 (the online algorithm, with absolute
    progress); Oudeyer et al. 2007 for only falls.
    """

    def __init__(self, *, rises_count: bool = True, smoothing: float = 0.5, floor: float = 0.0) -> None:
        self.rises_count, self.smoothing, self.floor = rises_count, smoothing, floor
        self._progress = Progress()
        self._averages: dict[str, float] = {}

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """Shares from the falls heard so far; the same for every step of the window."""
        if not self._averages:
            return uniform_shares
        weights = {name: abs(q) if self.rises_count else max(q, 0.0) for name, q in self._averages.items()}
        unknown, floor = fmean(weights.values()), self.floor

        @cache
        def by_active(active: Names) -> dict[str, float]:
            return with_floor(normalized({name: weights.get(name, unknown) for name in active}), floor)

        return lambda step, active: by_active(active)  # noqa: ARG005 - a ShareRule

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Take in the losses of a window; evaluations change nothing."""
        if isinstance(report, EvalReport):
            return
        for stream, fall in self._progress.falls(report).items():
            before = self._averages.get(stream, fall)
            self._averages[stream] = self.smoothing * before + (1 - self.smoothing) * fall

    def state_dict(self) -> dict[str, Any]:
        """The last losses by stream and task, and the averaged falls by stream."""
        return {"losses": self._progress.state_dict(), "averages": dict(self._averages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self._progress.load_state_dict(state["losses"])
        self._averages = dict(state["averages"])
