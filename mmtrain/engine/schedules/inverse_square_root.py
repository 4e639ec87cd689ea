"""The rate falls with the root of time, whatever the run's length."""

from typing import Literal

from pydantic import Field

from mmtrain.engine.schedules.schedule import Factor
from mmtrain.engine.schedules.warmup import Span, WarmupSection
from mmtrain.errors import ConfigError


class InverseSquareRootConfig(WarmupSection):
    """sqrt(s / (s + t)), t steps behind warm-up (Vaswani et al., 2017, equation 3, where s is the warm-up)."""

    name: Literal["inverse_square_root"] = "inverse_square_root"
    timescale: int | None = Field(default=None, ge=1, description="s: after 3 s steps the half is left; null: as warm-up.")

    def after_warmup(self, span: Span) -> Factor:
        """The root. Errors: ConfigError where there is neither warm-up nor timescale."""
        scale = self.timescale or span.warmup
        if scale == 0:
            raise ConfigError(
                "training.schedule.timescale: inverse_square_root without a step of warm-up has no scale; write one in steps"
            )
        return lambda since: float((scale / (scale + since)) ** 0.5)
