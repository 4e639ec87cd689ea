"""From a step's micro-batches to its gradient: by weights known before, by the step's losses, or by the tasks' gradients."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from mmtrain.curriculum.weighting.protocol import ByGradients, ByLosses
from mmtrain.engine.gradients import combine_gradients
from mmtrain.engine.loading import StepInput
from mmtrain.engine.passes import Forward, Passes, add_up
from mmtrain.engine.processes import global_losses, share_buffers, sum_gradients, sum_over_processes
from mmtrain.engine.run import Run
from mmtrain.engine.sharding import mean_gradients_of_whole
from mmtrain.sharded import is_sharded, local


@dataclass(frozen=True)
class Backward:
    """What the backward passes of a step leave besides gradients."""

    objective: Tensor  # this process's part of the minimized value, without penalties
    penalties: Mapping[str, Tensor]
    aux: Mapping[str, Tensor]  # this process's part of each batch term
    samples: list[dict[str, Tensor]]  # one a micro-batch
    weights: Mapping[str, Tensor | float] | None  # task -> what its loss or gradient counted; None: there is no such number
    conflicts: float | None = None  # the share of pairs of tasks whose gradients point against each other


def backward(run: Run, inputs: StepInput, forward: Forward) -> Backward:
    """Fill every gradient with that of the whole global batch, batch terms and penalties included; alike on every process.

    A task that is not active, or has no label in the global batch on a sample that weighs something, counts nothing.
    """
    silent = inputs.silent | {task for task, count in inputs.counts.items() if not count}
    tasks = [task for task in run.curriculum.active_tasks(inputs.step) if task not in silent]
    if tasks and run.curriculum.by_gradients is not None:
        return _by_gradients(run, inputs, forward, run.curriculum.by_gradients, tasks)
    if tasks and run.curriculum.by_losses is not None:
        return _by_losses(run, inputs, forward, run.curriculum.by_losses, tasks)
    return _by_weights(run, inputs, forward, tasks)


def _by_weights(run: Run, inputs: StepInput, forward: Forward, tasks: Sequence[str]) -> Backward:
    """The minimized value is sum over tasks of weight x mean over the global batch's labelled samples."""
    weights = run.curriculum.weights(inputs.step) or {}  # none at all: no active task has a label
    objective = torch.zeros((), device=run.accelerator.device)
    penalties: Mapping[str, Tensor] = {}
    in_parts = is_sharded(run.model)
    if in_parts:
        share_buffers(run.accelerator, run.model)  # as DDP does
    aux: dict[str, Tensor] = {}
    samples, parts = [], []
    for number in range(len(inputs.micro_batches)):
        is_last = number + 1 == len(inputs.micro_batches)
        reduces = is_last or in_parts  # which hold no gradient whole from one pass to the next
        sync: AbstractContextManager[None] = nullcontext() if reduces else run.accelerator.no_sync(run.model)
        with sync:
            seen = forward(number)
            loss = torch.stack([part * weights.get(task, 0.0) for task, part in seen.losses.items()]).sum()
            objective = objective + loss.detach()
            aux = add_up(aux, seen.aux)
            total = loss + sum(seen.aux.values())
            total = total * run.accelerator.num_processes  # DDP and FSDP divide the summed gradients by the processes
            if is_last and not in_parts:
                penalties = _penalties(run)
                total = total + sum(penalties.values())
            run.accelerator.backward(total)
        samples.append(seen.columns)
        parts.append({task: part.detach() for task, part in seen.losses.items()})
    if in_parts:
        mean_gradients_of_whole(run.model)
        penalties = _penalize(run)
    learned = run.curriculum.learned
    if tasks and learned is not None:  # its gradient comes from sums: the same on every process, without DDP
        value = learned.objective(global_losses(run.accelerator, parts, tasks))
        run.accelerator.backward(value)
        objective = _once(run, value.detach())
    return Backward(objective, penalties, aux, samples, weights)


def _by_losses(run: Run, inputs: StepInput, forward: Forward, weighting: ByLosses, tasks: Sequence[str]) -> Backward:
    in_parts = is_sharded(run.model)
    sync: AbstractContextManager[None] = nullcontext() if in_parts else run.accelerator.no_sync(run.model)
    with sync:  # the sums come between the passes, so the gradients are summed here, unless they are in parts
        passes = Passes(run.accelerator, run.model, inputs, forward)
        aux: dict[str, Tensor] = {}
        samples, parts = [], []
        for seen in passes.first():
            aux = add_up(aux, seen.aux)
            samples.append(seen.columns)
            parts.append({task: seen.losses[task].detach() for task in tasks})
        losses = global_losses(run.accelerator, parts, tasks)
        weights = weighting.weigh(losses)
        for seen in passes.second():
            weighted = [part * weights.get(task, 0.0) for task, part in seen.losses.items()]
            total = torch.stack([*weighted, *seen.aux.values()]).sum()
            run.accelerator.backward(total * run.accelerator.num_processes if in_parts else total)
        if in_parts:
            mean_gradients_of_whole(run.model)
        else:
            sum_gradients(run.accelerator, run.model.parameters())
        penalties = _penalize(run)
    return Backward(_once(run, weighting.objective(losses)), penalties, aux, samples, weights)


def _by_gradients(run: Run, inputs: StepInput, forward: Forward, weighting: ByGradients, tasks: Sequence[str]) -> Backward:
    with run.accelerator.no_sync(run.model):  # each task's gradient is summed before they are combined
        passes = Passes(run.accelerator, run.model, inputs, forward)
        done = combine_gradients(run, passes, weighting, tasks, step=inputs.step)
        penalties = _penalize(run)
    return Backward(_once(run, done.objective), penalties, done.aux, done.samples, done.weights, done.conflicts)


def _penalties(run: Run) -> Mapping[str, Tensor]:
    if not run.objective.regularizers:  # the usual case: walking through a large model's parameters takes a while
        return {}
    named = run.accelerator.unwrap_model(run.model).named_parameters()
    if is_sharded(run.model):
        return run.objective.penalties((name, local(value)) for name, value in named)
    return run.objective.penalties(named)


def _penalize(run: Run) -> Mapping[str, Tensor]:
    """Add the penalties' gradients, which every process has whole, or of the weights that it holds."""
    penalties = _penalties(run)
    if penalties:
        run.accelerator.backward(torch.stack(list(penalties.values())).sum())
    if is_sharded(run.model):
        return {name: sum_over_processes(run.accelerator, value.detach()) for name, value in penalties.items()}
    return penalties


def _once(run: Run, value: Tensor) -> Tensor:
    """A value that every process knows whole, as parts that sum to it."""
    return value if run.accelerator.is_main_process else torch.zeros_like(value)
