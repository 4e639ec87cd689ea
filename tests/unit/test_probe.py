"""The linear probe: what it pools, what it reports, what it refuses."""

import numpy as np
import pytest

from data_prep.synth import synthesize
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError
from mmtrain.evaluation.probe import pooled_rows, probe


def test_pooled_rows_by_hand(tmp_path):
    with StoreWriter(tmp_path / "s", name="s", modalities={"audio": FeatureSpec(dim=2)}) as writer:
        writer.add(id="a", split="train", group="g", features={"audio": np.array([[1.0, 0.0], [3.0, 0.0]])})
        writer.add(id="b", split="train", group="g")
    pooled = pooled_rows(FeatureStore(tmp_path / "s"), "audio", np.array([0, 1]))
    assert pooled.tolist() == [[2.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_a_planted_signal_is_found_and_its_absence_is_not(tmp_path):
    for name, signal in (("loud", 3.0), ("silent", 0.0)):
        synthesize(
            tmp_path / name,
            samples=600,
            modalities={"audio": 8},
            tasks={"funny": "binary"},
            signal=signal,
            missing=0.0,
            unlabelled=0.0,
            seed=1,
        )
    loud, silent = probe(tmp_path / "loud", "funny", "audio"), probe(tmp_path / "silent", "funny", "audio")
    assert loud.accuracy > loud.majority + 0.1
    assert loud.num_scored == len(FeatureStore(tmp_path / "loud").split("val"))
    tested = probe(tmp_path / "loud", "funny", "audio", split="test")
    assert tested.num_scored == len(FeatureStore(tmp_path / "loud").split("test"))
    assert silent.accuracy <= silent.majority + 0.05
    assert loud.num_train + loud.num_scored < 600


def test_what_a_probe_cannot_read_is_refused(tmp_path):
    synthesize(tmp_path / "s", samples=60, modalities={"audio": 4}, tasks={"mood": "regression", "funny": "binary"}, seed=0)
    with pytest.raises(DataError, match="'mood' is a regression task"):
        probe(tmp_path / "s", "mood", "audio")
    with pytest.raises(DataError, match="has no modality 'vidoe'; it has audio"):
        probe(tmp_path / "s", "funny", "vidoe")
    with StoreWriter(
        tmp_path / "one", name="one", modalities={"audio": FeatureSpec(dim=1)}, tasks={"t": TaskSchema(kind="binary")}
    ) as writer:
        writer.add(id="a", split="train", group="g", labels={"t": 1}, features={"audio": np.ones((1, 1))})
    with pytest.raises(DataError, match="needs two classes in train"):
        probe(tmp_path / "one", "t", "audio")
