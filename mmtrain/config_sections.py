"""The small sections of an experiment that belong to no component."""

from typing import Annotated, Literal

from pydantic import Field

from mmtrain.evaluation.calibration import ThresholdRule
from mmtrain.evaluation.conventions import ConventionConfig
from mmtrain.models.heads import HeadConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.objectives.losses import LossConfig
from mmtrain.section import Name, Section


class FoldConfig(Section):
    """One fold of cross-validation; `mmtrain crossval` writes the file and fills this in."""

    file: str = Field(min_length=1, description="Parquet file with the columns id and fold of every train and val sample.")
    number: int = Field(ge=1, description="The fold that validates; the others train.")


class DatasetConfig(Section):
    """One feature store."""

    store: str = Field(min_length=1, description="Folder of the store, relative to where the command runs.")
    fold: FoldConfig | None = Field(default=None, description="Train and val samples; null: as the store has them.")
    allow_other_extractor: bool = Field(
        default=False, description="Read it also where its rows come from another extractor, or another scale, than others'."
    )


class StreamConfig(Section):
    """What the curriculum draws from: a dataset seen through some of its tasks."""

    dataset: str = Field(description="A name under `datasets`.")
    tasks: tuple[Name, ...] = Field(
        min_length=1, description="Tasks of the store to learn from this stream, and names under `pretext`."
    )
    modalities: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="What is read of it; null: all that the model reads and the store has."
    )


class TaskConfig(Section):
    """How one task is learned. A task that is not listed gets these defaults."""

    loss: LossConfig | None = Field(default=None, description="Null: the usual loss of the task's kind.")
    head: HeadConfig = Field(default=LinearHeadConfig(), description="From the joint vector to the task's logits.")
    metrics: ConventionConfig | None = Field(
        default=None, description="What the data set's papers measure a regression by, besides; null: nothing."
    )
    threshold: ThresholdRule = Field(
        default="half",
        description="The calibrated probability above which `mmtrain evaluate` calls a sample positive: half = 0.5, or the "
        "best on validation. In training it is 0.5.",
    )


class BatchConfig(Section):
    """How samples are brought to the model."""

    size: int = Field(default=32, ge=1, description="Samples of a global batch, over all processes.")
    micro: int | None = Field(default=None, ge=1, description="Most samples of one forward pass; null: the whole slice.")
    tokens: int | None = Field(
        default=None,
        ge=1,
        description="Most positions of one forward pass, padding counted: samples x longest, summed over modalities (tokens "
        "of texts, rows of others). Cuts a slice into micro-batches of like length; null: none.",
    )
    evaluation: int = Field(default=64, ge=1, description="Samples of one forward pass in evaluation.")
    on_bad_sample: Literal["stop", "skip"] = Field(
        default="stop",
        description="NaN, Inf or broken offsets in rows that are read: stop where such a sample is met, or look through the "
        "stores at every start and leave such samples out of all splits.",
    )
    prefetch: int = Field(default=2, ge=0, description="Steps read ahead; the result does not depend on it.")


class SelectionConfig(Section):
    """Which checkpoint is the best, and when to stop early."""

    metric: str = Field(default="val/loss", description="`val/loss` (mean over tasks) or `val/<task>/<metric>`.")
    mode: Literal["min", "max"] = Field(default="min", description="Whether a lower or a higher value is better.")
    patience: int | None = Field(default=None, ge=1, description="Evaluations without gain before the run stops.")


class CurveConfig(Section):
    """The training curve between evaluations."""

    every: int = Field(default=1000, ge=1, description="Samples per point of mean loss.")


class TrackingConfig(Section):
    """Trackers besides the JSON lines that are always written."""

    wandb: Literal["online", "offline", "disabled"] = Field(
        default="disabled",
        description="Weights & Biases: sent as the run goes, kept in the run's folder to send later, or none.",
    )
    project: str = Field(default="mmtrain", description="Of W&B.")
    group: str | None = Field(default=None, description="Of W&B; a matrix of runs gives its name where there is none.")
    tags: tuple[str, ...] = Field(default=(), description="Of W&B, and of TensorBoard's HParams where they are `key=value`.")
    tensorboard: bool = Field(default=False, description="TensorBoard event files in the run's folder.")
    report: bool = Field(default=False, description="report.html in the run, written anew at every evaluation.")
