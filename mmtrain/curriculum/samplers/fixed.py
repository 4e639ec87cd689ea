"""Shares as written."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from mmtrain.curriculum.decision import ShareRule
from mmtrain.curriculum.samplers.proportional import weighted_rule
from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting, check_complete
from mmtrain.section import Section


class FixedSharesConfig(Section):
    """Shares written in the config, in any unit: they are scaled to sum to 1."""

    name: Literal["fixed"] = "fixed"
    shares: dict[str, Annotated[float, Field(gt=0, le=1e9)]] = Field(
        description="Stream -> its part; 3 and 1 mean the same as 0.75 and 0.25. Every stream is named."
    )

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:  # noqa: ARG002 - as in every such config
        """Errors: ConfigError for a stream unknown or not named."""
        check_complete("sampler fixed: shares", "stream", self.shares, streams)

    def build(self, setting: Setting) -> "FixedShares":
        """The sampler of this stage. Errors: ConfigError for a stream that is unknown or not named."""
        self.check_names(setting.stream_names, setting.tasks)
        return FixedShares(shares=self.shares)


class FixedShares(Stateless):
    """share_t = w_t / sum_s w_s over the active streams; `shares` are the w by stream name, above 0."""

    def __init__(self, *, shares: dict[str, float]) -> None:
        self._rule = weighted_rule(shares)

    def decide(self, step: int) -> ShareRule:  # noqa: ARG002
        """The same rule at every step."""
        return self._rule
