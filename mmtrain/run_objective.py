"""The objective of an experiment: a loss for every task, fitted to the labels that its streams train on."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import nn

from mmtrain.config import Experiment
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.errors import ConfigError, DataError
from mmtrain.objectives.config import ObjectiveConfig
from mmtrain.objectives.objective import Objective


def training_labels(task: str, streams: Sequence[Stream]) -> npt.NDArray[np.float64]:
    """Labels of a task over all streams that have it, [N] or [N, C]."""
    found = [stream.labels(task) for stream in streams if task in stream.tasks]
    return np.concatenate([values[labelled] for values, labelled in found])


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
    if bare := [name for name, values in labels.items() if not len(values)]:
        raise DataError(_unlabelled(bare[0], [stream for stream in train_streams if bare[0] in stream.tasks]))
    pretext = {}
    for name, row in experiment.pretext.items():
        try:
            pretext[name] = row.build_loss(modalities=experiment.model.fused_modalities, tasks=tasks)
        except ConfigError as error:
            raise ConfigError(f"pretext.{name}.{error}") from None
        if not any(stream.labelled(name).any() for stream in train_streams if name in stream.pretext):
            raise DataError(f"pretext.{name}: no training sample has what it needs")
    named_parameters = () if model is None else model.named_parameters()
    return config.build(
        tasks=tasks,
        labels=labels,
        named_parameters=named_parameters,
        pretext=pretext,
        conventions=_conventions(experiment, tasks),
    )


def _unlabelled(task: str, streams: Sequence[Stream]) -> str:
    found = ", ".join(f"streams.{stream.name} (store '{stream.store.name}', {stream.store.path})" for stream in streams)
    return (
        f"task '{task}': no training sample carries a label in {found}; take it out of streams.<name>.tasks, or label some"
    )


def _conventions(experiment: Experiment, tasks: Mapping[str, TaskSchema]) -> dict[str, str]:
    """By task. Errors: ConfigError where a task is no regression, or where a threshold is asked of one that has none."""
    for name, task in tasks.items():
        config = experiment.task(name)
        if config.metrics is not None and task.kind != "regression":
            raise ConfigError(
                f"tasks.{name}.metrics: '{config.metrics.name}' makes classes of a regression, and the store says "
                f"{task.kind}; write null"
            )
        if config.threshold != "half" and task.kind not in ("binary", "multilabel"):
            raise ConfigError(f"tasks.{name}.threshold: a {task.kind} task has no threshold to choose; write half")
    configs = {name: experiment.task(name).metrics for name in tasks}
    return {name: config.name for name, config in configs.items() if config is not None}
