"""`filter` over a store: columns, rows of modalities and names of classes are those of the store."""

import pyarrow as pa
import pytest

from data_prep import rewriting
from data_prep.filtering import columns_of, filter_store
from data_prep.stats import measure_store
from data_prep.synth import synthesize
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError


def test_what_is_kept_is_what_a_loop_keeps(tmp_path, monkeypatch):
    monkeypatch.setattr(rewriting, "_PIECE", 7)  # rows of modalities are those of the sample in every piece
    path = synthesize(
        tmp_path / "source", samples=50, tasks={"funny": "binary", "topic": "multiclass", "tags": "multilabel"}
    )
    where = "(funny == 1 or topic == 'second') and audio.rows > 3 and split != 'test' and tags is not None"
    notes = filter_store(path, where=where, out=tmp_path / "new")
    old, new = FeatureStore(path), FeatureStore(tmp_path / "new")
    lengths = old.lengths("audio")
    wanted = [
        index
        for index, cells in enumerate(old.table.to_pylist())
        if (cells["funny"] == 1 or cells["topic"] == 1) and lengths[index] > 3
        if cells["split"] != "test" and cells["tags"] is not None
    ]
    assert 3 < len(wanted) < 30
    assert new.table.equals(old.table.take(pa.array(wanted)).combine_chunks())
    for place, index in enumerate(wanted):
        for modality in ("audio", "video"):
            assert new.rows(modality, place).tobytes() == old.rows(modality, index).tobytes()
    sides = [old.column("split")[index].as_py() for index in wanted]
    assert notes == [f"{len(wanted)} of 50 samples (train {sides.count('train')}, val {sides.count('val')}, test 0)"]
    assert new.schema.provenance["where"] == where


def test_every_column_is_known_with_its_kind(tmp_path):
    tasks = {"t": TaskSchema(kind="multiclass", classes=("a", "b")), "m": TaskSchema(kind="multilabel", classes=("x",))}
    columns = {
        "flag": pa.bool_(),
        "pace": pa.float32(),
        "year": pa.int16(),
        "note": pa.large_string(),
        "face.rows": pa.string(),
    }
    modalities = {"audio-2": FeatureSpec(dim=1), "face": FeatureSpec(dim=1)}
    with StoreWriter(tmp_path / "s", name="s", tasks=tasks, columns=columns, modalities=modalities) as writer:
        cells = {"flag": True, "pace": 1.5, "year": 1999, "note": "n", "face.rows": "text"}
        writer.add(id="a", split="train", group="g", text="hi", labels={"t": 1, "m": [1]}, columns=cells)
    found = columns_of(FeatureStore(tmp_path / "s"))
    texts = {"id": "text", "split": "text", "group": "text", "text": "text", "text_characters": "number"}
    further = {"flag": "truth", "pace": "number", "year": "number", "note": "text"}
    rows = {"face.rows": "number", "audio-2.rows": "number"}
    assert {name: column.kind for name, column in found.items()} == texts | {"t": "number", "m": "other"} | further | rows
    assert found["t"].classes == ("a", "b")
    where = "flag == True and pace > 1 and year == 1999 and note == 'n' and face.rows == 0 and column('audio-2.rows') == 0"
    filter_store(tmp_path / "s", where=where, out=tmp_path / "new")
    assert len(FeatureStore(tmp_path / "new")) == 1


def test_nothing_kept_and_nothing_understood_write_nothing(tmp_path):
    path = synthesize(tmp_path / "source", samples=20)
    with pytest.raises(
        DataError, match=r"--where 'audio.rows > 99' is true of none of the 20 samples of .*; no store is written"
    ):
        filter_store(path, where="audio.rows > 99", out=tmp_path / "new")
    with pytest.raises(ConfigError, match=r"unknown column 'face.rows'; the columns are id, .* audio.rows, video.rows"):
        filter_store(path, where="face.rows > 99", out=tmp_path / "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]
    measure_store(path, out=tmp_path / "measured")
    assert "are not kept" in filter_store(tmp_path / "measured", where="id != ''", out=tmp_path / "new")[1]
