"""The experiment: a tree of the component configs that live beside their code."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from mmtrain.config_errors import config_error, nearest, refuse_truth_as_number
from mmtrain.config_file import ConfigTree, escape_interpolations, load_tree
from mmtrain.config_training import TrainingConfig
from mmtrain.config_yaml import dump_yaml_text
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.models.heads import HeadConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import ModelConfig
from mmtrain.objectives.losses import LossConfig
from mmtrain.objectives.regularizers import RegularizerConfig
from mmtrain.objectives.regularizers.r_drop import RDropConfig
from mmtrain.section import Section

# names become folders, columns and parts of metric names
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]


class FoldConfig(Section):
    """One fold of cross-validation; `mmtrain crossval` writes the file and fills this in."""

    file: str = Field(min_length=1, description="Parquet file with the columns id and fold of every train and val sample.")
    number: int = Field(ge=1, description="The fold that validates; the others train.")


class DatasetConfig(Section):
    """One feature store."""

    store: str = Field(min_length=1, description="Folder of the store, relative to where the command runs.")
    fold: FoldConfig | None = Field(default=None, description="Train and val samples; null: as the store has them.")


class StreamConfig(Section):
    """What the curriculum draws from: a dataset seen through some of its tasks."""

    dataset: str = Field(description="A name under `datasets`.")
    tasks: tuple[Name, ...] = Field(min_length=1, description="Tasks of the store to learn from this stream.")
    modalities: Annotated[tuple[str, ...], Field(min_length=1)] | None = Field(
        default=None, description="What is read of it; null: all that the model reads and the store has."
    )


class TaskConfig(Section):
    """How one task is learned. A task that is not listed gets these defaults."""

    loss: LossConfig | None = Field(default=None, description="Null: the usual loss of the task's kind.")
    head: HeadConfig = LinearHeadConfig()


class BatchConfig(Section):
    """How samples are brought to the model."""

    size: int = Field(default=32, ge=1, description="Samples of a global batch, over all processes.")
    micro: int | None = Field(default=None, ge=1, description="Most samples of one forward pass; null: the whole slice.")
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
    mode: Literal["min", "max"] = "min"
    patience: int | None = Field(default=None, ge=1, description="Evaluations without gain before the run stops.")


class CurveConfig(Section):
    """The training curve between evaluations."""

    every: int = Field(default=1000, ge=1, description="Samples per point of mean loss.")


class TrackingConfig(Section):
    """Trackers besides the JSON lines that are always written."""

    wandb: Literal["online", "offline", "disabled"] = "disabled"
    project: str = "mmtrain"
    tensorboard: bool = False


class Experiment(Section):
    """One run, whole."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")] = Field(
        max_length=200, description="The run's folder below `runs`."
    )
    runs: str = Field(default="runs", min_length=1, description="Folder that holds the runs.")
    seed: int = Field(default=0, ge=0, lt=2**31)
    datasets: dict[Name, DatasetConfig] = Field(min_length=1)
    streams: dict[Name, StreamConfig] = Field(min_length=1)
    tasks: dict[Name, TaskConfig] = Field(default_factory=dict)
    model: ModelConfig
    regularizers: dict[Name, RegularizerConfig] = Field(default_factory=dict)
    curriculum: CurriculumConfig = CurriculumConfig()
    batch: BatchConfig = BatchConfig()
    training: TrainingConfig = TrainingConfig()
    selection: SelectionConfig = SelectionConfig()
    curve: CurveConfig = CurveConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        complaints = [*self._stream_complaints(), *self._task_complaints(), *self._other_complaints()]
        if complaints:
            raise ValueError("\n".join(complaints))
        return self

    def _stream_complaints(self) -> Iterator[str]:
        learned: dict[tuple[str, str], str] = {}
        for name, stream in self.streams.items():
            if stream.dataset not in self.datasets:
                yield f"streams.{name}.dataset: no dataset '{stream.dataset}'{nearest(stream.dataset, self.datasets)}"
            for task in stream.tasks:
                other = learned.setdefault((stream.dataset, task), name)
                if other != name:
                    yield f"streams.{name}.tasks: '{task}' of dataset '{stream.dataset}' is in the stream '{other}' already"
            for task in sorted({task for task in stream.tasks if stream.tasks.count(task) > 1}):
                yield f"streams.{name}.tasks: '{task}' stands here twice"
            for modality in stream.modalities or ():
                if modality not in self.model.modalities:
                    known = nearest(modality, self.model.modalities)
                    yield f"streams.{name}.modalities: the model reads no '{modality}'{known}"

    def _task_complaints(self) -> Iterator[str]:
        tasks = self.task_names
        for task in self.tasks:
            if task not in tasks:
                yield f"tasks.{task}: no stream has this task{nearest(task, tasks)}"

    def _other_complaints(self) -> Iterator[str]:
        every, window = self.training.eval_every, self.curriculum.window
        if every is not None and every % window:
            yield (
                f"training.eval_every: {every} is not a multiple of curriculum.window ({window}): evaluations fall on "
                f"window borders; write {max(every // window, 1) * window}, or another window"
            )
        text = self.model.text
        if self.training.unfreeze is not None and text is None:
            yield "training.unfreeze: the model reads no text; write null"
        elif self.training.unfreeze is not None and text is not None and text.trainable_layers is not None:
            yield f"training.unfreeze: model.text.trainable_layers is {text.trainable_layers}; write null for one of them"
        r_drops = [name for name, config in self.regularizers.items() if isinstance(config, RDropConfig)]
        if len(r_drops) > 1:
            yield f"regularizers.{r_drops[1]}: r_drop stands under '{r_drops[0]}' already; its strength is one number"

    @property
    def task_names(self) -> tuple[str, ...]:
        """Every task of every stream, in order."""
        return tuple(dict.fromkeys(task for stream in self.streams.values() for task in stream.tasks))

    def task(self, name: str) -> TaskConfig:
        """How a task is learned; the defaults where it is not listed."""
        return self.tasks.get(name, TaskConfig())

    @property
    def folder(self) -> Path:
        return Path(self.runs) / self.name

    def resolved(self) -> dict[str, Any]:
        """Plain values that load to an equal experiment."""
        return self.model_dump(mode="json")


def parse(tree: ConfigTree) -> Experiment:
    """Check a tree. Errors: ConfigError, a line for each complaint, with its file and key."""
    try:
        experiment = Experiment.model_validate(tree.values)
    except ValidationError as error:
        raise config_error(error, Experiment, tree) from None
    refuse_truth_as_number(tree, experiment.resolved())
    return experiment


def load_experiment(file: str | Path, overrides: list[str] | None = None) -> Experiment:
    """Read, refine, override and check an experiment file."""
    return parse(load_tree(file, overrides or []))


def dump_yaml(experiment: Experiment) -> str:
    """The experiment as a file that loads to an equal one."""
    return dump_yaml_text(escape_interpolations(experiment.resolved()))


def file_schema() -> dict[str, Any]:
    """The JSON schema of experiment files. Nothing is required in it: a `base:` may give what a file leaves out."""
    schema: dict[str, Any] = _refining(Experiment.model_json_schema())
    schema["properties"]["base"] = {"type": "string", "description": "A file that this one refines, relative to it."}
    return schema


def _refining(schema: Any) -> Any:
    """A schema without required keys; a component without its `name:` may then be one of several, so oneOf is anyOf."""
    if isinstance(schema, list):
        return [_refining(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {"anyOf" if key == "oneOf" else key: _refining(part) for key, part in schema.items() if key != "required"}
