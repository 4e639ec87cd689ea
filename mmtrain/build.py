"""Config to objects: stores, streams, model, objective, curriculum and the run; the only call of Accelerator.prepare."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from torch import nn

from mmtrain.compatibility import common_dims, common_tasks, group_warnings, open_stores
from mmtrain.config import Experiment, dump_yaml
from mmtrain.config_errors import nearest
from mmtrain.curriculum.streams import StreamSpec, steps_per_epoch
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.engine.curve import Curve
from mmtrain.engine.launch import process_notes
from mmtrain.engine.loading import Loader
from mmtrain.engine.run import LoopSettings, Run
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError
from mmtrain.evaluation.split_metrics import known_metrics
from mmtrain.models.model import MultimodalModel, build_model, count_parameters
from mmtrain.objectives.config import ObjectiveConfig
from mmtrain.objectives.objective import Objective
from mmtrain.run_files import begin_run, check_trackers, identity, open_logs, open_trackers


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
    train_streams = build_streams(experiment, stores, "train")
    text = experiment.model.text
    model_config = experiment.model
    if text is not None and not weights:
        model_config = model_config.model_copy(update={"text": text.model_copy(update={"weights": "random"})})
    model = build_model(
        model_config,
        dims=dims,
        outputs={name: task.num_outputs for name, task in tasks.items()},
        heads={name: experiment.task(name).head for name in tasks},
        scalar_tasks=[name for name, task in tasks.items() if task.kind in ("binary", "regression")],
    )
    objective = _objective(experiment, tasks, train_streams, model)
    tokenizer = text.build_tokenizer() if text is not None else None
    collate = Collator(dims={name: dims[name] for name in experiment.model.sequences}, tasks=tasks, tokenizer=tokenizer)
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


def build_run(
    experiment: Experiment,
    accelerator: Accelerator,
    console: Console | None,
    *,
    continues: bool = False,
    on_disk: bool = True,
) -> Run:
    """Everything that `fit` needs. The run folder is touched last: a config that cannot be built deletes nothing.

    `on_disk` False: it is not touched at all, and nothing is logged.
    """
    check_trackers(experiment)
    set_seed(experiment.seed)
    parts = build_parts(experiment)
    settings = _settings(experiment, parts, accelerator)
    val_streams = build_streams(experiment, parts.stores, "val")
    watched = [("selection.metric", experiment.selection.metric)]
    for where, metric in watched + experiment.curriculum.watched_metrics(tuple(parts.tasks)):
        check_metric(where, metric, parts.tasks, val_streams)
    model = parts.model.to(accelerator.device)
    text = getattr(model.text, "encoder", None)
    optimizer = experiment.training.optimizer.build(model, text=text if isinstance(text, nn.Module) else None)
    lr_schedule = experiment.training.schedule.build(optimizer, total=settings.total_steps)
    curriculum = experiment.curriculum.build(
        streams=[_spec(stream, parts.objective) for stream in parts.train_streams],
        tasks=tuple(parts.tasks),
        batch_size=settings.batch_size,
        seed=settings.seed,
        steps_per_epoch=settings.steps_per_epoch,
    )
    counts = count_parameters(model)
    prepared_model, prepared_optimizer = accelerator.prepare(model, optimizer)
    torch.manual_seed(experiment.seed + accelerator.process_index)  # dropout differs between processes
    folder = RunFolder(experiment.folder)
    writes = on_disk and accelerator.is_main_process
    if writes:
        begin_run(experiment, accelerator, continues=continues)
    run = Run(
        folder=folder,
        accelerator=accelerator,
        model=prepared_model,
        optimizer=prepared_optimizer,
        lr_schedule=lr_schedule,
        objective=parts.objective,
        curriculum=curriculum,
        loader=_loader(experiment, parts, accelerator),
        val_streams=val_streams,
        curve=Curve(experiment.curve.every),
        settings=settings,
        identity=identity(experiment, parts.stores),
        texts={"config.yaml": dump_yaml(experiment)},
        console=console,
        logs=open_logs(folder) if writes else None,
        trackers=open_trackers(experiment, folder, console) if writes and console is not None else [],
    )
    for note in (*group_warnings(parts.stores), *process_notes(model, accelerator.num_processes)):
        run.say(note)
    run.say(f"{counts.trainable:,} of {counts.total:,} parameters are trained")
    run.say(f"{settings.total_steps} steps of {settings.batch_size} samples, {settings.steps_per_epoch} an epoch")
    return run


def prepare_for_evaluation(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model on its device and in its precision, for evaluation alone."""
    prepared: nn.Module = accelerator.prepare_model(model, evaluation_mode=True)
    return prepared


