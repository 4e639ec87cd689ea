"""`stats`: what numpy says in float64, in pieces of any size; and rows normalized by it, from the store to the stream."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from data_prep import stats
from data_prep.stats import measure_store
from mmtrain.data import moments
from mmtrain.data.check import check_store
from mmtrain.data.dataset import Stream
from mmtrain.data.info import describe_store, print_info
from mmtrain.data.moments import measure, train_moments
from mmtrain.data.normalize import Normalizer
from mmtrain.data.schema import FeatureSpec, Statistics, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError

SPLITS = ("train", "val", "train", "test", "train", "train")


def _write(path, *, shard_bytes=1 << 20, dtype="float32", splits=SPLITS):
    """Six samples of 0 .. 5 rows of audio [T, 3], whose last dimension does not vary, and one picture each."""
    random = np.random.default_rng(3)
    modalities = {"audio": FeatureSpec(dim=3, dtype=dtype), "image": FeatureSpec.pixels(2, 2), "late": FeatureSpec(dim=1)}
    tasks = {"funny": TaskSchema(kind="binary")}
    with StoreWriter(path, name="clips", modalities=modalities, tasks=tasks, shard_bytes=shard_bytes) as writer:
        for index, split in enumerate(splits):
            rows = random.normal((1000, -3, 0.1), (0.5, 2, 0), (index, 3))
            features = {"audio": rows, "image": random.integers(0, 256, (1, 3, 2, 2), np.uint8)}
            if split == "val":
                features["late"] = np.ones((1, 1))
            writer.add(id=f"s{index}", split=split, group=f"g{index}", text="hi", features=features, labels={"funny": 1})
    return path


def _train_rows(path) -> np.ndarray:
    store = FeatureStore(path)
    return np.concatenate([store.stored_rows("audio", index) for index in store.split("train")]).astype(np.float64)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7), max_size=8), st.integers(0, 99), st.sampled_from([0.0, 1e6]))
def test_pieces_of_any_size_give_the_moments_of_the_whole(sizes, seed, far):
    random = np.random.default_rng(seed)
    pieces = [(random.standard_normal((size, 4)) + far).astype(np.float32) for size in sizes]
    found = measure(pieces, 4)
    whole = np.concatenate([np.empty((0, 4)), *pieces]).astype(np.float64)
    assert found.rows == len(whole)
    if len(whole):
        np.testing.assert_allclose(found.mean, whole.mean(axis=0), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.squares / found.rows, whole.var(axis=0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("piece_bytes", [1, 30, 1 << 20])
@pytest.mark.parametrize("shard_bytes", [30, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_only_train_counts_whatever_the_files(tmp_path, monkeypatch, piece_bytes, shard_bytes, dtype):
    monkeypatch.setattr(moments, "_PIECE_BYTES", piece_bytes)
    path = _write(tmp_path / "store", shard_bytes=shard_bytes, dtype=dtype)
    rows = _train_rows(path)
    assert len(rows) == 0 + 2 + 4 + 5
    measure_store(path, out=tmp_path / "new", normalize=True)
    found = FeatureStore(tmp_path / "new").schema.modalities["audio"].statistics
    assert (found.rows, found.normalize) == (11, True)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, rows.std(axis=0), rtol=1e-9)
    assert found.deviation[2] == 0
    assert check_store(tmp_path / "new") == []


def test_rows_are_normalized_on_the_way_to_the_stream(tmp_path):
    path = _write(tmp_path / "store")
    rows = _train_rows(path)
    lines = measure_store(path, out=tmp_path / "new", normalize=True)
    store = FeatureStore(tmp_path / "new")
    stream = Stream("clips", store, split="test", tasks=["funny"], modalities=["audio", "image"])
    sample = stream.sample(0)
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    expected = (store.stored_rows("audio", 3).astype(np.float64) - mean) / [deviation[0], deviation[1], 1]
    assert sample.features["audio"].dtype == np.float32
    np.testing.assert_allclose(sample.features["audio"], expected, rtol=1e-6, atol=1e-7)
    assert (sample.features["audio"][:, 2] == 0).all()
    assert sample.features["image"].dtype == np.uint8
    assert store.rows("late", 1).tolist() == [[1.0]]
    assert store.rows("audio", 0).shape == (0, 3)
    together = np.concatenate([store.rows("audio", index) for index in store.split("train")]).astype(np.float64)
    np.testing.assert_allclose(together[:, :2].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(together[:, :2].std(axis=0), 1, atol=1e-6)
    assert lines[0].startswith("audio: 11 rows of train, 3 dimensions, mean -")
    assert lines[0].endswith(", 1 that do not vary (centered, not scaled)")
    assert lines[1:] == ["image: pixels, left as they are", "late: no rows in train, left as it is"]


def test_statistics_that_are_not_applied_change_no_row(tmp_path):
    path = _write(tmp_path / "store")
    measure_store(path, out=tmp_path / "new")
    old, new = FeatureStore(path), FeatureStore(tmp_path / "new")
    assert new.rows("audio", 4).tobytes() == old.rows("audio", 4).tobytes()
    assert new.rows("audio", 4).tobytes() == new.stored_rows("audio", 4).tobytes()


def test_the_store_that_is_read_stays_and_fingerprints_differ(tmp_path):
    path = _write(tmp_path / "store")
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    assert b"statistics" not in before["dataset.json"]  # a store without is what it was before there were any
    measure_store(path, out=tmp_path / "plain")
    measure_store(path, out=tmp_path / "normalized", normalize=True)
    prints = {FeatureStore(tmp_path / name).fingerprint for name in ("store", "plain", "normalized")}
    assert len(prints) == 3
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    source = FeatureStore(tmp_path / "plain").schema.provenance["sources"][0]
    assert source["fingerprint"] == FeatureStore(path).fingerprint


def test_data_files_are_shared_or_copied_and_outlive_the_old_store(tmp_path, monkeypatch):
    path = _write(tmp_path / "store")
    measure_store(path, out=tmp_path / "linked", normalize=True)
    assert (tmp_path / "linked" / "audio.safetensors").samefile(path / "audio.safetensors")

    def refuse(*_: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    measure_store(path, out=tmp_path / "copied", normalize=True)
    assert not (tmp_path / "copied" / "audio.safetensors").samefile(path / "audio.safetensors")
    shutil.rmtree(path)
    assert check_store(tmp_path / "linked") == check_store(tmp_path / "copied") == []


def test_nothing_is_left_of_a_store_that_could_not_be_finished(tmp_path, monkeypatch):
    path = _write(tmp_path / "store")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stats, "publish", refuse)
    with pytest.raises(OSError, match="No space left"):
        measure_store(path, out=tmp_path / "new")
    (path / "image.safetensors").rename(tmp_path / "elsewhere")
    (path / "image.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"image\.safetensors is not a plain file inside the store"):
        measure_store(path, out=tmp_path / "new")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["elsewhere", "store"]


def test_a_deviation_below_the_resolution_of_float32_is_none():
    told = Statistics(rows=9, mean=(1000.0, 0.0, 1.0), deviation=(1e-5, 1e-39, 1e-5), normalize=True)
    rows = np.array([[1001, 2, 1.00001]], np.float32)
    normalized = Normalizer(told)(rows)
    assert normalized[0, :2].tolist() == [1.0, 2.0]
    assert normalized[0, 2] == pytest.approx((float(rows[0, 2]) - 1) / 1e-5)


def test_what_does_not_fit_float32_is_inf_without_a_warning():
    told = Statistics(rows=1, mean=(0.0,), deviation=(1e-30,), normalize=True)
    assert Normalizer(told)(np.array([[3e38]], np.float32)).tolist() == [[np.inf]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 10}, "column 'audio': statistics of 10 rows are recorded, train has 11: measure again by"),
        (
            {"mean": [1000.5, -3, 0.1]},
            r"dimension 0: mean 1000.5 is recorded, that of train is \d+\.\d+ \(3 dimensions differ",
        ),
        ({"deviation": [0.5, 2, 0.25]}, r"dimension 0: deviation 0.5 is recorded, that of train is"),
        ({"mean": [1.0]}, "statistics of 1 means and 3 deviations; 3 of each were expected, of pixels none"),
        ({"deviation": [1.0, 1.0, -1.0]}, "greater than or equal to 0"),
    ],
)
def test_statistics_that_are_not_those_of_train_are_defects(tmp_path, changes, message):
    measure_store(_write(tmp_path / "store"), out=tmp_path / "new", normalize=True)
    file = tmp_path / "new" / "dataset.json"
    schema = json.loads(file.read_text())
    schema["modalities"]["audio"]["statistics"] |= changes
    file.write_text(json.dumps(schema))
    (line,) = check_store(tmp_path / "new")
    assert re.search(message, line), line


def test_info_says_what_is_done_to_the_rows(tmp_path):
    path = _write(tmp_path / "store")
    measure_store(path, out=tmp_path / "plain")
    measure_store(path, out=tmp_path / "normalized", normalize=True)
    assert describe_store(path).statistics == {}
    for name, words in (("plain", "statistics recorded, not applied"), ("normalized", "normalized when read")):
        with (tmp_path / f"{name}.txt").open("w") as file:
            print_info(tmp_path / name, Console(file=file, width=200))
        assert f"audio: {words} (11 rows of train)\n" in (tmp_path / f"{name}.txt").read_text()


def test_what_cannot_be_measured_is_said(tmp_path):
    path = _write(tmp_path / "store")
    with pytest.raises(ConfigError, match="--normalize: the store itself stays as it is; name the folder of a new one by"):
        measure_store(path, normalize=True)
    none = _write(tmp_path / "none", splits=("val", "test"))
    with pytest.raises(DataError, match="has no features in train to measure"):
        measure_store(none)
    content = bytearray((path / "audio.safetensors").read_bytes())
    content[512:516] = np.float32(np.nan).tobytes()  # of sample s1, in val
    (path / "audio.safetensors").write_bytes(content)
    assert len(measure_store(path)) == 3
    content[512 + 12 : 512 + 16] = np.float32(np.inf).tobytes()  # of sample s2, in train
    (path / "audio.safetensors").write_bytes(content)
    with pytest.raises(DataError, match=r"NaN or Inf in audio of train; `mmtrain data check .*` names the samples"):
        measure_store(path)
    content[-8:] = (9).to_bytes(8, "little")
    (path / "audio.safetensors").write_bytes(content)
    store = FeatureStore(path)
    with pytest.raises(DataError, match=r"audio\.safetensors: offsets out of order; `mmtrain data check"):
        train_moments(path, "audio", store.schema.modalities["audio"], np.ones(6, bool))
