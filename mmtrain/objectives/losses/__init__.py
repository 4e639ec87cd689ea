"""The table of task losses."""

from typing import Annotated

from pydantic import Field

from mmtrain.data.schema import TaskKind
from mmtrain.objectives.losses.binary import BinaryConfig
from mmtrain.objectives.losses.huber import HuberConfig
from mmtrain.objectives.losses.l1 import L1Config
from mmtrain.objectives.losses.mse import MSEConfig
from mmtrain.objectives.losses.multiclass import MulticlassConfig
from mmtrain.objectives.losses.multilabel import MultilabelConfig
from mmtrain.objectives.losses.task_loss import TaskLoss

__all__ = ["LOSSES", "AnyLoss", "LossConfig", "TaskLoss", "default_loss"]

AnyLoss = BinaryConfig | MulticlassConfig | MultilabelConfig | MSEConfig | L1Config | HuberConfig
LossConfig = Annotated[AnyLoss, Field(discriminator="name")]
# each row: its config, and the kind of task that it speaks for
LOSSES: tuple[tuple[type[AnyLoss], TaskKind], ...] = (
    (BinaryConfig, "binary"),
    (MulticlassConfig, "multiclass"),
    (MultilabelConfig, "multilabel"),
    (MSEConfig, "regression"),
    (L1Config, "regression"),
    (HuberConfig, "regression"),
)


def default_loss(kind: TaskKind) -> AnyLoss:
    """The loss of a task whose config names none: the table's first row of that kind."""
    return next(config for config, spoken in LOSSES if spoken == kind)()