def _objective(
    experiment: Experiment, tasks: Mapping[str, TaskSchema], streams: Sequence[Stream], model: nn.Module
) -> Objective:
    losses = {name: loss for name in tasks if (loss := experiment.task(name).loss) is not None}
    config = ObjectiveConfig(losses=losses, regularizers=experiment.regularizers)
    labels = {name: training_labels(name, streams) for name in tasks}
    return config.build(tasks=tasks, labels=labels, named_parameters=model.named_parameters())


def training_labels(task: str, streams: Sequence[Stream]) -> npt.NDArray[np.float64]:
    """Labels of a task over all streams that have it, [N] or [N, C]."""
    found = [stream.labels(task) for stream in streams if task in stream.tasks]
    return np.concatenate([values[labelled] for values, labelled in found])


def _loader(experiment: Experiment, parts: Parts, accelerator: Accelerator) -> Loader:
    return Loader(
        streams=parts.train_streams,
        collate=parts.collate,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        micro=experiment.batch.micro,
        prefetch=experiment.batch.prefetch,
        pin_memory=accelerator.device.type == "cuda",
    )


def _spec(stream: Stream, objective: Objective) -> StreamSpec:
    """What the curriculum knows of a stream; a task without a training label there is not one of its tasks."""
    labels = {task: training_labels(task, [stream]) for task in stream.tasks}
    chance = {task: objective.losses[task].chance(values) for task, values in labels.items() if len(values)}
    lengths = stream.lengths().__getitem__
    return StreamSpec(name=stream.name, size=len(stream), tasks=tuple(chance), chance=chance, lengths=lengths)


def _settings(experiment: Experiment, parts: Parts, accelerator: Accelerator) -> LoopSettings:
    training, size = experiment.training, experiment.batch.size
    if size < accelerator.num_processes:
        raise ConfigError(f"batch.size: {size} samples cannot be shared by {accelerator.num_processes} processes")
    specs = [StreamSpec(name=stream.name, size=len(stream)) for stream in parts.train_streams]
    per_epoch = training.steps_per_epoch or steps_per_epoch(specs, size)
    return LoopSettings(
        batch_size=size,
        total_steps=training.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        window=experiment.curriculum.window,
        eval_every=training.eval_every,
        checkpoint_every=training.checkpoint_every,
        keep_checkpoints=training.keep_checkpoints,
        eval_batch=experiment.batch.evaluation,
        clip_norm=training.clip_norm,
        metric=experiment.selection.metric,
        mode=experiment.selection.mode,
        patience=experiment.selection.patience,
        seed=experiment.seed,
    )


def check_metric(where: str, metric: str, tasks: Mapping[str, TaskSchema], val_streams: Sequence[Stream]) -> None:
    """Errors: ConfigError where no evaluation will give the metric that `where` in the config names."""
    if metric == "val/loss":
        return
    labelled = {task: [s.name for s in val_streams if task in s.tasks and s.labels(task)[1].any()] for task in tasks}
    shared = {task: owners for task, owners in labelled.items() if len(owners) > 1}
    names = known_metrics(tasks)
    parts = [name.partition("/") for name in names]
    names += [f"{task}@{stream}/{rest}" for task, _, rest in parts for stream in shared.get(task, ())]
    known = [f"val/{name}" for name in names]
    if metric not in known:
        raise ConfigError(f"{where}: no metric '{metric}'{nearest(metric, known)}")
    task = metric.split("/")[1].partition("@")[0]
    if not labelled[task]:
        raise ConfigError(f"{where}: {metric}, but no validation sample carries a label of '{task}'")
