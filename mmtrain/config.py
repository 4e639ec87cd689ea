"""The experiment: a tree of the component configs that live beside their code."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from mmtrain.config_errors import config_error, located, nearest, refuse_truth_as_number
from mmtrain.config_file import ConfigTree, escape_interpolations, load_tree
from mmtrain.config_fit import (
    augmentation_complaints,
    batch_complaints,
    metric_complaints,
    name_complaints,
    pretext_complaints,
    rivals,
    stream_complaints,
    task_complaints,
    training_complaints,
    watched_by,
)
from mmtrain.config_sections import (
    BatchConfig,
    CurveConfig,
    DatasetConfig,
    SelectionConfig,
    StreamConfig,
    TaskConfig,
    TrackingConfig,
)
from mmtrain.config_stages import parse_stages, shared_tree
from mmtrain.config_training import TrainingConfig
from mmtrain.config_yaml import dump_yaml_text
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.data.augment import AugmentationConfig
from mmtrain.engine.initial_config import InitialConfig
from mmtrain.errors import ConfigError
from mmtrain.models.config import ModelConfig
from mmtrain.objectives.pretext import PretextConfig
from mmtrain.objectives.regularizers import RegularizerConfig
from mmtrain.section import Name, Section


class Experiment(Section):
    """One run, whole."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$")] = Field(
        max_length=200, description="The run's folder below `runs`."
    )
    runs: str = Field(default="runs", min_length=1, description="Folder that holds the runs.")
    cache: str = Field(
        default="cache",
        min_length=1,
        description="Folder of what frozen text encoders made of texts (`model.text.cache`) and of sample tables to map "
        "(`mmtrain data map`); may be deleted at any time.",
    )
    seed: int = Field(
        default=0, ge=0, lt=2**31, description="Of initial weights, dropout, order of samples and augmentation."
    )
    datasets: dict[Name, DatasetConfig] = Field(min_length=1, description="Feature stores, by a name that you choose.")
    streams: dict[Name, StreamConfig] = Field(min_length=1, description="What the curriculum draws from, by any name.")
    tasks: dict[Name, TaskConfig] = Field(
        default_factory=dict,
        description="Loss, head and metrics of a task, by its name in the stores; the others have defaults.",
    )
    augmentation: dict[str, dict[Name, AugmentationConfig]] = Field(
        default_factory=dict,
        description="What training samples go through, by modality, then by any name, in order; evaluation sees none of it.",
    )
    pretext: dict[Name, PretextConfig] = Field(
        default_factory=dict, description="Tasks that need no label, by the name that streams list them under."
    )
    model: ModelConfig = Field(description="What is read, and how it is brought together.")
    initial: InitialConfig | None = Field(
        default=None, description="Weights of an earlier run to begin with; null: the text encoder's own, the rest random."
    )
    regularizers: dict[Name, RegularizerConfig] = Field(
        default_factory=dict, description="Penalties added to the loss and kept out of the logged task losses, by any name."
    )
    curriculum: CurriculumConfig = Field(
        default=CurriculumConfig(), description="Which samples, tasks and loss weights come next."
    )
    batch: BatchConfig = Field(default=BatchConfig(), description="How samples are brought to the model.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="How long, and how weights move.")
    selection: SelectionConfig = Field(
        default=SelectionConfig(), description="Which checkpoint is the best; early stopping."
    )
    curve: CurveConfig = Field(default=CurveConfig(), description="Points of the training curve between evaluations.")
    tracking: TrackingConfig = Field(default=TrackingConfig(), description="Trackers besides the JSON lines.")

    @field_validator("augmentation", mode="before")
    @classmethod
    def _rows_have_names(cls, values: Any) -> Any:
        for modality, rows in values.items() if isinstance(values, dict) else ():
            if isinstance(rows, dict) and isinstance(rows.get("name"), str):
                example = f"{modality}: {{first: {{name: {rows['name']}}}}}"
                raise ValueError(f"{modality}: each row stands under a name that you choose: {example}")
        return values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        complaints = [
            *stream_complaints(self.streams, self.datasets, self.model),
            *task_complaints(self.tasks, self.pretext, self.task_names),
            *metric_complaints(watched_by(self.selection, self.training, self.curriculum, self.task_names), self.streams),
            *name_complaints(self.curriculum, self.streams, self.task_names),
            *augmentation_complaints(self.augmentation, self.model),
            *pretext_complaints(self.pretext, self.streams, self.model),
            *batch_complaints(self.batch, self.pretext),
            *training_complaints(self.training, self.curriculum, self.model),
            *rivals(self.pretext, self.curriculum, self.regularizers),
        ]
        if complaints:
            raise ValueError("\n".join(complaints))
        return self

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


@dataclass(frozen=True)
class Staged:
    """Experiments that follow each other, by stage."""

    stages: Mapping[str, Experiment]

    @property
    def folder(self) -> Path:
        return next(iter(self.stages.values())).folder.parent

    def resolved(self) -> dict[str, Any]:
        """Plain values that load to equal experiments."""
        first = next(iter(self.stages.values()))
        shared = {"name": first.name.rpartition("/")[0], "runs": first.runs}
        stages = {stage: experiment.resolved() for stage, experiment in self.stages.items()}
        return shared | {
            "stages": {stage: {key: values[key] for key in values if key not in shared} for stage, values in stages.items()}
        }


def parse(tree: ConfigTree) -> Experiment:
    """Check a tree. Errors: ConfigError, a line for each complaint, with its file and key."""
    try:
        experiment = Experiment.model_validate(tree.values)
    except ValidationError as error:
        raise config_error(error, Experiment, tree, beside={"stages", "stage"}) from None
    refuse_truth_as_number(tree, experiment.resolved())
    return experiment


def load(file: str | Path, overrides: list[str] | None = None) -> Experiment | Staged:
    """Read, refine, override and check an experiment file: all its stages, or the one that `stage` names."""
    tree = load_tree(file, overrides or [])
    chosen = tree.values.get("stage")
    runs = Experiment.model_fields["runs"].default
    staged = None if tree.values.get("stages") is None else Staged(parse_stages(tree, parse, runs=runs))
    if chosen is None:
        return staged or parse(shared_tree(tree))
    known = {} if staged is None else staged.stages
    if chosen not in known:
        raise ConfigError(located(tree, ("stage",), f"the file has no stage '{chosen}'{nearest(str(chosen), known)}"))
    return known[chosen]


def load_experiment(file: str | Path, overrides: list[str] | None = None) -> Experiment:
    """The one experiment of a file. Errors: ConfigError, also where there are several stages and none is chosen."""
    found = load(file, overrides)
    if isinstance(found, Staged):
        choices = " or ".join(f"stage={stage}" for stage in found.stages)
        raise ConfigError(f"{file}: this file has several stages, and one experiment is asked for; add {choices}")
    return found


def dump_yaml(experiment: Experiment | Staged) -> str:
    """The experiment, or its stages, as a file that loads to an equal one."""
    return dump_yaml_text(escape_interpolations(experiment.resolved()))
