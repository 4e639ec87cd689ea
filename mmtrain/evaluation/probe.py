"""A linear reading: what pooled rows of a modality, or other vectors, tell of a task, to hold a model against."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import adaptive_avg_pool2d

from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

Rows = npt.NDArray[np.float64]
_GRID = 8


@dataclass(frozen=True)
class ProbeResult:
    """Accuracy on the labelled samples of a split, and the training majority's share of them."""

    accuracy: float
    majority: float
    num_train: int
    num_scored: int


def pooled_rows(store: FeatureStore, modality: str, indices: npt.NDArray[np.int64]) -> Rows:
    """Mean and standard deviation over a sample's rows, [N, 2 D]; zeros where the modality is missing.

    Of pixels D is 3 * 8 * 8: each picture's mean colors in an 8 x 8 grid.
    """
    shape = store.schema.modalities[modality].shape
    pooled = np.zeros((len(indices), 2 * (store.schema.modalities[modality].dim if shape is None else 3 * _GRID**2)))
    for place, index in enumerate(indices):
        rows = np.asarray(store.rows(modality, int(index)), np.float64)
        if len(rows):
            rows = rows if shape is None else adaptive_avg_pool2d(torch.from_numpy(rows), _GRID).flatten(1).numpy()
            pooled[place] = np.concatenate([rows.mean(axis=0), rows.std(axis=0)])
    return pooled


def fitted_classes(train: Rows, labels: npt.NDArray[Any], rows: Rows) -> npt.NDArray[Any]:
    """The classes [n] of `rows` [n, D] by logistic regression on `train` [N, D] with `labels` [N], inputs standardized."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    classes: npt.NDArray[Any] = model.fit(train, labels).predict(rows)
    return classes


def probe(path: Path, task: str, modality: str, *, split: str = "val") -> ProbeResult:
    """Logistic regression (scikit-learn, standardized inputs) from train to `split`; samples without the modality count too.

    Errors: DataError where the store lacks the task or modality, or the task has no classes.
    """
    store = FeatureStore(path)
    if store.task(task).kind not in ("binary", "multiclass"):
        raise DataError(
            f"store '{store.name}': '{task}' is a {store.task(task).kind} task; a probe reads binary and multiclass"
        )
    if modality not in store.schema.modalities:
        known = ", ".join(store.schema.modalities) or "none"
        raise DataError(f"store '{store.name}' ({path}) has no modality '{modality}'; it has {known}")
    values, labelled = store.labels(task)
    train, scored = (indices[labelled[indices]] for indices in (store.split("train"), store.split(split)))
    if len(np.unique(values[train])) < 2 or not len(scored):
        raise DataError(f"store '{store.name}', task '{task}': needs two classes in train and a labelled {split} sample")
    called = fitted_classes(pooled_rows(store, modality, train), values[train], pooled_rows(store, modality, scored))
    classes, counts = np.unique(values[train], return_counts=True)
    return ProbeResult(
        accuracy=float(np.mean(called == values[scored])),
        majority=float(np.mean(values[scored] == classes[counts.argmax()])),
        num_train=len(train),
        num_scored=len(scored),
    )
