"""Config to objects: stores, streams, model, objective, curriculum and the run; the only call of Accelerator.prepare."""

from collections.abc import Iterator, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from torch import nn

from mmtrain.compatibility import group_warnings, table_notes
from mmtrain.config import Experiment, dump_yaml
from mmtrain.data.bad_samples import bad_sample_notes
from mmtrain.data.dataset import Stream
from mmtrain.engine.checkpoint import has_checkpoints
from mmtrain.engine.curve import Curve
from mmtrain.engine.initial import InitialWeights
from mmtrain.engine.launch import budget_notes, process_notes
from mmtrain.engine.look_once import look_once
from mmtrain.engine.run import LoopSettings, Run
from mmtrain.engine.run_folder import RunFolder
from mmtrain.loop_settings import build_loader, loop_settings
from mmtrain.models.building import count_parameters
from mmtrain.parts import Parts, build_parts, build_streams, check_needed, initial_weights
from mmtrain.run_files import (
    begin_run,
    check_trackers,
    identity,
    name_bad_samples,
    open_logs,
    open_trackers,
    recorded_source,
    write_initial,
    write_signature,
)
from mmtrain.sharded import is_sharded
from mmtrain.signature import describe_model
from mmtrain.text_cache import use_cached_texts
from mmtrain.updates import build_updates
from mmtrain.watched_metrics import check_metric, watched_metrics


def build_run(
    experiment: Experiment,
    accelerator: Accelerator,
    console: Console | None,
    *,
    continues: bool = False,
    on_disk: bool = True,
    val_streams: Sequence[Stream] | None = None,
) -> Run:
    """Everything that `fit` needs. The run folder is touched last: a config that cannot be built deletes nothing.

    `on_disk` False: it is not touched at all, and nothing is logged. Of a run that `continues`, cached texts are still to be
    put in place: which ones, the weights in its checkpoint say. `val_streams`: in the place of the experiment's own,
    whatever metrics it watches.
    """
    check_trackers(experiment)
    folder = RunFolder(experiment.folder)
    initial = initial_weights(experiment, accelerator, in_place_of=folder if continues else None)
    set_seed(experiment.seed)
    parts = build_parts(experiment, initial=initial)
    check_needed(experiment, parts.train_streams)
    settings = loop_settings(experiment, parts, num_processes=accelerator.num_processes)
    val_streams = _val_streams(experiment, parts) if val_streams is None else val_streams
    updates = build_updates(experiment, parts, settings, accelerator)
    model, optimizer = _prepare(experiment, parts.model, updates.optimizer, accelerator)
    notes = [*_notes(experiment, parts, accelerator, initial), *updates.notes]
    if not continues:
        notes += use_cached_texts(
            experiment, accelerator, model=parts.model, streams=parts.train_streams, collate=parts.collate, console=console
        )
    torch.manual_seed(experiment.seed + accelerator.process_index)  # dropout differs between processes
    writes = on_disk and accelerator.is_main_process
    if on_disk:  # no other process may write into the folder before its run has begun
        look_once(accelerator, lambda: _begin(experiment, accelerator, parts, initial, continues=continues))
    recorded = recorded_source(folder) if initial is None and continues else None
    run = Run(
        folder=folder,
        accelerator=accelerator,
        model=model,
        heads={task: parts.model.head(task) for task in parts.task_names},
        optimizer=optimizer,
        lr_schedule=updates.lr_schedule,
        clipping=experiment.training.clipping.build(),
        unfreezing=updates.unfreezing,
        average=updates.average,
        objective=parts.objective,
        curriculum=updates.curriculum,
        loader=build_loader(experiment, parts, accelerator),
        val_streams=val_streams,
        curve=Curve(experiment.curve.every),
        settings=settings,
        identity=identity(updates.resolved, parts.stores, initial.source if initial else recorded),
        texts={"config.yaml": dump_yaml(experiment)},
        on_disk=on_disk,
        console=console,
        logs=open_logs(folder) if writes else None,
        trackers=open_trackers(experiment, folder, console) if writes and console is not None else [],
    )
    for note in (*notes, *_sizes(parts.model, settings), *_silences(experiment)):
        run.say(note)
    return run


