"""Metrics of a split, by kind of task, from torchmetrics; what is undefined is NaN, never 0 and never a warning.

docs/metrics.md defines each, and says where it is NaN. Predictions that are NaN are refused, not scored.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from mmtrain.data.schema import TaskKind
from mmtrain.evaluation.conventions import CONVENTIONS
from mmtrain.evaluation.correlation import mean_absolute_error, pearson_correlation
from mmtrain.evaluation.predictions import Floats, TaskPredictions, no_predictions
from mmtrain.evaluation.ranking import average_ranks

Values = Iterator[tuple[str, float]]
_LOWER = ("mae", "rmse", "hamming_distance", "median_rank", "_loss", "alignment", "uniformity")
LOSS_STATISTICS = ("loss", "loss_std", "loss_cv", *(f"loss_q{percent:02d}" for percent in (5, 25, 50, 75, 95)))
_NAN = math.nan
_BOUNDS = (  # how names end, and what such a metric can be at least and at most
    (("clipped_mae",), (0.0, 2.0)),
    ((*LOSS_STATISTICS, "_loss", "mae", "rmse"), (0.0, math.inf)),
    (("median_rank",), (1.0, math.inf)),
    (("alignment",), (0.0, 4.0)),
    (("uniformity",), (-8.0, 0.0)),  # vectors of length 1: log exp(-2 * 4)
    (("mcc", "pearson", "spearman"), (-1.0, 1.0)),
    (("accuracy", "precision", "recall", "f1", "auroc", "exact_match", "hamming_distance"), (0.0, 1.0)),
    (("recall@1", "recall@5", "recall@10", "has0", "non0", "acc2", "acc3", "acc5", "acc7"), (0.0, 1.0)),
)


def is_lower_better(name: str) -> bool:
    """Of a metric's own name, such as `mae`, `loss_q95`, `text_to_audio_median_rank` or `audio_loss`."""
    return name.startswith("loss") or name.endswith(_LOWER)


def metric_bounds(name: str) -> tuple[float, float]:
    """What a metric of this own name, such as `macro_f1`, can be at least and at most; infinite where nothing is known."""
    return next((bounds for endings, bounds in _BOUNDS if name.endswith(endings)), (-math.inf, math.inf))


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


def metric_names(kind: TaskKind, convention: str | None = None) -> list[str]:
    """Of every metric of a kind, in order."""
    return [name for name, _ in metrics(no_predictions(kind, convention=convention))]


def predicted_classes(predictions: TaskPredictions) -> Tensor:
    """int64 [N] (binary: probability above the threshold; multiclass: the most probable), multilabel [N, C] of 0 and 1."""
    if predictions.kind == "multiclass":
        return torch.from_numpy(np.asarray(predictions.probabilities, np.float64)).argmax(dim=1)
    return torch.from_numpy(predictions.is_called).long()


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
    """What averages over classes, or is of all of them."""
    from torchmetrics.functional import classification

    defined = len(labels) > 0 and bool((labels != labels[0]).any())
    recalls = classification.multiclass_recall(chosen, labels, num_classes, average="none") if defined else None
    yield "balanced_accuracy", _NAN if recalls is None else float(recalls[np.unique(labels.numpy())].mean())
    yield "mcc", _mcc(chosen, labels, num_classes) if defined else _NAN
    for name, metric in (
        ("macro_precision", classification.multiclass_precision),
        ("macro_recall", classification.multiclass_recall),
        ("macro_f1", classification.multiclass_f1_score),
    ):
        yield name, float(metric(chosen, labels, num_classes=num_classes, average="macro")) if defined else _NAN


def _mcc(chosen: Tensor, labels: Tensor, num_classes: int) -> float:
    """0 where one class is called throughout, for which torchmetrics has a rule of its own in the binary case."""
    from torchmetrics.functional.classification import multiclass_matthews_corrcoef

    varies = bool((chosen != chosen[0]).any())
    return float(multiclass_matthews_corrcoef(chosen, labels, num_classes)) if varies else 0.0


def _multilabel(predictions: TaskPredictions) -> Values:
    from torchmetrics.functional import classification

    chosen, labels = predicted_classes(predictions), torch.from_numpy(predictions.labels).long()
    num_labels, count = len(predictions.classes), len(labels)
    any_pair, occurs = bool((chosen | labels).any()), (chosen | labels).any(dim=0)
    for name, metric in (
        ("precision", classification.multilabel_precision),
        ("recall", classification.multilabel_recall),
        ("f1", classification.multilabel_f1_score),
    ):
        scores = metric(chosen, labels, num_labels, average="none")[occurs] if any_pair else None
        yield f"macro_{name}", _NAN if scores is None else float(scores.mean())
        yield f"micro_{name}", float(metric(chosen, labels, num_labels, average="micro")) if any_pair else _NAN
    pairs = [(called, truth) for called, truth in zip(chosen.T, labels.T, strict=True) if 0 < int(truth.sum()) < count]
    recalls = [classification.multiclass_recall(*pair, 2, average="macro") for pair in pairs]
    yield "macro_balanced_accuracy", float(np.mean(recalls)) if pairs else _NAN
    yield "macro_mcc", float(np.mean([_mcc(*pair, 2) for pair in pairs])) if pairs else _NAN
    yield "exact_match", float(classification.multilabel_exact_match(chosen, labels, num_labels)) if count else _NAN
    distance = classification.multilabel_hamming_distance
    yield "hamming_distance", float(distance(chosen, labels, num_labels, average="micro")) if count else _NAN
    yield from _ranked(labels, _scores(predictions), prefix="macro_")
    yield from _ranked(labels.reshape(-1, 1), _scores(predictions).reshape(-1, 1), prefix="micro_")


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
    from torchmetrics.functional import mean_squared_error

    labels, values = predictions.labels, np.asarray(predictions.probabilities, np.float64)
    truth, guess = torch.from_numpy(labels), torch.from_numpy(values)
    yield "mae", mean_absolute_error(values, labels)
    yield "rmse", float(mean_squared_error(guess, truth, squared=False)) if len(labels) else _NAN
    yield "pearson", pearson_correlation(values, labels)
    # torchmetrics' own spearman sums ranks in int32, which overflows on many ties; ranks first, then its pearson
    yield "spearman", pearson_correlation(average_ranks(values), average_ranks(labels))
    if predictions.convention is not None:
        convention = CONVENTIONS[predictions.convention]()
        for name in convention.names:
            yield name, convention.value(name, values, labels)


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
