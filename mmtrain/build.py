"""Config to objects: stores, streams, model, objective, curriculum and the run; the only call of Accelerator.prepare."""

from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from rich.console import Console
from torch import nn

from mmtrain.compatibility import group_warnings
from mmtrain.config import Experiment, dump_yaml
from mmtrain.curriculum.weighting.protocol import ByGradients, Learned, Weighting
from mmtrain.data.augment.augmentation import Augmentation
from mmtrain.data.bad_samples import bad_sample_notes
from mmtrain.engine.averages.average import WeightAverage
from mmtrain.engine.checkpoint import has_checkpoints
from mmtrain.engine.curve import Curve
from mmtrain.engine.initial import InitialWeights
from mmtrain.engine.launch import asks_for_parts, budget_notes, process_notes
from mmtrain.engine.loading import Loader
from mmtrain.engine.look_once import look_once
from mmtrain.engine.run import LoopSettings, Run
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.sharding import shard_run
from mmtrain.engine.text_layers import TextLayers
from mmtrain.engine.unfreezing import Unfreezing
from mmtrain.errors import ConfigError
from mmtrain.models.building import count_parameters
from mmtrain.models.encoders.hub import transformer_layers
from mmtrain.models.model import MultimodalModel
from mmtrain.parts import (
    Parts,
    build_parts,
    build_streams,
    check_needed,
    initial_weights,
    steps_of_epoch,
    stream_specs,
)
from mmtrain.references import reference_note, with_references
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
from mmtrain.sharding_limits import refuse_unshardable
from mmtrain.signature import describe_model
from mmtrain.text_cache import use_cached_texts
from mmtrain.watched_metrics import check_metric, watched_metrics


def build_run(
    experiment: Experiment,
    accelerator: Accelerator,
    console: Console | None,
    *,
    continues: bool = False,
    on_disk: bool = True,
) -> Run:
    """Everything that `fit` needs. The run folder is touched last: a config that cannot be built deletes nothing.

    `on_disk` False: it is not touched at all, and nothing is logged. Of a run that `continues`, cached texts are still to be
    put in place: which ones, the weights in its checkpoint say.
    """
    check_trackers(experiment)
    folder = RunFolder(experiment.folder)
    initial = initial_weights(experiment, accelerator, in_place_of=folder if continues else None)
    set_seed(experiment.seed)
    parts = build_parts(experiment, initial=initial)
    check_needed(experiment, parts.train_streams)
    settings = _settings(experiment, parts, accelerator)
    val_streams = build_streams(experiment, parts.stores, "val")
    for where, metric in watched_metrics(experiment, parts.task_names):
        check_metric(where, metric, parts.tasks, parts.objective, val_streams)
    model = parts.model
    weight_average, placing_notes = _place(experiment, parts, accelerator, total_steps=settings.total_steps)
    text = _text_layers(model)
    optimizer = experiment.training.optimizer.build(model, text=text)
    unfreezing = _unfreezing(experiment, text, settings)
    specs = stream_specs(experiment, parts.train_streams, parts.objective)
    resolved = with_references(experiment, specs)
    curriculum = resolved.curriculum.build(
        streams=specs,
        tasks=parts.task_names,
        batch_size=settings.batch_size,
        seed=settings.seed,
        steps_per_epoch=settings.steps_per_epoch,
        kinds={name: task.kind for name, task in parts.tasks.items()},
    )
    refuse_unshardable(experiment, model, curriculum.weighting, num_processes=accelerator.num_processes)
    _join_weighting(curriculum.weighting, model, optimizer, accelerator.device)
    lr_schedule = experiment.training.schedule.build(
        optimizer, total=settings.total_steps, steps_per_epoch=settings.steps_per_epoch
    )
    if experiment.training.compile:
        model.compile(dynamic=True)  # in place: the names of its weights stay
    prepared_model, prepared_optimizer = _prepare(model, optimizer, accelerator)
    cache_notes = (
        []
        if continues
        else use_cached_texts(
            experiment, accelerator, model=model, streams=parts.train_streams, collate=parts.collate, console=console
        )
    )
    torch.manual_seed(experiment.seed + accelerator.process_index)  # dropout differs between processes
    writes = on_disk and accelerator.is_main_process
    if on_disk:  # no other process may write into the folder before its run has begun
        look_once(accelerator, lambda: _begin(experiment, accelerator, parts, initial, continues=continues))
    recorded = recorded_source(folder) if initial is None and continues else None
    run = Run(
        folder=folder,
        accelerator=accelerator,
        model=prepared_model,
        heads={task: model.head(task) for task in parts.task_names},
        # Accelerate's wrapper is there for the scaler of the loss; without one it only looks for packages at every step
        optimizer=prepared_optimizer if accelerator.scaler is not None else optimizer,
        lr_schedule=lr_schedule,
        clipping=experiment.training.clipping.build(),
        unfreezing=unfreezing,
        average=weight_average,
        objective=parts.objective,
        curriculum=curriculum,
        loader=_loader(experiment, parts, accelerator),
        val_streams=val_streams,
        curve=Curve(experiment.curve.every),
        settings=settings,
        identity=identity(resolved, parts.stores, initial.source if initial else recorded),
        texts={"config.yaml": dump_yaml(experiment)},
        on_disk=on_disk,
        console=console,
        logs=open_logs(folder) if writes else None,
        trackers=open_trackers(experiment, folder, console) if writes and console is not None else [],
    )
    micro_tasks = tuple(experiment.pretext) if experiment.batch.micro is not None else ()
    notes = [
        *bad_sample_notes(parts.stores),
        *group_warnings(parts.stores),
        *process_notes(model, accelerator.num_processes, micro_tasks=micro_tasks),
        *(budget_notes(model) if experiment.batch.tokens is not None else []),
    ]
    notes += [reference_note(experiment, resolved)] if resolved is not experiment else []
    notes += [f"initial: {initial.origin}: loaded {parts.loaded.words()}"] if initial and parts.loaded else []
    notes += [unfreezing.note()] if unfreezing is not None else []
    notes += [*cache_notes, *placing_notes]
    for note in (*notes, *_sizes(model, settings)):
        run.say(note)
    return run


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


