"""Task losses are summed with fixed weights."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field

from mmtrain.curriculum.samplers.protocol import Stateless
from mmtrain.curriculum.setting import Setting, check_known
from mmtrain.errors import ConfigError
from mmtrain.section import Section


class FixedConfig(Section):
    """Weights written in the config; a task that is not named has weight 1."""

    name: Literal["fixed"] = "fixed"
    weights: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict, description="Task -> weight.")

    def check_names(self, streams: Sequence[str], tasks: Sequence[str]) -> None:  # noqa: ARG002 - as in every such config
        """Errors: ConfigError for a task that the stage lacks."""
        check_known("weighting fixed", "task", self.weights, tasks)

    def build(self, setting: Setting) -> "Fixed":
        """The weighting of a stage's tasks. Errors: ConfigError for a task that the stage lacks, or weights all 0."""
        tasks = setting.tasks
        self.check_names(setting.stream_names, tasks)
        if tasks and not any(self.weights.get(task, 1.0) for task in tasks):
            raise ConfigError(f"weighting fixed: the weights of {', '.join(tasks)} are all 0; nothing would be trained")
        return Fixed(tasks=tasks, weights=self.weights)


class Fixed(Stateless):
    """loss = sum over tasks of weight times task loss; weight 1 where none is given."""

    def __init__(self, *, tasks: Sequence[str], weights: Mapping[str, float] | None = None) -> None:
        self._weights = {task: float((weights or {}).get(task, 1.0)) for task in tasks}

    def weights(self, step: int, active: Sequence[str]) -> dict[str, float]:  # noqa: ARG002
        """As written, whatever is active."""
        return {task: self._weights[task] for task in active}
