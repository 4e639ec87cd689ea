"""The section `training:` of an experiment: how long, and how."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mmtrain.engine.averages import AverageConfig
from mmtrain.engine.clipping import ClippingConfig
from mmtrain.engine.clipping.norm import NormClippingConfig
from mmtrain.engine.optimizers import OptimizerConfig
from mmtrain.engine.optimizers.adamw import AdamWConfig
from mmtrain.engine.optimizers.schedule_free_adamw import ScheduleFreeAdamWConfig
from mmtrain.engine.schedules import LrScheduleConfig
from mmtrain.engine.schedules.constant import ConstantConfig
from mmtrain.engine.schedules.linear import LinearConfig
from mmtrain.engine.unfreezing import UnfreezeConfig
from mmtrain.section import Section


class TrainingConfig(Section):
    """How long and how."""

    epochs: int = Field(
        default=3, ge=1, description="Epochs of `steps_per_epoch` optimizer steps, an evaluation behind each."
    )
    steps_per_epoch: int | None = Field(
        default=None, ge=1, description="Optimizer steps of an epoch; null: all streams' samples over the batch size."
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="Of the forward pass; weights stay fp32. fp16 is for GPUs alone."
    )
    tf32: bool = Field(default=False, description="On a GPU, fp32 products round their factors to 10 bits: faster.")
    deterministic: bool = Field(default=False, description="Only algorithms that give the same bits every time: slower.")
    compile: bool = Field(
        default=False,
        description="The model through torch.compile, for batches of any shape: first steps take minutes, later ones less.",
    )
    clipping: ClippingConfig = Field(default=NormClippingConfig(), description="Of the gradient; without `name`: norm.")
    on_nonfinite: Literal["stop", "skip", "rollback"] = Field(
        default="stop",
        description="Where a gradient holds NaN or Inf: stop the run, leave the step out, or go back to the newest "
        "checkpoint and leave the step out when it comes again; its batch is kept in any case.",
    )
    skip_limit: int = Field(
        default=10,
        ge=1,
        description="Most steps in a row that are left out for NaN or Inf; of rollbacks, most behind one checkpoint.",
    )
    detect_anomaly: bool = Field(
        default=False, description="Stop at the operation whose backward pass makes a NaN, by name. Slow: for the hunt only."
    )
    optimizer: OptimizerConfig = Field(default=AdamWConfig(), description="How weights move; without `name`: adamw.")
    schedule: LrScheduleConfig = Field(default=LinearConfig(), description="Of the learning rate; without `name`: linear.")
    unfreeze: UnfreezeConfig | None = Field(default=None, description="Null: what is trained is so throughout.")
    average: AverageConfig | None = Field(default=None, description="Of the weights, kept besides; null: none.")
    eval_every: int | None = Field(default=None, ge=1, description="Steps between evaluations besides the epochs' ends.")
    checkpoint_every: int | None = Field(default=None, ge=1, description="Steps between checkpoints besides evaluations.")
    keep_checkpoints: int = Field(default=2, ge=1, description="Newest checkpoints kept, besides the best.")
    on_save_error: Literal["stop", "continue"] = Field(
        default="stop", description="Where the disk refuses a checkpoint; `continue` tries again when the next one is due."
    )
    train_predictions: bool = Field(
        default=False,
        description="After every epoch evaluate all training samples and write predictions/train-epoch-NNNN.parquet: data "
        "maps, pacing and DoReMi read it. Costs one evaluation of the training data an epoch.",
    )

    @model_validator(mode="before")
    @classmethod
    def _usual_names(cls, values: Any) -> Any:
        """An optimizer, schedule or clipping that does not say its name is the usual one."""
        if not isinstance(values, dict):
            return values
        usual = {"optimizer": "adamw", "schedule": "linear", "clipping": "norm"}
        nameless = {
            key: name for key, name in usual.items() if isinstance(values.get(key), dict) and "name" not in values[key]
        }
        return values | {key: {"name": name} | values[key] for key, name in nameless.items()}

    @model_validator(mode="after")
    def _schedule_free_has_no_rival(self) -> Self:
        if isinstance(self.optimizer, ScheduleFreeAdamWConfig) and self.unfreeze is not None:
            raise ValueError("unfreeze: schedule_free_adamw counts the steps of whole groups; write another optimizer")
        if isinstance(self.optimizer, ScheduleFreeAdamWConfig) and self.average is not None:
            raise ValueError("average: schedule_free_adamw evaluates and saves an average of its own; write null")
        if isinstance(self.optimizer, ScheduleFreeAdamWConfig) and not isinstance(self.schedule, ConstantConfig):
            raise ValueError(
                "optimizer: schedule_free_adamw averages in place of a falling rate; "
                f"training.schedule is '{self.schedule.name}', write {{name: constant}}"
            )
        return self
