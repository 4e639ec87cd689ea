"""Metrics of a split, by kind of task, from torchmetrics; what is undefined is NaN, never 0 and never a warning.

Undefined are: AUROC and average precision of a class without positives or without negatives; precision where nothing was
predicted positive; recall and F1 where nothing is positive; macro averages where all labels are of one class;
correlations where labels or predictions are constant; everything where there is no sample.

Macro averages run over the classes that occur in labels or predictions; one that occurs but is never predicted counts
with precision 0, as in scikit-learn and torchmetrics. Macro AUROC and average precision run over the classes for which they
are defined, one against the rest. Predictions that are NaN are refused, not scored.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mmtrain.data.schema import TaskKind
from mmtrain.evaluation.predictions import Floats, TaskPredictions
from mmtrain.evaluation.ranking import average_ranks, is_constant

Values = Iterator[tuple[str, float]]
# the metric that stands for a task in tables
PRIMARY: dict[TaskKind, str] = {
    "binary": "average_precision",
    "multiclass": "accuracy",
    "multilabel": "macro_average_precision",
    "regression": "pearson",
}
_ERRORS = frozenset({"mae", "rmse", "hamming_distance"})
_NAN = math.nan


def is_lower_better(name: str) -> bool:
    """Of a metric's own name, such as `mae`, `loss_q95`, `text_to_audio_median_rank` or `audio_loss`."""
    return name in _ERRORS or name.startswith("loss") or name.endswith(("median_rank", "_loss"))


def metrics(predictions: TaskPredictions) -> Values:
    """(name, value) of every metric of the task's kind. Errors: DataError naming a sample whose prediction is NaN."""
    predictions.refuse_nonfinite()
    table: dict[TaskKind, Callable[[TaskPredictions], Values]] = {
        "binary": _binary,
        "multiclass": _multiclass,
        "multilabel": _multilabel,
        "regression": _regression,
    }
    for name, value in table[predictions.kind](predictions):
        yield name, float(value)


def predicted_classes(predictions: TaskPredictions) -> Tensor:
    """int64 [N] (binary: probability above 0.5; multiclass: the most probable) or [N, C] of 0 and 1 (multilabel)."""
    probabilities = torch.from_numpy(np.asarray(predictions.probabilities, np.float64))
    return probabilities.argmax(dim=1) if predictions.kind == "multiclass" else (probabilities > 0.5).long()


def _binary(predictions: TaskPredictions) -> Values:
    from torchmetrics.functional import classification

    chosen, labels = predicted_classes(predictions), torch.from_numpy(predictions.labels).long()
    count, positives, predicted = len(labels), int(labels.sum()), int(chosen.sum())
    yield "accuracy", float(classification.binary_accuracy(chosen, labels)) if count else _NAN
    yield from _macro(chosen, labels, num_classes=2)
    yield "precision", float(classification.binary_precision(chosen, labels)) if predicted else _NAN
    yield "recall", float(classification.binary_recall(chosen, labels)) if positives else _NAN
    yield "f1", float(classification.binary_f1_score(chosen, labels)) if positives else _NAN
    yield from _ranked(labels.unsqueeze(1), _scores(predictions).unsqueeze(1), prefix="")


def _multiclass(predictions: TaskPredictions) -> Values:
    from torchmetrics.functional import classification

    chosen, labels = predicted_classes(predictions), torch.from_numpy(predictions.labels).long()
    num_classes = len(predictions.classes)
    if len(labels):
        value = classification.multiclass_accuracy(chosen, labels, num_classes=num_classes, average="micro")
    yield "accuracy", float(value) if len(labels) else _NAN
    yield from _macro(chosen, labels, num_classes=num_classes)
    one_hot = torch.nn.functional.one_hot(labels, num_classes)
    yield from _ranked(one_hot, torch.from_numpy(np.asarray(predictions.probabilities, np.float64)), prefix="")


def _macro(chosen: Tensor, labels: Tensor, *, num_classes: int) -> Values:
    from torchmetrics.functional import classification

    defined = len(labels) > 0 and bool((labels != labels[0]).any())
    for name, metric in (
        ("macro_precision", classification.multiclass_precision),
        ("macro_recall", classification.multiclass_recall),
        ("macro_f1", classification.multiclass_f1_score),
    ):
        yield name, float(metric(chosen, labels, num_classes=num_classes, average="macro")) if defined else _NAN


