"""Several cosines, each of which begins at the peak again."""

from bisect import bisect_right
from itertools import pairwise
from typing import Literal

from pydantic import Field

from mmtrain.engine.schedules.cosine import half_wave
from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import End, Span, WarmupSection
from mmtrain.errors import ConfigError


class CosineRestartsConfig(WarmupSection):
    """SGDR (Loshchilov and Hutter, 2017): `cycles` half waves, each `growth` times as long as the one before."""

    name: Literal["cosine_restarts"] = "cosine_restarts"
    cycles: int = Field(default=3, ge=1, description="Half waves behind warm-up.")
    growth: float = Field(default=1.0, ge=1, description="Length of a cycle over that of the one before.")
    end: End = 0.0

    def after_warmup(self, span: Span) -> Factor:
        """The waves. Errors: ConfigError where a cycle would have no step."""
        borders = cycle_borders(span.rest, cycles=self.cycles, growth=self.growth)
        if any(start == stop for start, stop in pairwise(borders)):
            raise ConfigError(
                f"training.schedule.cycles: {self.cycles} cycles that grow {self.growth:g} times do not fit in the "
                f"{span.rest} steps behind warm-up; write fewer"
            )

        def factor(since: int) -> float:
            number = min(bisect_right(borders, since), self.cycles)
            start, stop = borders[number - 1], borders[number]
            return half_wave(min((since - start) / (stop - start), 1.0), end=self.end)

        return factor


def cycle_borders(steps: int, *, cycles: int, growth: float) -> list[int]:
    """Where the cycles begin, in whole steps, and the end of the last."""
    parts = [growth**number for number in range(cycles)]
    return [round(steps * sum(parts[:number]) / sum(parts)) for number in range(cycles + 1)]
