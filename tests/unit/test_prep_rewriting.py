"""What all commands from store to store share: the input stays, memory is flat, a new store is there whole or not at all."""

import hashlib
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.cast import cast_store
from data_prep.filtering import filter_store
from data_prep.merge import merge
from data_prep.resplit import split_store
from data_prep.stats import measure_store
from data_prep.synth import synthesize
from mmtrain.data import moments
from mmtrain.data.check import check_store
from mmtrain.data.schema import FeatureSpec
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

COMMANDS = {
    "merge": lambda path, out, **options: merge([path, path], out=out, prefix_ids=False, **options),
    "filter": lambda path, out, **options: filter_store(path, where="audio.rows >= 0", out=out, **options),
    "split": lambda path, out, **options: split_store(path, out=out, ratios=(0.8, 0.1, 0.1), **options),
    "cast": lambda path, out, **options: cast_store(path, out=out, dtype="float16", **options),
    "stats": lambda path, out, **options: measure_store(path, out=out, **options),
}
ALONE = sorted(COMMANDS.keys() - {"merge"})


@pytest.fixture
def source(tmp_path):
    tasks = {"funny": "binary", "tags": "multilabel", "mood": "regression"}
    return synthesize(tmp_path / "source", samples=40, tasks=tasks, modalities={"audio": 4, "image": (3, 2, 2)})


def _bytes(path):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.iterdir()}


@pytest.mark.parametrize("command", ALONE)
def test_the_input_stays_and_the_output_is_whole_and_repeatable(tmp_path, source, command):
    before = _bytes(source)
    for name in ("a", "b"):
        COMMANDS[command](source, tmp_path / name)
    assert _bytes(source) == before
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert check_store(tmp_path / "a") == []
    old, new = FeatureStore(source), FeatureStore(tmp_path / "a")
    assert new.schema.tasks == old.schema.tasks
    assert new.schema.licence == "CC0-1.0"
    provenance = new.schema.provenance
    assert provenance["made_by"] == f"python -m data_prep {command}"
    assert provenance["sources"][0]["provenance"]["made_by"] == "python -m data_prep synth"
    for column in ("id", "group", "text", "funny", "tags", "mood"):
        assert new.column(column).to_pylist() == old.column(column).to_pylist()
    for index in range(len(old)):
        assert new.rows("image", index).tobytes() == old.rows("image", index).tobytes()


@pytest.mark.parametrize("command", COMMANDS)
def test_an_existing_store_is_replaced_on_demand_and_never_the_one_that_is_read(tmp_path, source, command):
    run, out = COMMANDS[command], tmp_path / "out"
    synthesize(out, samples=9)
    with pytest.raises(DataError, match="exists already; choose another folder or pass --overwrite"):
        run(source, out)
    (tmp_path / "link").symlink_to(source)
    for over in (source, source / "inside", tmp_path, tmp_path / "link"):
        with pytest.raises(DataError, match=r"--out .* lies over the store that is read \(.*source\), which stays as it is"):
            run(source, over, overwrite=True)
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="is not a feature store, so it is not overwritten"):
        run(source, tmp_path / "photos", overwrite=True)
    with pytest.raises(DataError, match=r"is not a feature store: it has no dataset\.json"):
        run(tmp_path / "photos", tmp_path / "new")
    if command != "merge":
        run(source, out, overwrite=True)
        assert len(FeatureStore(out)) == 40
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link", "out", "photos", "source"]


@pytest.mark.parametrize("command", ALONE)
def test_a_damaged_table_is_named_and_leaves_nothing(tmp_path, source, command):
    file = source / "samples.parquet"
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.slice(0, 39), file)
    with pytest.raises(DataError, match=r"samples\.parquet has 39 samples, dataset\.json says 40"):
        COMMANDS[command](source, tmp_path / "out")
    pq.write_table(table.drop_columns(["funny"]), file)
    with pytest.raises(DataError, match=r"samples\.parquet lacks the column 'funny'; run `mmtrain data check"):
        COMMANDS[command](source, tmp_path / "out")
    pq.write_table(table, file)
    content = bytearray(file.read_bytes())
    content[200:900] = bytes(700)
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"samples\.parquet: not a readable parquet file"):
        COMMANDS[command](source, tmp_path / "out")
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"samples\.parquet: not a readable parquet file"):
        COMMANDS[command](source, tmp_path / "out")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_columns_of_any_type_and_empty_cells_come_over(tmp_path):
    columns = {"pace": pa.float32(), "when": pa.timestamp("us"), "words": pa.list_(pa.string()), "second_text": pa.string()}
    with StoreWriter(tmp_path / "source", name="clips", columns=columns) as writer:
        cells = {"pace": 0.1, "when": 1_700_000_000_000_000, "words": ["a", "b"], "second_text": "é"}
        writer.add(id="a", split="train", group="", text="hi", columns=cells)
        writer.add(id="b", split="train", group="g", text="ho", columns={})
    filter_store(tmp_path / "source", where="id != ''", out=tmp_path / "new")
    old, new = FeatureStore(tmp_path / "source").table, FeatureStore(tmp_path / "new").table
    assert new.equals(old)


@pytest.mark.parametrize("command", ALONE)
def test_memory_does_not_grow_with_the_rows(tmp_path, monkeypatch, command):
    monkeypatch.setattr(moments, "_PIECE_BYTES", 1 << 16)
    with StoreWriter(tmp_path / "source", name="clips", modalities={"audio": FeatureSpec(dim=256)}) as writer:
        for index in range(60):
            rows = np.full((128, 256), 1.5, np.float32)
            writer.add(id=f"s{index}", split="train", group=f"g{index}", text="hi", features={"audio": rows})
    size = (tmp_path / "source" / "audio.safetensors").stat().st_size
    COMMANDS[command](tmp_path / "source", tmp_path / "first")  # whatever is imported is not counted
    tracemalloc.start()
    try:
        COMMANDS[command](tmp_path / "source", tmp_path / "second")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size / 4