def _multilabel(predictions: TaskPredictions) -> Values:
    from torchmetrics.functional import classification

    chosen, labels = predicted_classes(predictions), torch.from_numpy(predictions.labels).long()
    num_labels = len(predictions.classes)
    any_pair = bool((chosen | labels).any())
    occurs = (chosen | labels).any(dim=0)
    f1 = classification.multilabel_f1_score
    yield "macro_f1", float(f1(chosen, labels, num_labels, average="none")[occurs].mean()) if any_pair else _NAN
    yield "micro_f1", float(f1(chosen, labels, num_labels, average="micro")) if any_pair else _NAN
    count = len(labels)
    yield "exact_match", float(classification.multilabel_exact_match(chosen, labels, num_labels)) if count else _NAN
    distance = classification.multilabel_hamming_distance
    yield "hamming_distance", float(distance(chosen, labels, num_labels, average="micro")) if count else _NAN
    yield from _ranked(labels, _scores(predictions), prefix="macro_")


def _scores(predictions: TaskPredictions) -> Tensor:
    """What binary decisions are ranked by, in [0, 1]: from logits, whose order float32 probabilities lose near 0 and 1."""
    logits = np.asarray(predictions.logits, np.float64)
    ranks = np.unique(logits, return_inverse=True)[1].reshape(logits.shape)
    return torch.from_numpy(ranks / max(int(ranks.max(initial=0)), 1))


def _ranked(labels: Tensor, scores: Tensor, *, prefix: str) -> Values:
    """AUROC and average precision, averaged over the columns of [N, C] for which both are defined."""
    from torchmetrics.functional import classification

    auroc, average_precision = [], []
    for truth, score in zip(labels.T, scores.T, strict=True):
        if 0 < int(truth.sum()) < len(truth):
            auroc.append(float(classification.binary_auroc(score, truth)))
            average_precision.append(float(classification.binary_average_precision(score, truth)))
    yield f"{prefix}auroc", float(np.mean(auroc)) if auroc else _NAN
    yield f"{prefix}average_precision", float(np.mean(average_precision)) if average_precision else _NAN


def _regression(predictions: TaskPredictions) -> Values:
    from torchmetrics.functional import mean_absolute_error, mean_squared_error

    labels, values = predictions.labels, np.asarray(predictions.probabilities, np.float64)
    truth, guess = torch.from_numpy(labels), torch.from_numpy(values)
    yield "mae", float(mean_absolute_error(guess, truth)) if len(labels) else _NAN
    yield "rmse", float(mean_squared_error(guess, truth, squared=False)) if len(labels) else _NAN
    yield "pearson", _correlation(values, labels)
    # torchmetrics' own spearman sums ranks in int32, which overflows on many ties; ranks first, then its pearson
    yield "spearman", _correlation(average_ranks(values), average_ranks(labels))


def _correlation(first: Floats, second: Floats) -> float:
    from torchmetrics.functional import pearson_corrcoef

    if is_constant(first) or is_constant(second):
        return _NAN
    # standardized before: torchmetrics calls a small variance zero and warns
    a, b = ((values - np.mean(values)) / np.std(values) for values in (first, second))
    return float(pearson_corrcoef(torch.from_numpy(a), torch.from_numpy(b)))


def loss_statistics(losses: Floats) -> Values:
    """(name, value) over the per-sample losses [N] of a split: mean (`loss`), spread and quantiles; NaN where N is 0.

    `loss_std` is the deviation of these very losses (divided by N); `loss_cv` is it over the mean, NaN for a mean of 0.
    """
    values = np.asarray(losses, np.float64)
    mean, std = (float(values.mean()), float(values.std())) if len(values) else (_NAN, _NAN)
    yield "loss", mean
    yield "loss_std", std
    yield "loss_cv", std / mean if mean else _NAN
    for percent in (5, 25, 50, 75, 95):
        yield f"loss_q{percent:02d}", float(np.quantile(values, percent / 100)) if len(values) else _NAN
