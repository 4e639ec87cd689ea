"""Training dynamics of every training sample: the data map, and what was forgotten.

Source: Swayamdipta et al. 2020, "Dataset Cartography: Mapping and Diagnosing Datasets with Training Dynamics", section 2;
Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning", section 3. Both look at
the model as it meets a sample in training; here it is evaluated, on all samples, behind every epoch.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmtrain.errors import DataError
from mmtrain.evaluation.metrics import predicted_classes
from mmtrain.evaluation.predictions import Predictions, Strings, TaskPredictions

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TaskMap:
    """One task over its N labelled training samples, by stream and id."""

    task: str
    ids: Strings  # [N]
    streams: Strings  # [N]
    confidence: Floats  # [N] mean over epochs of the probability of what is true
    variability: Floats  # [N] its standard deviation over epochs, divided by their number
    correctness: Floats  # [N] share of epochs in which the prediction was right
    forgetting_events: Integers  # [N] epochs in which it is wrong and was right the epoch before
    first_learned: Integers  # [N] the first epoch in which it was right; 0: never
    epochs: tuple[int, ...]  # those that were looked at, counted from 1


def map_tasks(epochs: Iterable[tuple[int, Mapping[str, Predictions]]]) -> list[TaskMap]:
    """The maps of all tasks with labels but regression, from (epoch, predictions by task) in order, read one at a time.

    Errors: DataError where two epochs hold other samples, or a prediction is NaN.
    """
    numbers: list[int] = []
    names: dict[str, tuple[Strings, Strings]] = {}
    confidence: dict[str, list[Floats]] = {}
    right: dict[str, list[Bools]] = {}
    for epoch, predictions in epochs:
        items = {task: item for task, item in predictions.items() if is_mapped(item)}
        if numbers and items.keys() != names.keys():
            raise DataError(_differ(epoch, numbers[0], f"tasks ({', '.join(items) or 'none'})"))
        for task, item in items.items():
            assert isinstance(item, TaskPredictions)
            item.refuse_nonfinite()
            known = names.setdefault(task, (item.ids, item.streams))
            if not (np.array_equal(known[0], item.ids) and np.array_equal(known[1], item.streams)):
                raise DataError(_differ(epoch, numbers[0], f"samples of task '{task}'"))
            confidence.setdefault(task, []).append(true_confidence(item))
            right.setdefault(task, []).append(is_right(item))
        numbers.append(epoch)
    return [
        _task_map(task, *names[task], dynamics=(np.stack(confidence[task]), np.stack(right[task])), epochs=tuple(numbers))
        for task in names
    ]


def is_mapped(item: Predictions) -> bool:
    """Whether there is a probability of what is true: of regression and of pretext tasks there is none."""
    return isinstance(item, TaskPredictions) and item.kind != "regression"


def true_confidence(item: TaskPredictions) -> Floats:
    """[N]: the probability of the label, of a binary task p or 1 - p; of a multilabel one their mean over its labels."""
    values, labels = np.asarray(item.probabilities, np.float64), item.labels
    if item.kind == "multiclass":
        return values[np.arange(len(labels)), labels.astype(np.int64)]
    each = np.where(labels == 1, values, 1 - values)
    return each.mean(axis=1) if item.kind == "multilabel" else each


def is_right(item: TaskPredictions) -> Bools:
    """[N]: whether the prediction is the label; of a multilabel task all of them."""
    same = predicted_classes(item).numpy() == item.labels
    return np.asarray(same.all(axis=1) if item.kind == "multilabel" else same)


def _task_map(
    task: str, ids: Strings, streams: Strings, *, dynamics: tuple[Floats, Bools], epochs: tuple[int, ...]
) -> TaskMap:
    """`dynamics`: confidence and whether it is right, [E, N] each."""
    confidence, right = dynamics
    first = np.where(right.any(axis=0), np.array(epochs)[right.argmax(axis=0)], 0)
    return TaskMap(
        task=task,
        ids=ids,
        streams=streams,
        confidence=confidence.mean(axis=0),
        variability=confidence.std(axis=0),
        correctness=right.mean(axis=0),
        forgetting_events=(right[:-1] & ~right[1:]).sum(axis=0),
        first_learned=first,
        epochs=epochs,
    )


def _differ(epoch: int, first: int, what: str) -> str:
    return (
        f"predictions of epoch {epoch} hold other {what} than those of epoch {first}: they are not of one run; delete what "
        "another one left below predictions/"
    )
