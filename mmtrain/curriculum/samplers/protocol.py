"""What every sampler is: it hears reports and answers with a rule for the shares of streams."""

from collections.abc import Mapping
from typing import Any, Protocol

from mmtrain.curriculum.decision import ShareRule
from mmtrain.curriculum.reports import EvalReport, WindowReport


class Sampler(Protocol):
    """Decides the streams' shares. Deciding never advances it; only reports do. Its state is JSON-able and small."""

    def decide(self, step: int) -> ShareRule:
        """The rule for the window that starts at `step`; later reports do not change a rule already given."""

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Learn what the training or an evaluation showed."""

    def state_dict(self) -> dict[str, Any]:
        """All that its next decisions depend on."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""


class Stateless:
    """The part of a sampler that hears nothing and remembers nothing."""

    def observe(self, report: WindowReport | EvalReport) -> None:
        """Reports change nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Nothing to restore."""


def normalized(weights: Mapping[str, float]) -> dict[str, float]:
    """Weights (finite, at least 0) scaled to sum to 1; equal parts where all are 0."""
    total = sum(weights.values())
    if total == 0:
        return dict.fromkeys(weights, 1 / len(weights))
    return {name: weight / total for name, weight in weights.items()}
