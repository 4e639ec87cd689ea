"""Shares that move along straight lines between written points in time."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field

from mmtrain.curriculum.decision import Names, ShareRule
from mmtrain.curriculum.samplers.protocol import Stateless, normalized
from mmtrain.curriculum.setting import Setting, Unit, check_complete
from mmtrain.errors import ConfigError
from mmtrain.section import Section

Point = tuple[int, Mapping[str, float]]  # (step, stream -> share)


class SharePoint(Section):
    """The shares at one moment."""

    at: float = Field(ge=0, description="Time since the stage began, in the sampler's `unit`.")
    shares: dict[str, Annotated[float, Field(ge=0, le=1e9)]] = Field(
        description="Stream -> its part, scaled to sum to 1; every stream is named, and one at least is above 0."
    )


class ScheduledConfig(Section):
    """Shares piecewise linear in time, constant before the first point and after the last."""

    name: Literal["scheduled"] = "scheduled"
    unit: Unit = Field(default="epochs", description="What `at` counts: epochs (fractions allowed) or optimizer steps.")
    points: tuple[SharePoint, ...] = Field(description="In order of time, one at least.")

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:  # noqa: ARG002 - as in every such config
        """Errors: ConfigError for a stream unknown or not named."""
        for number, point in enumerate(self.points):
            check_complete(f"sampler scheduled: points.{number}.shares", "stream", point.shares, streams)

    def build(self, setting: Setting) -> "Scheduled":
        """The sampler of this stage. Errors: ConfigError for streams unknown or unnamed, points missing or unsorted."""
        if not self.points:
            raise ConfigError("sampler scheduled: points is empty; write one at least, with `at` and `shares`")
        self.check_names(setting.stream_names, setting.tasks)
        for number, point in enumerate(self.points):
            if not any(point.shares.values()):
                where = f"sampler scheduled: points.{number}.shares"
                raise ConfigError(f"{where}: all are 0; give one stream at least a share above 0")
        points = [(setting.steps(point.at, self.unit), point.shares) for point in self.points]
        for (before, _), (after, _) in pairwise(points):
            if after <= before:
                raise ConfigError(
                    f"sampler scheduled: points must come in order of time, but step {after} follows step {before} "
                    f"(an epoch has {setting.steps_per_epoch} steps). Sort them by `at`, a step apart at least"
                )
        return Scheduled(points=points)


class Scheduled(Stateless):
    """share_t(i) = a_t + (b_t - a_t) (i - i_a) / (i_b - i_a) between the points (i_a, a) and (i_b, b) round step i.

    Each point's shares are scaled to sum to 1 first. Among active streams they are scaled again; where all of those
    stand at 0, they share equally. `points`: (step, stream -> share) in order of time.
    """

    def __init__(self, *, points: Sequence[Point]) -> None:
        self._points = [(step, normalized(shares)) for step, shares in points]

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step; the shares go by the step."""
        return self._shares

    def _shares(self, step: int, active: Names) -> dict[str, float]:
        after = bisect_right([at for at, _ in self._points], step)
        start, before = self._points[max(after - 1, 0)]
        if after in (0, len(self._points)):
            return normalized({name: before[name] for name in active})
        stop, later = self._points[after]
        way = (step - start) / (stop - start)
        return normalized({name: before[name] + (later[name] - before[name]) * way for name in active})