def _place(
    experiment: Experiment, parts: Parts, accelerator: Accelerator, *, total_steps: int
) -> tuple[WeightAverage | None, list[str]]:
    """Model and average to the device, of weights in parts what this process holds of them; and what to say of that."""
    in_parts = asks_for_parts() and accelerator.num_processes > 1
    if not in_parts:  # parts go there unit by unit, behind the copy that an average makes
        parts.model.to(accelerator.device)
    config = experiment.training.average
    average = config.build(parts.model, total=total_steps) if config else None
    return average, shard_run(parts.model, average, parts.objective, device=accelerator.device) if in_parts else []


def _prepare(
    model: nn.Module, optimizer: torch.optim.Optimizer, accelerator: Accelerator
) -> tuple[nn.Module, torch.optim.Optimizer]:
    if is_sharded(model):  # `prepare` tells parts by where they lie in memory, and empty ones lie nowhere
        return prepare_for_evaluation(model, accelerator), accelerator.prepare_optimizer(optimizer)
    prepared_model, prepared_optimizer = accelerator.prepare(model, optimizer)
    return prepared_model, prepared_optimizer


def _sizes(model: nn.Module, settings: LoopSettings) -> Iterator[str]:
    counts = count_parameters(model)
    yield f"{counts.trainable:,} of {counts.total:,} parameters are trained"
    yield f"{settings.total_steps} steps of {settings.batch_size} samples, {settings.steps_per_epoch} an epoch"


def _unfreezing(experiment: Experiment, text: TextLayers | None, settings: LoopSettings) -> Unfreezing | None:
    """Errors: ConfigError where there is nothing to unfreeze."""
    config = experiment.training.unfreeze
    if config is None:
        return None
    if text is None:
        raise ConfigError("training.unfreeze: this model reads no text through an encoder; leave it out")
    return config.build(text, steps_per_epoch=settings.steps_per_epoch)


