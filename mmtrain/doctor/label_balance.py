"""Label balance: classes that are rare, or missing in train or validation, and what says always the most frequent one."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskSchema
from mmtrain.doctor.case import Case
from mmtrain.doctor.finding import Finding, worst
from mmtrain.run_objective import training_labels

CHECK = "label_balance"
_FREQUENT = 0.9  # share of the most frequent class from which on an accuracy of 0.9 says nothing
_SPARSE = 0.05  # labelled share below which most of a stream's batches teach a task little
Labels = npt.NDArray[np.float64]


def check_label_balance(case: Case) -> list[Finding]:
    """Every task in every stream, then every task over its streams."""
    run, findings = case.run, []
    of_tasks = {task: _task_findings(case, task) for task in run.objective.losses}
    for stream in run.train_streams:
        for task, schema in stream.tasks.items():
            val = next((other for other in run.val_streams if other.name == stream.name), None)
            train_values = training_labels(task, [stream])
            val_values = training_labels(task, [val]) if val is not None else train_values[:0]
            found = stream_balance(f"{stream.name}/{task}", schema, train_values, val_values, num_samples=len(stream))
            is_hopeless = worst(of_tasks[task]) == "problem"
            findings += [finding for finding in found if not (is_hopeless and finding.severity == "ok")]
    return [*findings, *(finding for found in of_tasks.values() for finding in found)]


def _task_findings(case: Case, task: str) -> list[Finding]:
    run, loss = case.run, case.run.objective.losses[task]
    return task_balance(
        task,
        next(stream.tasks[task] for stream in run.train_streams if task in stream.tasks),
        _labels(task, run.train_streams),
        _labels(task, run.val_streams),
        is_weighted=any(getattr(loss, key, None) not in (None, 1.0) for key in _WEIGHTS.values()),
        metric=case.experiment.selection.metric,
    )


_WEIGHTS = {"binary": "pos_weight", "multilabel": "pos_weights", "multiclass": "class_weights"}  # of a built loss
_KEYS = {
    "binary": "{name: binary, pos_weight: auto}",
    "multilabel": "{name: multilabel, pos_weight: auto}",
    "multiclass": "{name: multiclass, class_weight: auto}",
}


def _labels(task: str, streams: Sequence[Stream]) -> Labels:
    return training_labels(task, streams) if any(task in stream.tasks for stream in streams) else np.zeros(0)


def class_counts(schema: TaskSchema, values: Labels) -> dict[str, int]:
    """Labels [N] or [N, C] of each class; of multilabel tasks the positives. Empty for a regression."""
    if schema.kind == "regression":
        return {}
    if schema.kind == "multilabel":
        counts = values.sum(axis=0) if len(values) else np.zeros(len(schema.classes))
        return {name: int(count) for name, count in zip(schema.classes, counts, strict=True)}
    names = schema.classes or ("0", "1")
    return {name: int((values == number).sum()) for number, name in enumerate(names)}


def stream_balance(where: str, schema: TaskSchema, train: Labels, val: Labels, *, num_samples: int) -> list[Finding]:
    """One task in one stream: labelled share, counts, and what the most frequent class would score in validation.

    `train`, `val`: the labels there are, [N] or [N, C]; `num_samples`: of the stream in train.
    """
    share = len(train) / num_samples
    found = f"{where}: {len(train)} of {num_samples} training samples carry a label ({share:.0%})"
    if schema.kind == "regression":
        found += f"; mean {train.mean():.3g}, deviation {train.std():.3g}" if len(train) else ""
    else:
        counts = class_counts(schema, train)
        rarest = min(counts, key=counts.__getitem__)
        found += f"; {', '.join(f'{name}: {count}' for name, count in counts.items())}"
        found += f"; the rarest is {rarest} with {counts[rarest] / len(train):.1%}" if len(train) else ""
        found += _majority_words(schema, train, val)
    if share < _SPARSE:
        fix = "label more samples, or give the task a stream of its own whose samples carry labels of it"
        return [Finding(CHECK, "note", found, fix)]
    return [Finding(CHECK, "ok", found)]


def majority_share(schema: TaskSchema, train: Labels, val: Labels) -> float | None:
    """The accuracy in validation of always saying the most frequent training class; None where there is no such thing."""
    if schema.kind not in ("binary", "multiclass") or not len(train) or not len(val):
        return None
    return float(np.mean(val == np.bincount(train.astype(np.int64)).argmax()))


def _majority_words(schema: TaskSchema, train: Labels, val: Labels) -> str:
    share = majority_share(schema, train, val)
    return "" if share is None else f"; always saying the most frequent class has a validation accuracy of {share:.3f}"


def task_balance(
    task: str, schema: TaskSchema, train: Labels, val: Labels, *, is_weighted: bool, metric: str
) -> list[Finding]:
    """One task over all of its streams; nothing where its labels are as they should be.

    `is_weighted`: its loss weighs classes; `metric`: the one that selects the best checkpoint.
    """
    counts, val_counts = class_counts(schema, train), class_counts(schema, val)
    stratify = f"divide anew: python -m data_prep split STORE --out NEW --stratify {task}"
    if not len(val):
        return [Finding(CHECK, "warning", f"{task}: no validation sample carries a label: nothing measures it", stratify)]
    if schema.kind == "regression":
        return _constant(task, val, stratify)
    if schema.kind != "multilabel" and sum(count > 0 for count in counts.values()) < 2:
        only = next(name for name, count in counts.items() if count)
        found = f"{task}: all {len(train)} training labels are of class {only}: there is nothing to learn"
        return [
            Finding(CHECK, "problem", found, "take the task out of streams.<stream>.tasks, or add samples of other classes")
        ]
    findings = []
    if absent := [name for name, count in counts.items() if not count]:
        found = f"{task}: no training label is of class {', '.join(absent)}: it will not be predicted"
        findings.append(Finding(CHECK, "warning", found, f"leave the class out of the store, or {stratify}"))
    if absent := [name for name, count in val_counts.items() if not count and counts[name]]:
        found = f"{task}: no validation label is of class {', '.join(absent)}: metrics say nothing of it"
        findings.append(Finding(CHECK, "warning", found, stratify))
    return findings + _frequent(task, schema, train, val, is_weighted=is_weighted, metric=metric)


def _constant(task: str, val: Labels, stratify: str) -> list[Finding]:
    if len(val) > 1 and np.ptp(val) == 0:
        found = f"{task}: all {len(val)} validation labels are {val[0]:g}: no correlation is defined"
        return [Finding(CHECK, "warning", found, stratify)]
    return []


def _frequent(task: str, schema: TaskSchema, train: Labels, val: Labels, *, is_weighted: bool, metric: str) -> list[Finding]:
    if schema.kind == "multilabel":
        rare = [name for name, count in class_counts(schema, train).items() if 0 < count < (1 - _FREQUENT) * len(train)]
        found = f"{task}: fewer than {1 - _FREQUENT:.0%} of the training labels are positive for {', '.join(rare)}"
        return (
            [Finding(CHECK, "note", found, f"tasks.{task}.loss: {_KEYS['multilabel']}")] if rare and not is_weighted else []
        )
    share = majority_share(schema, train, val)
    if share is None or share < _FREQUENT:
        return []
    found = f"{task}: always saying the most frequent class has a validation accuracy of {share:.3f}"
    fixes = [f"read val/{task}/macro_f1 in place of accuracy"]
    selects = metric == f"val/{task}/accuracy"
    if selects:
        found += ", and accuracy selects the best checkpoint"
        fixes = [f"selection: {{metric: val/{task}/macro_f1, mode: max}}"]
    if not is_weighted:
        fixes.append(f"tasks.{task}.loss: {_KEYS[schema.kind]} (samplers even out streams, not classes)")
    return [Finding(CHECK, "note" if is_weighted and not selects else "warning", found, "; ".join(fixes))]
