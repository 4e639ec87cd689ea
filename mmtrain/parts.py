"""What training, scoring and simulation are made of: stores, streams, model, objective, and what a curriculum is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import nn

from mmtrain.compatibility import common_dims, common_frames, common_tasks, open_stores
from mmtrain.config import Experiment
from mmtrain.curriculum.pacing import PacingConfig
from mmtrain.curriculum.streams import StreamSpec, steps_per_epoch
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.difficulty import read_difficulties
from mmtrain.models.encoders.torchvision_backbone import TorchvisionEncoderConfig
from mmtrain.models.model import MultimodalModel, build_model
from mmtrain.objectives.config import ObjectiveConfig
from mmtrain.objectives.losses.task_loss import TaskLoss
from mmtrain.objectives.objective import Objective


@dataclass(frozen=True)
class Parts:
    """What training and evaluation both need."""

    stores: dict[str, FeatureStore]
    tasks: dict[str, TaskSchema]
    train_streams: list[Stream]
    model: MultimodalModel
    objective: Objective
    collate: Collator


def build_parts(experiment: Experiment, *, weights: bool = True) -> Parts:
    """Open the stores, build model and objective. `weights` False: random ones, since a checkpoint follows.

    Errors: ConfigError or DataError for all that does not fit together.
    """
    stores = open_stores(experiment)
    tasks, dims = common_tasks(experiment, stores), common_dims(experiment, stores)
    frames = common_frames(experiment, stores)
    train_streams = build_streams(experiment, stores, "train")
    text = experiment.model.text
    model_config = experiment.model
    if text is not None and not weights:
        model_config = model_config.model_copy(update={"text": text.model_copy(update={"weights": "random"})})
    if not weights:
        random = {
            name: image.model_copy(update={"weights": "random"})
            for name, image in model_config.images.items()
            if isinstance(image, TorchvisionEncoderConfig)
        }
        model_config = model_config.model_copy(update={"images": {**model_config.images, **random}})
    model = build_model(
        model_config,
        dims=dims,
        outputs={name: task.num_outputs for name, task in tasks.items()},
        heads={name: experiment.task(name).head for name in tasks},
        scalar_tasks=[name for name, task in tasks.items() if task.kind in ("binary", "regression")],
        frames=frames,
    )
    objective = build_objective(experiment, tasks, train_streams, model)
    tokenizer = text.build_tokenizer() if text is not None else None
    collate = Collator(
        dims={name: dims[name] for name in experiment.model.sequences},
        frames={name: frames[name] for name in experiment.model.images},
        tasks=tasks,
        tokenizer=tokenizer,
    )
    return Parts(stores, tasks, train_streams, model, objective, collate)


def build_streams(experiment: Experiment, stores: Mapping[str, FeatureStore], split: str) -> list[Stream]:
    """Every stream of the experiment over one split. Errors: DataError where one has no labelled sample there."""
    return [
        Stream(
            name,
            stores[config.dataset],
            split=split,
            tasks=config.tasks,
            modalities=config.modalities or experiment.model.modalities,
        )
        for name, config in experiment.streams.items()
    ]


def training_labels(task: str, streams: Sequence[Stream]) -> npt.NDArray[np.float64]:
    """Labels of a task over all streams that have it, [N] or [N, C]."""
    found = [stream.labels(task) for stream in streams if task in stream.tasks]
    return np.concatenate([values[labelled] for values, labelled in found])


def steps_of_epoch(experiment: Experiment, train_streams: Sequence[Stream]) -> int:
    """Optimizer steps of an epoch: as written, or all streams' samples over the batch size, rounded up."""
    specs = [StreamSpec(name=stream.name, size=len(stream)) for stream in train_streams]
    return experiment.training.steps_per_epoch or steps_per_epoch(specs, experiment.batch.size)


def stream_specs(pacing: PacingConfig, streams: Sequence[Stream], losses: Mapping[str, TaskLoss]) -> list[StreamSpec]:
    """What a curriculum is told of its streams; a task without a training label in one is not one of its tasks.

    Errors: DataError where the pacing reads a difficulty that a sample has not.
    """
    difficulties = read_difficulties(pacing, streams)
    specs = []
    for stream in streams:
        labels = {task: training_labels(task, [stream]) for task in stream.tasks}
        chance = {task: losses[task].chance(values) for task, values in labels.items() if len(values)}
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


def build_objective(
    experiment: Experiment,
    tasks: Mapping[str, TaskSchema],
    train_streams: Sequence[Stream],
    model: nn.Module | None = None,
) -> Objective:
    """The losses of all tasks, and the regularizers where there is a `model`. Errors: ConfigError or DataError for labels
    that a loss cannot learn from.
    """
    losses = {name: loss for name in tasks if (loss := experiment.task(name).loss) is not None}
    config = ObjectiveConfig(losses=losses, regularizers={} if model is None else experiment.regularizers)
    labels = {name: training_labels(name, train_streams) for name in tasks}
    return config.build(tasks=tasks, labels=labels, named_parameters=() if model is None else model.named_parameters())
