"""Folds of cross-validation: which sample of a store's train and val validates in which fold, computed once and kept."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from mmtrain.data.store import FeatureStore
from mmtrain.errors import ConfigError, DataError

Folds = npt.NDArray[np.int64]
_BINS = 10  # most quantile bins of a regression label


def assign_folds(store: FeatureStore, *, task: str, num_folds: int, seed: int) -> Folds:
    """The fold 1 .. K in which each sample validates, [N]; 0 for those of test. A pure function of seed and fingerprint.

    Samples of one group are in one fold; each class of `task` (each quantile bin of a regression label, each combination of
    a multilabel one, and those without a label) is spread as evenly as that allows: scikit-learn's StratifiedGroupKFold.
    Errors: ConfigError where there are fewer groups than folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    pool = np.sort(np.concatenate([store.split("train"), store.split("val")]))
    groups = np.asarray(store.column("group").take(pa.array(pool)).to_pylist())
    num_groups = len(np.unique(groups))
    if num_groups < num_folds:
        raise ConfigError(
            f"--folds {num_folds}: store '{store.name}' ({store.path}) has {num_groups} groups in train and val, and a "
            "group stays in one fold; write fewer folds"
        )
    key = hashlib.sha256(f"{seed} {store.fingerprint}".encode()).digest()
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=int.from_bytes(key[:4], "big"))
    classes = _frequent(strata(store, task, num_folds)[pool], num_folds)
    folds = np.zeros(len(store), np.int64)
    for number, (_, members) in enumerate(splitter.split(pool, classes, groups), start=1):
        folds[pool[members]] = number
    return folds


def strata(store: FeatureStore, task: str, num_folds: int) -> npt.NDArray[np.int64]:
    """A whole number for every sample, [N], alike for samples that folds should share out evenly; 0 = unlabelled."""
    values, labelled = store.labels(task)
    codes = np.zeros(len(store), np.int64)
    if not labelled.any():
        return codes
    found = values[labelled]
    if store.task(task).kind == "regression":
        bins = min(_BINS, max(len(found) // (2 * num_folds), 1))
        edges = np.quantile(found, np.arange(1, bins) / bins)
        codes[labelled] = 1 + np.searchsorted(edges, found, side="right")
    else:
        codes[labelled] = 1 + np.unique(found, axis=0, return_inverse=True)[1].reshape(-1)
    return codes


def _frequent(codes: npt.NDArray[np.int64], num_folds: int) -> npt.NDArray[np.int64]:
    """The codes with all that occur less often than there are folds made one: so few cannot be spread."""
    numbers, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    rare = counts < num_folds
    if rare.any() and counts[rare].sum() < num_folds:  # too few even together: they join the most frequent
        numbers[rare] = numbers[counts.argmax()]
    elif rare.any():
        numbers[rare] = numbers.max() + 1
    merged: npt.NDArray[np.int64] = numbers[inverse]
    return merged


def write_folds(file: Path, store: FeatureStore, folds: Folds, *, origin: str) -> None:
    """Columns id and fold of the samples that have one. `origin`: what they were computed from, kept in the file."""
    members = np.flatnonzero(folds)
    table = pa.table({"id": store.column("id").take(pa.array(members)).combine_chunks(), "fold": folds[members]})
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    pq.write_table(table.replace_schema_metadata({"origin": origin}), partial)
    partial.replace(file)


def read_origin(file: Path) -> str:
    """What the folds in a file were computed from; empty where it does not say. Errors: DataError as in `read_folds`."""
    return ((_read(file).schema.metadata or {}).get(b"origin") or b"").decode()


def read_folds(file: Path, store: FeatureStore) -> Folds:
    """The fold of every sample, [N], 0 for those of test.

    Errors: DataError where the file cannot be read, or does not give every sample of train and val one fold.
    """
    table = _read(file)
    known = {name: index for index, name in enumerate(store.column("id").to_pylist())}
    folds = np.zeros(len(store), np.int64)
    for name, fold in zip(table["id"].to_pylist(), table["fold"].to_pylist(), strict=True):
        if name not in known or fold is None or fold < 1 or folds[known[name]]:
            fault = f"is no sample of store '{store.name}'" if name not in known else f"has fold {fold}, or two"
            raise DataError(
                f"{file}: id '{name}' {fault}; every sample of train and val stands there once, with a fold from 1"
            )
        folds[known[name]] = fold
    pooled = np.zeros(len(store), bool)
    pooled[np.concatenate([store.split("train"), store.split("val")])] = True
    if (wrong := np.flatnonzero(pooled != (folds > 0))).size:
        index = int(wrong[0])
        fault = "has no fold" if pooled[index] else "has a fold and is no sample of train or val"
        raise DataError(f"{file}: sample '{store.sample_id(index)}' of store '{store.name}' ({store.path}) {fault}")
    return folds


def fold_splits(store: FeatureStore, folds: Folds, number: int) -> list[str]:
    """The split of every sample, [N], in one fold: `number` validates, the other folds train, test stays.

    Errors: DataError where there is no such fold, or no other.
    """
    if number not in folds or len(np.unique(folds[folds > 0])) < 2:
        raise DataError(f"fold {number} of store '{store.name}' ({store.path}) has no samples, or is the only one")
    own = store.column("split").to_pylist()
    return [("val" if fold == number else "train") if fold else split for fold, split in zip(folds, own, strict=True)]


def _read(file: Path) -> pa.Table:
    try:
        return pq.read_table(file, partitioning=None, columns=["id", "fold"])
    except FileNotFoundError:
        raise DataError(f"{file} is missing: the file of folds, with the columns id and fold") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{file}: no file of folds with the columns id and fold ({error})") from None
