"""What moves a model's weights: optimizer, its schedule, the curriculum, unfreezing and an average."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from mmtrain.config import Experiment
from mmtrain.curriculum.curriculum import Curriculum
from mmtrain.curriculum.weighting.protocol import ByGradients, Learned, Weighting
from mmtrain.engine.averages.average import WeightAverage
from mmtrain.engine.launch import asks_for_parts
from mmtrain.engine.run import LoopSettings
from mmtrain.engine.schedules.schedule import LrSchedule
from mmtrain.engine.sharding import shard_run
from mmtrain.engine.text_layers import TextLayers
from mmtrain.engine.unfreezing import Unfreezing
from mmtrain.errors import ConfigError
from mmtrain.models.encoders.hub import transformer_layers
from mmtrain.models.model import MultimodalModel
from mmtrain.parts import Parts, stream_specs
from mmtrain.references import reference_note, with_references
from mmtrain.sharding_limits import refuse_unshardable


@dataclass(frozen=True)
class Updates:
    """All of it, over weights that are where they stay."""

    optimizer: torch.optim.Optimizer
    lr_schedule: LrSchedule
    unfreezing: Unfreezing | None
    average: WeightAverage | None
    curriculum: Curriculum
    resolved: Experiment  # with what the curriculum reads of earlier runs
    notes: tuple[str, ...]  # what is to be said of it when the run begins


def build_updates(experiment: Experiment, parts: Parts, settings: LoopSettings, accelerator: Accelerator) -> Updates:
    """Puts the model on its device too, of weights in parts what this process holds of them.

    Errors: ConfigError where the experiment asks for what this model, or weights in parts, cannot do.
    """
    average, sharding_notes = _place(experiment, parts, accelerator, total_steps=settings.total_steps)
    text = _text_layers(parts.model)
    optimizer = experiment.training.optimizer.build(parts.model, text=text)
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
    refuse_unshardable(experiment, parts.model, curriculum.weighting, num_processes=accelerator.num_processes)
    _join_weighting(curriculum.weighting, parts.model, optimizer, accelerator.device)
    lr_schedule = experiment.training.schedule.build(
        optimizer, total=settings.total_steps, steps_per_epoch=settings.steps_per_epoch
    )
    notes = (*_notes(experiment, resolved, unfreezing), *sharding_notes)
    return Updates(optimizer, lr_schedule, unfreezing, average, curriculum, resolved, notes)


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


def _text_layers(model: MultimodalModel) -> TextLayers | None:
    """The pretrained encoder inside the model, if there is one."""
    encoder = getattr(model.text, "encoder", None)
    if not isinstance(encoder, nn.Module):
        return None
    return TextLayers(encoder, transformer_layers(encoder), kind=getattr(encoder.config, "model_type", "text"))


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


def _notes(experiment: Experiment, resolved: Experiment, unfreezing: Unfreezing | None) -> Iterator[str]:
    if resolved is not experiment:
        yield reference_note(experiment, resolved)
    if unfreezing is not None:
        yield unfreezing.note()
