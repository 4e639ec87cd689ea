"""Loss at initialization: against what knows only the labels' frequencies, and what is wrong with logits and losses."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmtrain.data.schema import TaskKind
from mmtrain.doctor.case import Case
from mmtrain.doctor.finding import Finding, Severity
from mmtrain.evaluation.evaluate import Arrays, evaluate_samples
from mmtrain.objectives.losses.task_loss import TaskLoss
from mmtrain.run_objective import training_labels

CHECK = "initial_loss"
_SHARE = 0.1  # of the time
_SAMPLES = 256
_ABOVE, _FAR_ABOVE = 2.0, 5.0  # times the loss of an indifferent predictor: worth a note, and a warning
_BELOW = 0.5  # times chance: further down than a random direction that happens to be right
_ERRORS = 4.0  # standard errors
Numbers = npt.NDArray[np.floating]


def check_initial_loss(case: Case) -> list[Finding]:
    """Every task with labels, on training samples that are spread over all streams, in evaluation mode."""
    run, findings = case.run, []
    arrays = _evaluate(case)
    knows = case.experiment.initial is not None
    for task, loss in run.objective.losses.items():
        rows = arrays[f"{task}/labelled"]
        if not rows.any():
            continue
        logits = arrays[f"{task}/logits"][rows]
        findings += squashed_findings(task, loss.kind, logits)
        findings += reduction_findings(task, loss, torch.from_numpy(logits), _targets(case, task, arrays, rows))
        streams = [stream for stream in run.train_streams if task in stream.tasks]
        findings += initial_findings(
            task,
            arrays[f"{task}/loss"][rows],
            chance=loss.chance(training_labels(task, streams)),
            indifferent=indifferent_loss(loss.kind, logits.shape[-1]),
            knows=knows,
            key=f"tasks.{task}.loss",
        )
    return findings


def _targets(case: Case, task: str, arrays: Arrays, rows: npt.NDArray[np.bool_]) -> Tensor:
    """Of the chosen samples, as a batch holds them."""
    places = zip(arrays["stream"][rows], arrays["index"][rows], strict=True)
    values = np.array([case.run.train_streams[number].store_labels(task)[index] for number, index in places])
    is_class = case.run.objective.losses[task].kind == "multiclass"
    return torch.from_numpy(values.astype(np.int64 if is_class else np.float32))


def reduction_findings(task: str, loss: TaskLoss, logits: Tensor, targets: Tensor) -> list[Finding]:
    """Whether a task's loss of N samples is one value for each, which those beside it do not change."""
    if len(logits) < 2:
        return []
    half, fix = (
        len(logits) // 2,
        f"take mean and sum out of the loss of '{task}' (reduction='none'): the engine divides once",
    )
    whole = loss.training(logits, targets)
    if whole.shape != (len(logits),):
        found = f"{task}: its loss does not give one value a sample: shape {list(whole.shape)} for {len(logits)} samples"
        return [Finding(CHECK, "problem", found, fix)]
    parts = torch.cat([loss.training(logits[:half], targets[:half]), loss.training(logits[half:], targets[half:])])
    if not torch.allclose(whole, parts, rtol=1e-3, atol=1e-5, equal_nan=True):
        found = f"{task}: its loss of a sample depends on the samples beside it, so it is reduced before its time"
        return [Finding(CHECK, "problem", found, fix)]
    return []


def _evaluate(case: Case) -> Arrays:
    """As many samples as the time allows, a batch of every stream at least."""
    run, deadline = case.run, case.deadline(_SHARE)
    each = max(_SAMPLES // len(run.train_streams), 1)
    parts: list[Arrays] = []
    for number, stream in enumerate(run.train_streams):
        places = np.unique(np.linspace(0, len(stream) - 1, min(each, len(stream))).astype(np.int64))
        places = np.random.default_rng(0).permutation(places)
        for begin in range(0, len(places), run.settings.eval_batch):
            if begin and deadline.passed:
                break
            chosen = {number: places[begin : begin + run.settings.eval_batch]}
            parts.append(
                evaluate_samples(
                    run.model,
                    run.train_streams,
                    chosen,
                    objective=run.objective,
                    collate=run.loader.collate,
                    accelerator=run.accelerator,
                    batch_size=run.settings.eval_batch,
                )
            )
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def indifferent_loss(kind: TaskKind, num_classes: int) -> float:
    """What a predictor scores that holds every class for equally likely, or every value for the mean."""
    if kind == "regression":
        return 1.0
    return math.log(num_classes) if kind == "multiclass" else math.log(2)


def squashed_findings(task: str, kind: TaskKind, logits: Numbers) -> list[Finding]:
    """Whether logits [N, C] of a multiclass task are probabilities, or all logits of another one lie from 0 to 1 and differ.

    The second is a guess that a few samples may confirm by chance, so it is left to the check that overfits one batch.
    """
    if kind != "multiclass" or logits.shape[1] < 2 or not is_squashed(logits):
        return []
    if not np.allclose(logits.sum(axis=1), 1.0, atol=1e-3):
        return []
    found = (
        f"{task}: every row of its {len(logits)} logits lies from 0 to 1 and sums to 1: a softmax stands before the "
        f"cross-entropy, whose loss then cannot fall below {squashed_floor(logits.shape[1]):.2f}"
    )
    return [Finding(CHECK, "problem", found, f"take the softmax out of the head of '{task}': the loss applies its own")]


def is_squashed(logits: Numbers) -> bool:
    """Whether all of them lie from 0 to 1, as behind a softmax or sigmoid."""
    return bool(len(logits) and logits.min() >= 0 and logits.max() <= 1)


def squashed_floor(num_classes: int) -> float:
    """The cross-entropy of one-hot probabilities that pass for logits: log(1 + (C - 1) / e)."""
    return math.log1p((num_classes - 1) / math.e)


def initial_findings(
    task: str, losses: Numbers, *, chance: float, indifferent: float, knows: bool, key: str
) -> list[Finding]:
    """`losses` [n] of single samples; `chance`: of the prior-only predictor; `knows`: the weights were trained before."""
    if not np.isfinite(losses).all():
        count = int((~np.isfinite(losses)).sum())
        found = f"{task}: {count} of {len(losses)} losses are NaN or Inf before the first step"
        return [Finding(CHECK, "problem", found, "see input_scale; mmtrain train --detect-anomaly names the operation")]
    mean, error = _mean_error(losses)
    found = f"{task}: loss {mean:.3f} +- {error:.3f} at initialization; chance (class frequencies alone) is {chance:z.3f}"
    times = (mean - _ERRORS * error) / max(chance, indifferent)
    if times > _ABOVE:
        fix = "see input_scale; look for a scale behind the head"
        fix += f"; {key}: {{name: mse, standardize: true}}" if indifferent == 1.0 else ""
        severity: Severity = "warning" if times > _FAR_ABOVE else "note"
        words = f"{found}: {'far ' if times > _FAR_ABOVE else ''}above it, so logits begin too large"
        return [Finding(CHECK, severity, words, fix)]
    if mean + _ERRORS * error < _BELOW * chance and not knows:
        fix = "look for the label among the inputs (a feature column, the text), and see group_leakage"
        return [Finding(CHECK, "warning", f"{found}: far below it, before anything was learned: a label leaks", fix)]
    return [Finding(CHECK, "ok", found)]


def _mean_error(losses: Numbers | Sequence[float]) -> tuple[float, float]:
    values = np.asarray(losses, np.float64)
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf
