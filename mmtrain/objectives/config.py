"""The config section of an objective: a loss for every task, and regularizers by name."""

from collections.abc import Mapping

from pydantic import Field, model_validator

from mmtrain.data.schema import TaskSchema
from mmtrain.errors import ConfigError
from mmtrain.objectives.losses import LossConfig, default_loss
from mmtrain.objectives.losses.task_loss import Labels
from mmtrain.objectives.objective import Objective
from mmtrain.objectives.pretext.protocol import PretextLoss
from mmtrain.objectives.regularizers import RegularizerConfig
from mmtrain.objectives.regularizers.penalty import NamedParameters
from mmtrain.objectives.regularizers.r_drop import RDropConfig
from mmtrain.section import Section


class ObjectiveConfig(Section):
    """What a stage minimizes."""

    losses: dict[str, LossConfig] = Field(
        default_factory=dict, description="Task -> loss; a task left out gets the default of its kind."
    )
    regularizers: dict[str, RegularizerConfig] = Field(
        default_factory=dict, description="Name in the reports -> regularizer."
    )

    @model_validator(mode="after")
    def _one_r_drop(self) -> "ObjectiveConfig":
        if sum(isinstance(config, RDropConfig) for config in self.regularizers.values()) > 1:
            raise ValueError("r_drop may stand here once; its strength is one number")
        return self

    def build(
        self,
        *,
        tasks: Mapping[str, TaskSchema],
        labels: Mapping[str, Labels],
        named_parameters: NamedParameters,
        pretext: Mapping[str, PretextLoss] | None = None,
        conventions: Mapping[str, str] | None = None,
    ) -> Objective:
        """For the tasks of a stage, from their training labels ([N] or [N, C], labelled samples of all streams), beside the
        losses of its `pretext` tasks, and with the `conventions` that tasks are measured by.

        Errors: ConfigError where a loss is given for a task that the stage lacks or that is of another kind.
        """
        unknown = sorted(set(self.losses) - set(tasks))
        if unknown:
            raise ConfigError(f"losses: no task '{unknown[0]}' here; the tasks are {', '.join(sorted(tasks))}")
        parameters = list(named_parameters)
        losses, penalties, r_drop = {}, {}, None
        for name, task in tasks.items():
            config = self.losses.get(name) or default_loss(task.kind)
            losses[name] = config.build(labels[name], task, where=f"task '{name}'")
        for name, regularizer in self.regularizers.items():
            if isinstance(regularizer, RDropConfig):
                r_drop = regularizer.build()
            else:
                penalties[name] = regularizer.build(parameters)
        return Objective(losses=losses, pretext=pretext, regularizers=penalties, r_drop=r_drop, conventions=conventions)
