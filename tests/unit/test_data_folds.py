"""Folds of a store: every sample of train and val in one, groups whole, classes spread, and files that say otherwise."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmtrain.data.folds import assign_folds, fold_splits, read_folds, read_origin, strata, write_folds
from mmtrain.data.schema import TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError

KINDS = {
    "binary": TaskSchema(kind="binary"),
    "multiclass": TaskSchema(kind="multiclass", classes=("a", "b", "c")),
    "multilabel": TaskSchema(kind="multilabel", classes=("a", "b")),
    "regression": TaskSchema(kind="regression"),
}
VALUES = {
    "binary": st.integers(0, 1),
    "multiclass": st.integers(0, 2),
    "multilabel": st.lists(st.integers(0, 1), min_size=2, max_size=2),
    "regression": st.floats(-3, 3, width=32),
}


def make(folder, rows, kind="binary"):
    """A store of (split, group, label or None) rows."""
    with StoreWriter(folder, name="clips", modalities={}, tasks={"task": KINDS[kind]}, overwrite=True) as writer:
        for number, (split, group, label) in enumerate(rows):
            labels = {} if label is None else {"task": label}
            writer.add(id=f"s{number}", split=split, group=group, text="x", labels=labels)
    return FeatureStore(folder)


@st.composite
def stores(draw):
    kind = draw(st.sampled_from(sorted(KINDS)))
    groups = [f"g{number}" for number in range(draw(st.integers(3, 12)))]
    side = {group: draw(st.sampled_from(["train", "train", "val", "test"])) for group in groups}
    row = st.tuples(st.sampled_from(groups), st.one_of(st.none(), VALUES[kind]))
    rows = draw(st.lists(row, min_size=8, max_size=60))
    return kind, [(side[group], group, label) for group, label in rows]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stores(), st.integers(2, 4), st.integers(0, 9))
def test_every_sample_validates_once_and_groups_stay_whole(tmp_path, drawn, num_folds, seed):
    kind, rows = drawn
    store = make(tmp_path / "store", rows, kind)
    pooled = {group for split, group, _ in rows if split != "test"}
    if len(pooled) < num_folds:
        with pytest.raises(ConfigError, match=rf"--folds {num_folds}: .* has {len(pooled)} groups in train and val"):
            assign_folds(store, task="task", num_folds=num_folds, seed=seed)
        return
    folds = assign_folds(store, task="task", num_folds=num_folds, seed=seed)
    assert sorted(set(folds[folds > 0].tolist())) == list(range(1, num_folds + 1))
    times = np.zeros(len(rows), int)
    for number in range(1, num_folds + 1):
        view = FeatureStore(store.path, splits=fold_splits(store, folds, number))
        sides = {split: {rows[index][1] for index in view.split(split)} for split in ("train", "val")}
        assert not sides["train"] & sides["val"]
        assert view.split("test").tolist() == store.split("test").tolist()
        times[view.split("val")] += 1
        assert len(view.split("train")) + len(view.split("val")) + len(view.split("test")) == len(rows)
    assert times.tolist() == [int(split != "test") for split, *_ in rows]


def test_classes_are_spread(tmp_path):
    """60 samples of a class, 30 of another, 10 without label, each its own group: fifths of each in every fold."""
    labels = [0] * 60 + [1] * 30 + [None] * 10
    store = make(tmp_path / "s", [("val" if n % 4 else "train", f"g{n}", label) for n, label in enumerate(labels)])
    folds = assign_folds(store, task="task", num_folds=5, seed=0)
    for number in range(1, 6):
        members = [labels[index] for index in np.flatnonzero(folds == number)]
        assert (members.count(0), members.count(1), members.count(None)) == (12, 6, 2)


def test_a_regression_is_spread_by_quantiles(tmp_path):
    """40 labels 0 .. 39 in 5 folds: 4 bins of ten, so two of each ten in every fold."""
    store = make(tmp_path / "s", [("train", f"g{n}", float(n)) for n in range(40)], "regression")
    assert strata(store, "task", 5).tolist() == [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10
    folds = assign_folds(store, task="task", num_folds=5, seed=0)
    for number in range(1, 6):
        assert np.bincount(np.flatnonzero(folds == number) // 10).tolist() == [2, 2, 2, 2]


def test_a_pure_function_of_seed_and_fingerprint(tmp_path):
    rows = [("train", f"g{n}", n % 2) for n in range(40)]
    store = make(tmp_path / "one", rows)
    folds = assign_folds(store, task="task", num_folds=4, seed=1)
    again = assign_folds(FeatureStore(store.path), task="task", num_folds=4, seed=1)
    assert folds.tolist() == again.tolist()
    assert folds.tolist() != assign_folds(store, task="task", num_folds=4, seed=2).tolist()
    other = make(tmp_path / "two", [*rows, ("test", "t", 1)])
    assert folds.tolist() != assign_folds(other, task="task", num_folds=4, seed=1).tolist()[:40]


def test_rare_classes_neither_warn_nor_stop(tmp_path):
    """One sample of class 1, one of class 2; and no class as frequent as there are folds."""
    lone = make(tmp_path / "a", [("train", f"g{n}", {0: 1, 1: 2}.get(n, 0)) for n in range(12)], "multiclass")
    assert np.bincount(assign_folds(lone, task="task", num_folds=4, seed=0)).tolist() == [0, 3, 3, 3, 3]
    rare = make(tmp_path / "b", [("train", f"g{n}", n % 3) for n in range(6)], "multiclass")
    assert np.bincount(assign_folds(rare, task="task", num_folds=3, seed=0)).tolist() == [0, 2, 2, 2]


def test_the_fold_is_part_of_the_fingerprint(tmp_path):
    store = make(tmp_path / "s", [("train", f"g{n}", n % 2) for n in range(8)])
    folds = assign_folds(store, task="task", num_folds=2, seed=0)
    seen = [FeatureStore(store.path, splits=fold_splits(store, folds, number)).fingerprint for number in (1, 2)]
    assert len({store.fingerprint, *seen}) == 3


def test_files_come_back_and_are_checked(tmp_path):
    store = make(tmp_path / "s", [("train", "a", 0), ("val", "b", 1), ("test", "c", 1)])
    file = tmp_path / "folds.parquet"
    write_folds(file, store, np.array([2, 1, 0]), origin="seed 7")
    assert pq.read_table(file).to_pydict() == {"id": ["s0", "s1"], "fold": [2, 1]}
    assert (read_folds(file, store).tolist(), read_origin(file)) == ([2, 1, 0], "seed 7")
    assert fold_splits(store, np.array([2, 1, 0]), 2) == ["val", "train", "test"]
    with pytest.raises(DataError, match=r"fold 3 of store 'clips' \(.*\) has no samples, or is the only one"):
        fold_splits(store, np.array([2, 1, 0]), 3)
    wrong = [
        ({"id": ["s0"], "fold": [1]}, "sample 's1' of store 'clips' .* has no fold"),
        ({"id": ["s0", "s1", "s2"], "fold": [1, 2, 1]}, "sample 's2' .* is no sample of train or val"),
        ({"id": ["s0", "x"], "fold": [1, 2]}, "id 'x' is no sample of store 'clips'; every sample of train and val stands"),
        ({"id": ["s0", "s0"], "fold": [1, 2]}, "id 's0' has fold 2, or two"),
        ({"id": ["s0", "s1"], "fold": [1, 0]}, "id 's1' has fold 0"),
        ({"id": ["s0", "s1"]}, "no file of folds with the columns id and fold"),
    ]
    for columns, message in wrong:
        pq.write_table(pa.table(columns), file)
        with pytest.raises(DataError, match=message):
            read_folds(file, store)
    with pytest.raises(DataError, match=r"none.parquet is missing: the file of folds"):
        read_folds(tmp_path / "none.parquet", store)
