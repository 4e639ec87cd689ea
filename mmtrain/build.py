"""Config to objects: stores, streams, model, objective, curriculum and the run; the only call of Accelerator.prepare."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from torch import nn

from mmtrain.compatibility import common_dims, common_tasks
from mmtrain.config import Experiment, dump_yaml
from mmtrain.config_errors import nearest
from mmtrain.curriculum.streams import StreamSpec, steps_per_epoch
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.engine.curve import Curve
from mmtrain.engine.environment import describe_environment
from mmtrain.engine.jsonl import JsonLines
from mmtrain.engine.launch import process_notes
from mmtrain.engine.loading import Loader
from mmtrain.engine.run import Logs, LoopSettings, Run
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.tracking import Tracker
from mmtrain.errors import ConfigError
from mmtrain.evaluation.split_metrics import known_metrics
from mmtrain.models.model import MultimodalModel, build_model, count_parameters
from mmtrain.objectives.config import ObjectiveConfig
from mmtrain.objectives.objective import Objective

# A resumed run may differ in these; nothing that is trained or logged depends on them.
_FREE_KEYS = (
    ("runs",),
    ("tracking",),
    ("batch", "prefetch"),
    ("batch", "micro"),
    ("training", "checkpoint_every"),
    ("training", "keep_checkpoints"),
)


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
    stores = {name: FeatureStore(dataset.store) for name, dataset in experiment.datasets.items()}
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


def build_run(experiment: Experiment, accelerator: Accelerator, console: Console | None) -> Run:
    """Everything that `fit` needs, for a prepared run folder."""
    set_seed(experiment.seed)
    parts = build_parts(experiment)
    settings = _settings(experiment, parts, accelerator)
    val_streams = build_streams(experiment, parts.stores, "val")
    model = parts.model.to(accelerator.device)
    text = getattr(model.text, "encoder", None)
    optimizer = experiment.training.optimizer.build(model, text=text if isinstance(text, nn.Module) else None)
    lr_schedule = experiment.training.schedule.build(optimizer, total=settings.total_steps)
    curriculum = experiment.curriculum.build(
        streams=[_spec(stream, parts.objective) for stream in parts.train_streams],
        tasks=tuple(parts.tasks),
        batch_size=experiment.batch.size,
        seed=experiment.seed,
    )
    counts = count_parameters(model)
    prepared_model, prepared_optimizer = accelerator.prepare(model, optimizer)
    torch.manual_seed(experiment.seed + accelerator.process_index)  # dropout differs between processes
    folder = RunFolder(experiment.folder)
    loader = Loader(
        streams=parts.train_streams,
        collate=parts.collate,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        micro=experiment.batch.micro,
        prefetch=experiment.batch.prefetch,
        pin_memory=accelerator.device.type == "cuda",
    )
    run = Run(
        folder=folder,
        accelerator=accelerator,
        model=prepared_model,
        optimizer=prepared_optimizer,
        lr_schedule=lr_schedule,
        objective=parts.objective,
        curriculum=curriculum,
        loader=loader,
        val_streams=val_streams,
        curve=Curve(experiment.curve.every),
        settings=settings,
        identity=identity(experiment, parts.stores),
        texts={"config.yaml": dump_yaml(experiment)},
        console=console,
        logs=open_logs(folder) if accelerator.is_main_process else None,
        trackers=_trackers(experiment, folder, console) if accelerator.is_main_process and console is not None else [],
    )
    for note in process_notes(model, accelerator.num_processes):
        run.say(note)
    run.say(f"{counts.trainable:,} of {counts.total:,} parameters are trained")
    run.say(f"{settings.total_steps} steps of {settings.batch_size} samples, {settings.steps_per_epoch} an epoch")
    return run


def prepare_for_evaluation(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model on its device and in its precision, for evaluation alone."""
    prepared: nn.Module = accelerator.prepare_model(model, evaluation_mode=True)
    return prepared


def write_run_files(experiment: Experiment, accelerator: Accelerator, *, resumed: bool) -> None:
    """config.yaml, and a line of environment.json for every start of the run."""
    folder = RunFolder(experiment.folder)
    starts = json.loads(folder.environment.read_text(encoding="utf-8")) if resumed and folder.environment.exists() else []
    starts.append(
        describe_environment(
            seed=experiment.seed,
            num_processes=accelerator.num_processes,
            device=str(accelerator.device),
            precision=experiment.training.precision,
        )
    )
    folder.environment.write_text(json.dumps(starts, indent=1), encoding="utf-8")
    if not resumed:
        folder.config.write_text(dump_yaml(experiment), encoding="utf-8")


def identity(experiment: Experiment, stores: Mapping[str, FeatureStore]) -> dict[str, object]:
    """What a checkpoint belongs to: the config without its free keys, and the stores' fingerprints."""
    config = experiment.resolved()
    for *above, key in _FREE_KEYS:
        section = config
        for name in above:
            section = section[name]
        section.pop(key, None)
    return {"config": config, "stores": {name: store.fingerprint for name, store in stores.items()}}


def open_logs(folder: RunFolder) -> Logs:
    return Logs(metrics=JsonLines(folder.metrics), curriculum=JsonLines(folder.curriculum), timing=JsonLines(folder.timing))


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


def _spec(stream: Stream, objective: Objective) -> StreamSpec:
    chance = {task: objective.losses[task].chance(training_labels(task, [stream])) for task in stream.tasks}
    return StreamSpec(name=stream.name, size=len(stream), chance=chance, lengths=stream.lengths().__getitem__)


def _settings(experiment: Experiment, parts: Parts, accelerator: Accelerator) -> LoopSettings:
    training, size = experiment.training, experiment.batch.size
    if size < accelerator.num_processes:
        raise ConfigError(f"batch.size: {size} samples cannot be shared by {accelerator.num_processes} processes")
    metric = experiment.selection.metric
    known = [f"val/{name}" for name in known_metrics(parts.tasks)] if metric != "val/loss" else [metric]
    if metric not in known:
        raise ConfigError(f"selection.metric: no metric '{metric}'{nearest(metric, known)}")
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
        metric=metric,
        mode=experiment.selection.mode,
        patience=experiment.selection.patience,
        seed=experiment.seed,
    )


def _trackers(experiment: Experiment, folder: RunFolder, console: Console) -> list[Tracker]:
    trackers: list[Tracker] = []
    tracking = experiment.tracking
    if tracking.wandb != "disabled":
        from mmtrain.engine.tracking.wandb import WandbTracker

        trackers.append(
            WandbTracker(
                mode=tracking.wandb,
                project=tracking.project,
                name=experiment.name,
                folder=folder.path,
                config=experiment.resolved(),
                console=console,
            )
        )
    if tracking.tensorboard:
        from mmtrain.engine.tracking.tensorboard import TensorBoardTracker

        trackers.append(TensorBoardTracker(folder=folder.path / "tensorboard"))
    return trackers


def main_console(accelerator: Accelerator) -> Console | None:
    """The console of the first process; the others print nothing."""
    return Console(file=sys.stdout) if accelerator.is_main_process else None
