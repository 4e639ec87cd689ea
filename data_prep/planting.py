"""The hidden answers of a synthetic task: labels, what rows and words tell of them, and labels that are wrong."""

import zlib
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mmtrain.data.sample_row import Label
from mmtrain.data.schema import TaskKind, TaskSchema
from mmtrain.errors import DataError

_CLASSES = ("first", "second", "third")


@dataclass(frozen=True)
class Planted:
    """One task's hidden answers: labels, their code in the feature rows [N, K] and whose words the text holds [N, W]."""

    schema: TaskSchema
    labels: list[Label]
    codes: npt.NDArray[np.float64]
    bins: npt.NDArray[np.bool_]


def plant(random: np.random.Generator, kind: TaskKind, sides: npt.NDArray[np.str_], share: float | None) -> Planted:
    """Draw the answers of one task, as evenly as its rates allow within each split.

    `share`: of positives (binary; each class of multilabel, 0.5 each by default), or of the first of three classes
    (multiclass, a third). Errors: DataError where a regression task has one.
    """
    if kind == "regression":
        if share is not None:
            raise DataError("synth: a regression task has no imbalance; leave it out for that task")
        scores = np.array([round(NormalDist().inv_cdf(value), 6) for value in _even(random, sides)], dtype=np.float64)
        thirds = np.digitize(scores, [-0.43, 0.43])
        return Planted(TaskSchema(kind=kind), scores.tolist(), scores[:, None], np.eye(3, dtype=bool)[thirds])
    if kind == "multiclass":
        first = 1 / 3 if share is None else share
        classes = np.digitize(_even(random, sides), [first, (1 + first) / 2])
        one_hot = np.eye(3, dtype=bool)[classes]
        return Planted(TaskSchema(kind=kind, classes=_CLASSES), classes.tolist(), 2.0 * one_hot.astype(np.float64), one_hot)
    positive = 0.5 if share is None else share
    if kind == "multilabel":
        flags = np.stack([_even(random, sides) < positive for _ in _CLASSES], axis=1)
        return Planted(
            TaskSchema(kind=kind, classes=_CLASSES), flags.astype(int).tolist(), 2.0 * flags.astype(np.float64) - 1, flags
        )
    if kind != "binary":
        raise DataError(f"synth: task kind '{kind}' is unknown; write binary, multiclass, multilabel or regression")
    answers = (_even(random, sides) < positive)[:, None]
    codes = 2.0 * answers.astype(np.float64) - 1
    return Planted(TaskSchema(kind=kind), answers[:, 0].astype(int).tolist(), codes, np.hstack([~answers, answers]))


def _even(random: np.random.Generator, sides: npt.NDArray[np.str_]) -> npt.NDArray[np.float64]:
    """Numbers in (0, 1), [N], evenly spaced within each split, in random order."""
    values = np.empty(len(sides))
    for side in dict.fromkeys(sides.tolist()):
        members = np.flatnonzero(sides == side)
        values[members] = (random.permutation(len(members)) + 0.5) / len(members)
    return values


def with_noise(planted: Planted, noise: float, *, seed: int, task: str) -> Planted:
    """The same with a share of its labels wrong; what rows and words tell stays true.

    A wrong binary answer, or flag of a multilabel one, is the other one; a wrong class is one of the other two; a wrong
    number is that of the standard normal distribution anew. Drawn from numbers of their own, so that nothing else changes.
    """
    if not noise:
        return planted
    random = np.random.default_rng([seed, zlib.crc32(task.encode())])
    values = np.array(planted.labels)
    wrong = random.random(values.shape) < noise
    others: npt.NDArray[np.number]
    if planted.schema.kind == "regression":
        others = random.standard_normal(values.shape).round(6)
    elif planted.schema.kind == "multiclass":
        others = (values + random.integers(1, len(_CLASSES), values.shape)) % len(_CLASSES)
    else:
        others = 1 - values
    return replace(planted, labels=np.where(wrong, others, values).tolist())
