"""Overfit one batch: whatever model and data are, a single batch is learned by heart within some dozens of steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch

from mmtrain.doctor.case import Case, Deadline, unchanged
from mmtrain.doctor.finding import Finding, Severity
from mmtrain.doctor.initial_loss import is_squashed
from mmtrain.doctor.lr_range import BELOW
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.schedules.schedule import LrSchedule
from mmtrain.engine.step import train_step
from mmtrain.errors import NonFiniteError
from mmtrain.evaluation.evaluate import Arrays, to_arrays

CHECK = "overfit"
_SHARE = 0.3  # of the time
_STEPS, _FEWEST = 60, 20
_GOAL, _FLOOR = 0.5, 0.05  # of the loss of who knows the batch's labels but no input; a loss that is low whatever that is
_OTHERS = (1e-2, 1e-3, 1e-1, 1.0)  # learning rates tried where the config's does not do
_NEAR = 3.0  # a factor within which two rates are one
_STILL = 0.05  # a fall that is none


@dataclass
class Attempt:
    """One learning rate from the initial weights on one batch."""

    lr: float
    losses: dict[str, list[float]] = field(default_factory=dict)  # by task, before each step
    squashed: set[str] = field(default_factory=set)  # tasks all of whose last logits lie from 0 to 1
    diverged: bool = False

    @property
    def steps(self) -> int:
        return max(map(len, self.losses.values()), default=0)

    def learned(self, goals: Mapping[str, float]) -> set[str]:
        """The tasks whose last loss is at their goal or below."""
        return {task for task, goal in goals.items() if self.losses.get(task) and self.losses[task][-1] <= goal}


def check_overfit(case: Case) -> list[Finding]:
    """The first batch, in evaluation mode (no dropout), at the config's rate; at others where that does not do."""
    if not case.can_learn:
        return [Finding(CHECK, "note", "not tried: no parameter is trained; see gradient_reach")]
    if _FEWEST * case.seconds_per_step > case.seconds * _SHARE:
        words = f"not tried: {_FEWEST} steps take {_FEWEST * case.seconds_per_step:.0f} s"
        return [Finding(CHECK, "note", words, "--seconds with a higher number")]
    deadline, inputs = case.deadline(_SHARE), case.batches(1)[0]
    peak = case.experiment.training.optimizer.lr
    rates = rates_to_try(peak)
    attempts: list[Attempt] = []
    goals: dict[str, float] = {}
    for lr in rates:
        if attempts and deadline.left < _FEWEST * case.seconds_per_step:
            break
        with unchanged(case.run) as run:
            run.curriculum.next_window(0, run.settings.window_of(0)[1])
            goals = goals or batch_goals(run, inputs)
            attempts.append(overfit(run, inputs, factor=lr / peak, lr=lr, goals=goals, deadline=deadline))
        if set(goals) <= set().union(*(attempt.learned(goals) for attempt in attempts)):
            break
    is_whole = len(attempts) == len(rates)
    return overfit_findings(attempts, goals, num_samples=sum(map(len, inputs.micro_batches)), is_whole=is_whole)


def rates_to_try(peak: float) -> list[float]:
    """The config's rate, then the others: the higher ones first, of these the nearest."""
    others = [lr for lr in _OTHERS if not 1 / _NEAR <= lr / peak <= _NEAR]
    return [peak, *sorted(others, key=lambda lr: (lr < peak, abs(math.log(lr / peak))))]


def batch_goals(run: Run, inputs: StepInput) -> dict[str, float]:
    """By task that is active and labelled here: half of what the best constant scores on these labels, 0.05 at the least."""
    goals = {}
    active = run.curriculum.active_tasks(inputs.step)
    for task, loss in run.objective.losses.items():
        labels = [batch.targets[task][batch.labelled[task]] for batch in inputs.micro_batches]
        values = torch.cat(labels).double().cpu().numpy()
        if task in active and len(values) and task not in inputs.silent:
            goals[task] = max(_GOAL * loss.chance(values), _FLOOR)
    return goals


