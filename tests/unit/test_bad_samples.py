"""Samples whose rows cannot be learned from: found in pieces, left out of every split, part of the fingerprint."""

import json
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mmtrain.data import bad_samples
from mmtrain.data.bad_samples import bad_sample_notes, bad_sample_records, find_bad_samples, rows_not_finite
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

SPLITS = ("train", "train", "val", "test", "train", "val", "train", "train")
ROWS = (2, 0, 3, 1, 4, 2, 1, 2)  # of each sample


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Eight samples of one number a row, in two files."""
    path = tmp_path / "store"
    specs = {"audio": FeatureSpec(dim=2, dtype="float16")}
    with StoreWriter(path, name="s", modalities=specs, tasks={"t": TaskSchema(kind="binary")}, shard_bytes=40) as writer:
        for number, (split, rows) in enumerate(zip(SPLITS, ROWS, strict=True)):
            features = {"audio": np.ones((rows, 2))} if rows else {}
            writer.add(
                id=f"c{number}", split=split, group=f"g{number}", text="x", features=features, labels={"t": number % 2}
            )
    return path


def poke(path: Path, sample: int, row: int, value: float) -> None:
    """Overwrite the second number of a sample's row in its file."""
    schema = FeatureStore(path).schema.modalities["audio"]
    shard = next(shard for shard in schema.shards if shard.first <= sample < shard.first + shard.samples)
    _overwrite(path / shard.file, "values", (sum(ROWS[shard.first : sample]) + row) * 4 + 2, struct.pack("<e", value))


def _overwrite(file: Path, array: str, at: int, data: bytes) -> None:
    content = bytearray(file.read_bytes())
    length = int.from_bytes(content[:8], "little")
    begin = 8 + length + json.loads(content[8 : 8 + length])[array]["data_offsets"][0] + at
    content[begin : begin + len(data)] = data
    file.write_bytes(content)


def found(path: Path) -> dict[int, str]:
    store = FeatureStore(path)
    schema = store.schema.modalities["audio"]
    assert len(schema.shards) > 1, "or the files' first samples are not tested"
    each = [find_bad_samples(store, "audio", schema, shard) for shard in schema.shards]
    return {index: what for part in each for index, what in part.items()}


@pytest.mark.parametrize("piece", [1, 12, 1 << 20])
def test_they_are_found_whatever_the_pieces(store: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    """The first and the last row, two rows of one sample, and none of the neighbors nor of the sample without rows."""
    monkeypatch.setattr(bad_samples, "_PIECE_BYTES", piece)
    assert found(store) == {}
    for sample, row, value in ((0, 0, np.nan), (4, 1, np.inf), (4, 3, -np.inf), (7, 1, np.nan)):
        poke(store, sample, row, value)
    assert found(store) == dict.fromkeys((0, 4, 7), "NaN or Inf in audio")


def test_offsets_that_lead_nowhere_are_found_and_their_neighbors_are_judged_by_their_rows(store: Path) -> None:
    poke(store, 0, 1, np.nan)
    shard = FeatureStore(store).schema.modalities["audio"].shards[0]
    _overwrite(store / shard.file, "offsets", 8 * 2, struct.pack("<q", 10**12))  # where sample 1 ends and 2 begins
    assert found(store) == {
        0: "NaN or Inf in audio",
        1: "offsets of audio lie outside its rows",
        2: "offsets of audio lie outside its rows",
    }


def test_they_are_in_no_split_and_in_the_fingerprint(store: Path) -> None:
    whole = FeatureStore(store)
    left = FeatureStore(store, left_out={5: "NaN or Inf in audio", 0: "NaN or Inf in audio"})
    assert whole.split("train").tolist() == [0, 1, 4, 6, 7]
    assert left.split("train").tolist() == [1, 4, 6, 7]
    assert left.split("val").tolist() == [2]
    fingerprints = {whole.fingerprint, left.fingerprint, FeatureStore(store, left_out={5: "x"}).fingerprint}
    assert len(fingerprints) == 3
    assert FeatureStore(store, left_out={}).fingerprint == whole.fingerprint
    assert FeatureStore(store, left_out={0: "x", 5: "y"}).fingerprint == left.fingerprint
    assert len(Stream("s", left, split="train", tasks=["t"], modalities=["audio"])) == 4
    assert list(bad_sample_records({"d": left, "whole": whole})) == [
        {"dataset": "d", "id": "c0", "split": "train", "found": "NaN or Inf in audio"},
        {"dataset": "d", "id": "c5", "split": "val", "found": "NaN or Inf in audio"},
    ]
    assert list(bad_sample_notes({"d": left, "whole": whole})) == [
        "warning: dataset 'd': 2 bad samples are left out (1 train, 1 val; batch.on_bad_sample: skip)"
    ]


def test_a_stream_without_any_sound_sample_says_so(store: Path) -> None:
    left = FeatureStore(store, left_out={2: "x", 5: "x", 7: "x"})
    with pytest.raises(DataError, match=r"no sample with a label for t \(0 samples in the split, without 3 bad ones of the"):
        Stream("s", left, split="val", tasks=["t"], modalities=["audio"])


def test_looking_takes_memory_for_a_piece_and_not_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.memmap(tmp_path / "values", "<f4", "w+", 0, (1_000_000, 16))
    monkeypatch.setattr(bad_samples, "_PIECE_BYTES", 1 << 20)
    tracemalloc.start()
    assert sum(len(rows) for rows in rows_not_finite(values)) == 0
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20 < values.nbytes
