"""What training, scoring and simulation are made of: stores, streams, model, and what a curriculum is told."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from accelerate import Accelerator
from torch import nn

from mmtrain.compatibility import check_origins, common_dims, common_frames, common_rates, common_tasks, open_stores
from mmtrain.config import Experiment
from mmtrain.curriculum.streams import StreamSpec, steps_per_epoch
from mmtrain.data.batch import Mask
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.difficulty import read_difficulties
from mmtrain.engine.checkpoint import has_checkpoints
from mmtrain.engine.fitting import Fit
from mmtrain.engine.initial import InitialWeights, read_initial
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError, DataError
from mmtrain.models.building import build_model
from mmtrain.models.config import ModelConfig
from mmtrain.models.encoders.torchvision_backbone import TorchvisionEncoderConfig
from mmtrain.models.model import MultimodalModel
from mmtrain.objectives.objective import Objective
from mmtrain.objectives.pretext.protocol import PretextRow
from mmtrain.run_objective import build_objective, training_labels


@dataclass(frozen=True)
class Parts:
    """What training and evaluation both need."""

    stores: dict[str, FeatureStore]
    tasks: dict[str, TaskSchema]  # of the stores
    train_streams: list[Stream]
    model: MultimodalModel
    objective: Objective
    collate: Collator
    loaded: Fit | None = None  # what of the initial weights is in the model

    @property
    def task_names(self) -> tuple[str, ...]:
        """Those of the stores, then the pretext tasks."""
        return tuple(self.objective.task_names)


def initial_weights(
    experiment: Experiment, accelerator: Accelerator, *, in_place_of: RunFolder | None
) -> InitialWeights | None:
    """The weights to begin with; None where a checkpoint of the run that is continued follows."""
    follows = in_place_of is not None and has_checkpoints(in_place_of.checkpoints)
    if experiment.initial is None or follows:
        return None
    return read_initial(experiment.initial, own=experiment.folder, accelerator=accelerator)


def build_parts(experiment: Experiment, *, weights: bool = True, initial: InitialWeights | None = None) -> Parts:
    """Open the stores, build model and objective. `weights` False: random ones, since a checkpoint follows.

    `initial`: in the model before anything else looks at it; where they are all of it, no others are read.

    Errors: ConfigError or DataError for all that does not fit together.
    """
    stores = open_stores(experiment)
    tasks, dims = common_tasks(experiment, stores), common_dims(experiment, stores)
    frames, rates = common_frames(experiment, stores), common_rates(experiment, stores)
    check_origins(experiment, stores)
    train_streams = build_streams(experiment, stores, "train")
    reads_weights = weights and (initial is None or initial.match == "shapes")
    model_config = experiment.model if reads_weights else without_pretrained(experiment.model)
    text = experiment.model.text
    tokenizer = text.build_tokenizer() if text is not None else None
    model = build_model(
        model_config,
        dims=dims,
        outputs={name: task.num_outputs for name, task in tasks.items()},
        heads={name: experiment.task(name).head for name in tasks},
        scalar_tasks=[name for name, task in tasks.items() if task.kind in ("binary", "regression")],
        frames=frames,
        rates=rates,
        pretext={
            name: partial(_build_module, name, config, input_dims=dims, tokenizer=tokenizer)
            for name, config in experiment.pretext.items()
        },
    )
    loaded = None if initial is None else initial.load(model)
    objective = build_objective(experiment, tasks, train_streams, model)
    collate = Collator(
        dims={name: dims[name] for name in experiment.model.sequences},
        frames={name: frames[name] for name in experiment.model.images},
        tasks=tasks,
        tokenizer=tokenizer,
        reads_pairs=experiment.model.second_text,
        pretext=tuple(experiment.pretext),
    )
    return Parts(stores, tasks, train_streams, model, objective, collate, loaded)


def without_pretrained(config: ModelConfig) -> ModelConfig:
    """The same model with random weights in every encoder that would read some."""
    images = {
        name: image.model_copy(update={"weights": "random"}) if isinstance(image, TorchvisionEncoderConfig) else image
        for name, image in config.images.items()
    }
    text = config.text and config.text.model_copy(update={"weights": "random"})
    return config.model_copy(update={"text": text, "images": images})


def _build_module(name: str, config: PretextRow, **shape: Any) -> nn.Module:
    """Errors: ConfigError that names the task."""
    try:
        return config.build_module(**shape)
    except ConfigError as error:
        raise ConfigError(f"pretext.{name}.{error}") from None


def build_streams(experiment: Experiment, stores: Mapping[str, FeatureStore], split: str) -> list[Stream]:
    """Every stream of the experiment over one split. Errors: DataError where one has no labelled sample there."""
    return [
        Stream(
            name,
            stores[config.dataset],
            split=split,
            tasks=[task for task in config.tasks if task not in experiment.pretext],
            modalities=config.modalities or experiment.model.modalities,
            pretext={
                task: partial(_speaks, experiment.pretext[task], experiment.model.fused_modalities)
                for task in config.tasks
                if task in experiment.pretext
            },
        )
        for name, config in experiment.streams.items()
    ]


def check_needed(experiment: Experiment, train_streams: Sequence[Stream]) -> None:
    """Errors: DataError where no training sample has a modality that the fusion cannot do without."""
    fusion, read = experiment.model.fusion, experiment.model.modalities
    for modality in experiment.model.needed_modalities:
        if not any(stream.has(modality) for stream in train_streams):
            names = ", ".join(stream.name for stream in train_streams)
            raise DataError(
                f"model.fusion: {fusion.name} needs '{modality}', and no training sample of the streams {names} has it (the "
                f"model reads {', '.join(read)}); add a store that holds it, or write another fusion"
            )


def _speaks(row: PretextRow, read: Collection[str], present: Mapping[str, Mask], labelled: Mapping[str, Mask]) -> Mask:
    """By what the model reads: a modality without an encoder is as good as not there."""
    return row.speaks({name: mask & (name in read) for name, mask in present.items()}, labelled)


def steps_of_epoch(experiment: Experiment, train_streams: Sequence[Stream]) -> int:
    """Optimizer steps of an epoch: as written, or all streams' samples over the batch size, rounded up."""
    specs = [StreamSpec(name=stream.name, size=len(stream)) for stream in train_streams]
    return experiment.training.steps_per_epoch or steps_per_epoch(specs, experiment.batch.size)


def stream_specs(experiment: Experiment, streams: Sequence[Stream], objective: Objective) -> list[StreamSpec]:
    """What a curriculum is told of its streams; a task without a training label in one is not one of its tasks.

    The chance of a pretext task is that among the samples of one forward pass of one process, all of them of the stream.
    Errors: DataError where the pacing reads a difficulty that a sample has not.
    """
    difficulties = read_difficulties(experiment.curriculum.pacing, streams)
    companions = min(experiment.batch.micro or experiment.batch.size, experiment.batch.size)
    specs = []
    for stream in streams:
        labels = {task: training_labels(task, [stream]) for task in stream.tasks}
        chance = {task: objective.losses[task].chance(values) for task, values in labels.items() if len(values)}
        present = stream.present() if stream.pretext else {}
        for task in stream.pretext:
            spoken = stream.labelled(task)
            if spoken.any():
                own = {modality: mask[spoken] for modality, mask in present.items()}
                chance[task] = objective.pretext[task].chance(own, companions=companions)
        specs.append(
            StreamSpec(
                name=stream.name,
                size=len(stream),
                tasks=tuple(chance),
                chance=chance,
                lengths=stream.lengths().__getitem__,
                difficulty=difficulties.get(stream.name),
            )
        )
    return specs