def overfit(
    run: Run, inputs: StepInput, *, factor: float, lr: float, goals: Mapping[str, float], deadline: Deadline
) -> Attempt:
    """Steps on one batch at `factor` times every peak rate, until all goals are reached. The weights of `run` are spent."""
    optimizer = getattr(run.optimizer, "optimizer", run.optimizer)
    schedule = LrSchedule(optimizer, factor=partial(_constant, factor))
    spent, attempt = replace(run, lr_schedule=schedule), Attempt(lr)
    run.model.eval()
    with torch.backends.cudnn.flags(enabled=False):  # which has no backward pass of an LSTM in this mode
        while attempt.steps < _STEPS and not (attempt.steps >= _FEWEST and deadline.passed):
            try:
                values, _ = train_step(spent, inputs)
            except NonFiniteError:
                attempt.diverged = True
                break
            run.model.eval()  # gradual unfreezing puts its encoder to training
            _note(attempt, to_arrays(values.samples), goals)
            if attempt.learned(goals) == set(goals):
                break
    return attempt


def _constant(factor: float, _finished: int) -> float:
    return factor


def _note(attempt: Attempt, columns: Arrays, goals: Mapping[str, float]) -> None:
    attempt.squashed = set()
    for task in goals:
        rows = columns[f"{task}/labelled"]
        attempt.losses.setdefault(task, []).append(float(np.mean(columns[f"{task}/loss"][rows], dtype=np.float64)))
        if is_squashed(columns[f"{task}/logits"][rows]):
            attempt.squashed.add(task)


def overfit_findings(
    attempts: Sequence[Attempt], goals: Mapping[str, float], *, num_samples: int, is_whole: bool
) -> list[Finding]:
    """`attempts`: the config's rate first. A task that no rate teaches is a problem; one that another rate does is not.

    `is_whole`: no rate was left out for want of time.
    """
    first = attempts[0]
    if not goals:
        return [Finding(CHECK, "note", "not tried: the first batch has no label of an active task; see label_balance")]
    if first.diverged:
        words = (
            f"one batch of {num_samples} samples at lr {first.lr:g}: the gradient is NaN or Inf after {first.steps} steps"
        )
        return [Finding(CHECK, "problem", words, "a lower training.optimizer.lr (see lr_range); see input_scale")]
    done = first.learned(goals)
    findings = []
    if done:
        findings.append(
            Finding(CHECK, "ok", f"one batch of {num_samples} samples is learned: {_falls(first, sorted(done))}")
        )
    others = {
        task: next((own for own in attempts[1:] if task in own.learned(goals)), None) for task in goals if task not in done
    }
    for task, other in others.items():
        if other is not None:
            findings.append(_elsewhere(task, first, other))
        else:
            findings.append(_unlearned(task, attempts, goals[task], is_whole=is_whole))
    return findings


def _falls(attempt: Attempt, tasks: Sequence[str]) -> str:
    own = [f"{task} {attempt.losses[task][0]:.3f} to {attempt.losses[task][-1]:.3f}" for task in tasks]
    return f"{', '.join(own)} in {attempt.steps} steps at lr {attempt.lr:g}"


def _elsewhere(task: str, first: Attempt, other: Attempt) -> Finding:
    """Learned at another rate. A rate at which nothing moves, or that is too high to learn one batch, is worth a warning."""
    start, end = first.losses[task][0], first.losses[task][-1]
    is_still = abs(start - end) < _STILL * start
    severity: Severity = "warning" if other.lr < first.lr or (is_still and other.lr >= BELOW * first.lr) else "note"
    here, there = _falls(first, [task]), _falls(other, [task])
    words = f"{task}: one batch is not learned by heart at the config's rate ({here}), but {there}"
    words += ": the rate may be high" if other.lr < first.lr else ": the rate may be low"
    return Finding(CHECK, severity, words, f"training.optimizer.lr={other.lr:g}; see lr_range")


def _unlearned(task: str, attempts: Sequence[Attempt], goal: float, *, is_whole: bool) -> Finding:
    first, rates = attempts[0], ", ".join(f"{attempt.lr:g}" for attempt in attempts)
    words = (
        f"{task}: one batch cannot be learned by heart: {_falls(first, [task])}, and below {goal:.3f} at none of lr {rates}"
    )
    if len(attempts) > 1 and all(task in attempt.squashed for attempt in attempts):
        fix = f"take the softmax or sigmoid out of the head of '{task}': the loss applies its own"
        return Finding(
            CHECK, "problem", f"{words}; all logits lie from 0 to 1: a softmax or sigmoid stands before the loss", fix
        )
    falls = [1 - attempt.losses[task][-1] / attempt.losses[task][0] for attempt in attempts if attempt.losses.get(task)]
    if not is_whole and max(falls) > _STILL:
        return Finding(CHECK, "note", f"{words}; the time for more was up", "--seconds with a higher number")
    fix = "see gradient_reach and input_scale; a regularizer that is too strong; samples of one input and different labels"
    return Finding(CHECK, "problem", words, fix)