def _join_weighting(
    weighting: Weighting, model: MultimodalModel, optimizer: torch.optim.Optimizer, device: torch.device
) -> None:
    """Give a weighting's parameters their device and optimizer. Errors: ConfigError where there is nothing to combine."""
    module = getattr(weighting, "module", None)
    if isinstance(module, nn.Module):
        module.to(device)
    if isinstance(weighting, Learned):
        parameters = list(weighting.module.parameters())
        optimizer.add_param_group({"params": parameters, "name": "weighting", "lr": weighting.lr, "weight_decay": 0.0})
        if callable(train := getattr(optimizer, "train", None)):
            train()  # schedule-free: the new group takes part in the switch to the average
    own = {id(parameter) for parameter in model.heads.parameters()}
    is_shared = any(parameter.requires_grad and id(parameter) not in own for parameter in model.parameters())
    if isinstance(weighting, ByGradients) and not is_shared:
        raise ConfigError(
            "curriculum.weighting: it combines the tasks' gradients of what they share, and of this model only the heads "
            "are trained. Write a weighting of losses, or train more of the model"
        )


def prepare_for_evaluation(model: nn.Module, accelerator: Accelerator) -> nn.Module:
    """The model on its device and in its precision, for evaluation alone."""
    prepared: nn.Module = accelerator.prepare_model(model, evaluation_mode=True)
    return prepared


def _loader(experiment: Experiment, parts: Parts, accelerator: Accelerator) -> Loader:
    rows = {
        modality: {name: config.build() for name, config in configs.items()}
        for modality, configs in experiment.augmentation.items()
    }
    return Loader(
        streams=parts.train_streams,
        collate=parts.collate,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        micro=experiment.batch.micro,
        tokens=experiment.batch.tokens,
        prefetch=experiment.batch.prefetch,
        pin_memory=accelerator.device.type == "cuda",
        augment=Augmentation(rows, seed=experiment.seed) if rows else None,
        compares=bool(experiment.pretext),
    )


def _settings(experiment: Experiment, parts: Parts, accelerator: Accelerator) -> LoopSettings:
    training, size = experiment.training, experiment.batch.size
    if size < accelerator.num_processes:
        raise ConfigError(f"batch.size: {size} samples cannot be shared by {accelerator.num_processes} processes")
    comparing = [name for name, row in experiment.pretext.items() if row.compares]
    if comparing and min((experiment.batch.micro or size) * accelerator.num_processes, size) < 2:
        key = "size" if size < 2 else "micro"
        raise ConfigError(
            f"batch.{key}: with 1, the pretext task '{comparing[0]}' has nothing in a forward pass to compare a sample "
            "with; write at least 2"
        )
    if experiment.pretext and experiment.batch.micro == 1 and size % accelerator.num_processes:
        raise ConfigError(
            f"batch.micro: with 1, the {accelerator.num_processes} processes pass unequally often through {size} samples, "
            "and pretext tasks compare what is in one pass of all; write at least 2"
        )
    per_epoch = steps_of_epoch(experiment, parts.train_streams)
    return LoopSettings(
        batch_size=size,
        total_steps=training.epochs * per_epoch,
        steps_per_epoch=per_epoch,
        window=experiment.curriculum.window,
        eval_every=training.eval_every,
        checkpoint_every=training.checkpoint_every,
        keep_checkpoints=training.keep_checkpoints,
        on_save_error=training.on_save_error,
        eval_batch=experiment.batch.evaluation,
        on_nonfinite=training.on_nonfinite,
        skip_limit=training.skip_limit,
        metric=experiment.selection.metric,
        mode=experiment.selection.mode,
        patience=experiment.selection.patience,
        seed=experiment.seed,
        detect_anomaly=training.detect_anomaly,
        train_predictions=training.train_predictions,
    )


def _text_layers(model: MultimodalModel) -> TextLayers | None:
    """The pretrained encoder inside the model, if there is one."""
    encoder = getattr(model.text, "encoder", None)
    if not isinstance(encoder, nn.Module):
        return None
    return TextLayers(encoder, transformer_layers(encoder), kind=getattr(encoder.config, "model_type", "text"))