def prepare_for_evaluation(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model on its device and in its precision, for evaluation alone."""
    prepared: nn.Module = accelerator.prepare_model(model, evaluation_mode=True)
    return prepared


def _val_streams(experiment: Experiment, parts: Parts) -> Sequence[Stream]:
    """Errors: ConfigError where the experiment watches a metric that their evaluation does not give."""
    streams = build_streams(experiment, parts.stores, "val")
    for where, metric in watched_metrics(experiment, parts.task_names):
        check_metric(where, metric, parts.tasks, parts.objective, streams)
    return streams


def _prepare(
    experiment: Experiment, model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, torch.optim.Optimizer]:
    if experiment.training.compile:
        model.compile(dynamic=True)  # in place: the names of its weights stay
    if is_sharded(model):  # `prepare` tells parts by where they lie in memory, and empty ones lie nowhere
        return prepare_for_evaluation(model, accelerator), accelerator.prepare_optimizer(optimizer)
    prepared, wrapper = accelerator.prepare(model, optimizer)
    # the wrapper is there for the scaler of the loss; without one it only looks for packages at every step
    return prepared, wrapper if accelerator.scaler is not None else optimizer


def _begin(
    experiment: Experiment, accelerator: Accelerator, parts: Parts, initial: InitialWeights | None, *, continues: bool
) -> None:
    """What stands in the folder from the beginning; a run to be replaced is deleted here.

    Where a checkpoint follows all of it is there, and the checkpoint may yet turn out to be of another config.
    """
    folder = RunFolder(experiment.folder)
    if continues and has_checkpoints(folder.checkpoints):
        return
    begin_run(experiment, accelerator, count_parameters(parts.model), continues=continues)
    name_bad_samples(folder, parts.stores)
    write_signature(folder, describe_model(experiment, parts.stores, parts.objective))
    if initial is not None and parts.loaded is not None:
        write_initial(folder, initial, parts.loaded)
    else:
        folder.initial.unlink(missing_ok=True)  # of a beginning that was described otherwise


def _notes(experiment: Experiment, parts: Parts, accelerator: Accelerator, initial: InitialWeights | None) -> Iterator[str]:
    """What is to be said of the data, the processes and the weights that the run begins with."""
    selection = experiment.selection
    if selection.mode == "max" and selection.metric.endswith("/loss"):
        yield f"warning: selection.mode: max keeps the checkpoint of the worst {selection.metric}; write mode: min"
    yield from bad_sample_notes(parts.stores)
    if accelerator.is_main_process:  # the others print nothing, and it takes a while
        yield from group_warnings(parts.stores)
        yield from table_notes(parts.stores)
    micro_tasks = tuple(experiment.pretext) if experiment.batch.micro is not None else ()
    yield from process_notes(parts.model, accelerator.num_processes, micro_tasks=micro_tasks)
    if experiment.batch.tokens is not None:
        yield from budget_notes(parts.model)
    if initial is not None and parts.loaded is not None:
        yield f"initial: {initial.origin}: loaded {parts.loaded.words()}"


def _sizes(model: nn.Module, settings: LoopSettings) -> Iterator[str]:
    counts = count_parameters(model)
    yield f"{counts.trainable:,} of {counts.total:,} parameters are trained"
    yield f"{settings.total_steps} steps of {settings.batch_size} samples, {settings.steps_per_epoch} an epoch"


def _silences(experiment: Experiment) -> Iterator[str]:
    """What takes long and shows nothing meanwhile."""
    if experiment.training.compile:
        yield "compiling: the first step takes a minute or more, and so may the first evaluation; nothing is shown meanwhile"
