"""The experiment: a tree of the component configs that live beside their code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from mmtrain.config_errors import config_error, located, nearest, refuse_truth_as_number
from mmtrain.config_file import ConfigTree, escape_interpolations, load_tree
from mmtrain.config_stages import parse_stages, shared_tree
from mmtrain.config_training import TrainingConfig
from mmtrain.config_yaml import dump_yaml_text
from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.weighting.gradients import GradientSection
from mmtrain.data.augment import AUGMENTATIONS, AugmentationConfig
from mmtrain.data.augment.protocol import Kind
from mmtrain.data.schema import TEXTS
from mmtrain.engine.initial_config import InitialConfig
from mmtrain.errors import ConfigError
from mmtrain.models.heads import HeadConfig
from mmtrain.models.heads.linear import LinearHeadConfig
from mmtrain.models.model import ModelConfig
from mmtrain.objectives.losses import LossConfig
from mmtrain.objectives.pretext import PretextConfig
from mmtrain.objectives.pretext.masked_modelling import MaskedModellingConfig
from mmtrain.objectives.regularizers import RegularizerConfig
from mmtrain.objectives.regularizers.r_drop import RDropConfig
from mmtrain.section import Name, Section


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
    tasks: tuple[Name, ...] = Field(
        min_length=1, description="Tasks of the store to learn from this stream, and names under `pretext`."
    )
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
    augmentation: dict[str, dict[Name, AugmentationConfig]] = Field(
        default_factory=dict,
        description="What training samples go through, by modality, then by any name, in order; evaluation sees none of it.",
    )
    pretext: dict[Name, PretextConfig] = Field(
        default_factory=dict, description="Tasks that need no label, by the name that streams list them under."
    )
    model: ModelConfig
    initial: InitialConfig | None = Field(
        default=None, description="Weights of an earlier run to begin with; null: the text encoder's own, the rest random."
    )
    regularizers: dict[Name, RegularizerConfig] = Field(default_factory=dict)
    curriculum: CurriculumConfig = CurriculumConfig()
    batch: BatchConfig = BatchConfig()
    training: TrainingConfig = TrainingConfig()
    selection: SelectionConfig = SelectionConfig()
    curve: CurveConfig = CurveConfig()
    tracking: TrackingConfig = TrackingConfig()

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
            *self._stream_complaints(),
            *self._task_complaints(),
            *self._augmentation_complaints(),
            *self._pretext_complaints(),
            *self._other_complaints(),
        ]
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
            if task in self.pretext:
                yield f"tasks.{task}: this is a pretext task; all that it has to say stands under pretext.{task}"
            elif task not in tasks:
                yield f"tasks.{task}: no stream has this task{nearest(task, tasks)}"

    def _augmentation_complaints(self) -> Iterator[str]:
        for modality, rows in self.augmentation.items():
            if modality not in self.model.modalities:
                yield f"augmentation.{modality}: the model reads no '{modality}'{nearest(modality, self.model.modalities)}"
                continue
            kind: Kind = "text" if modality in TEXTS else "features"
            known = ", ".join(row.model_fields["name"].default for row in AUGMENTATIONS if row.reads == kind)
            for name, row in rows.items():
                if row.reads != kind:
                    where = f"augmentation.{modality}.{name}"
                    yield f"{where}: {row.name} is for {row.reads}; for '{modality}' write one of {known}"

    def _pretext_complaints(self) -> Iterator[str]:
        tasks = self.task_names
        for name, config in self.pretext.items():
            if name not in tasks:
                yield f"pretext.{name}: no stream lists this task{nearest(name, tasks)}"
            try:
                config.check(self.model.modalities)
                if isinstance(config, MaskedModellingConfig):
                    config.check_rows(self.model.modalities, self.model.pooled_modalities)
            except ConfigError as error:
                yield f"pretext.{name}.{error}"
            for stream_name, stream in self.streams.items():
                lacking = [task for task in config.needed_tasks if name in stream.tasks and task not in stream.tasks]
                if lacking:
                    yield f"streams.{stream_name}.tasks: '{name}' learns from the labels of '{lacking[0]}'; list it here too"
        weighting = self.curriculum.weighting
        if self.pretext and isinstance(weighting, GradientSection) and weighting.over == "representation":
            yield (
                f"curriculum.weighting.over: {weighting.name} compares gradients at the joint vectors, and pretext tasks "
                "do not pass through them; write parameters"
            )
        for name, regularizer in self.regularizers.items():
            if self.pretext and isinstance(regularizer, RDropConfig):
                yield f"regularizers.{name}: r_drop reads each sample twice, which pretext tasks would compare; leave it out"

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
        elif self.training.unfreeze is not None and text is not None and text.lora is not None:
            yield "training.unfreeze: model.text.lora trains adapters alone; write null for one of them"
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
        raise config_error(error, Experiment, tree) from None
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
