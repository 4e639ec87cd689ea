"""The feature store: what was written is read back, and every bad sample or file is named."""

import errno
import gc
import json
import math
import os
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.shard_file import ShardFile
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

TASKS = {
    "funny": TaskSchema(kind="binary"),
    "topic": TaskSchema(kind="multiclass", classes=("a", "b", "c")),
    "tags": TaskSchema(kind="multilabel", classes=("x", "y")),
    "mood": TaskSchema(kind="regression"),
}
LABELS = st.fixed_dictionaries(
    {
        "funny": st.none() | st.integers(0, 1),
        "topic": st.none() | st.integers(0, 2),
        "tags": st.none() | st.lists(st.integers(0, 1), min_size=2, max_size=2),
        "mood": st.none() | st.floats(-5, 5),
    }
)


def _rows(dtype: str) -> st.SearchStrategy:
    numbers = st.floats(-100, 100, width=16 if dtype == "float16" else 32)
    return st.none() | hnp.arrays(dtype, st.tuples(st.integers(0, 4), st.just(3)), elements=numbers)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_round_trip(tmp_path_factory, dtype, data):
    """Ragged, absent and zero-length rows, over one shard or several, come back bit by bit with their labels."""
    samples = data.draw(st.lists(st.tuples(_rows(dtype), LABELS, st.text(max_size=8)), min_size=1, max_size=8))
    path = tmp_path_factory.mktemp("round") / "store"
    spec = {"audio": FeatureSpec(dim=3, dtype=dtype)}
    shard_bytes = data.draw(st.sampled_from([1, 30, 1 << 20]))
    with StoreWriter(path, name="clips", modalities=spec, tasks=TASKS, shard_bytes=shard_bytes) as writer:
        for index, (rows, labels, text) in enumerate(samples):
            features = {} if rows is None else {"audio": rows}
            writer.add(id=f"s{index}", split="train", group="g", text=text, features=features, labels=labels)
    store = FeatureStore(path)
    assert len(store) == len(samples)
    assert len(store.split("train")) == len(samples)
    decoded = {task: store.labels(task) for task in TASKS}
    for index, (rows, labels, text) in enumerate(samples):
        expected = np.empty((0, 3), dtype) if rows is None else rows
        np.testing.assert_array_equal(store.rows("audio", index), expected)
        assert store.rows("audio", index).dtype == dtype
        assert store.lengths("audio")[index] == len(expected)
        assert (store.text(index), store.sample_id(index)) == (text, f"s{index}")
        assert store.text_lengths[index] == len(text)
        for task, label in labels.items():
            values, labelled = decoded[task]
            assert labelled[index] == (label is not None)
            np.testing.assert_array_equal(values[index], 0 if label is None else label)


def _write(path: Path, count: int = 3, **options) -> Path:
    modalities = {"audio": FeatureSpec(dim=2)}
    with StoreWriter(path, name="clips", modalities=modalities, tasks=TASKS, **options) as writer:
        for index in range(count):
            rows = np.full((index + 1, 2), index, np.float32)
            writer.add(id=f"s{index}", split="train", group=f"g{index}", features={"audio": rows}, labels={"funny": 1})
    return path


def test_rows_are_not_to_be_written_to_and_shards_are_named_in_order(tmp_path):
    store = FeatureStore(_write(tmp_path / "store", shard_bytes=8))
    names = [shard.file for shard in store.schema.modalities["audio"].shards]
    assert names == [f"audio-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    rows = store.rows("audio", 2)
    assert not rows.flags.writeable


def _preadv(whole, *, answer):
    """The system's own, but for a read that may not wait, which is answered so."""

    def preadv(descriptor, buffers, place, flags=0):
        if flags and answer == "nothing in memory":
            raise BlockingIOError
        if flags and answer == "cannot tell":
            raise OSError(errno.EOPNOTSUPP, "not supported")
        if flags and answer == "a part in memory":
            return whole(descriptor, [buffers[0][: len(buffers[0]) // 2]], place)
        return whole(descriptor, buffers, place)

    return preadv


@pytest.mark.parametrize("answer", ["all in memory", "a part in memory", "nothing in memory", "cannot tell", "no such call"])
@pytest.mark.parametrize("shard_bytes", [1, 24, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_many_samples_are_read_as_one_by_one_in_any_order(tmp_path, dtype, shard_bytes, answer, monkeypatch):
    """Across files, twice the same, with samples that have no row; against the arrays that were written."""
    monkeypatch.setattr(os, "preadv", _preadv(os.preadv, answer=answer))
    if answer == "no such call":
        monkeypatch.setattr("mmtrain.data.shard_file._NO_WAIT", None)
    random = np.random.default_rng(3)
    written = [random.standard_normal((count, 3)).astype(dtype) for count in (2, 0, 5, 1, 0, 7)]
    spec = {"audio": FeatureSpec(dim=3, dtype=dtype)}
    with StoreWriter(tmp_path / "store", name="clips", modalities=spec, shard_bytes=shard_bytes) as writer:
        for index, rows in enumerate(written):
            writer.add(id=f"s{index}", split="train", group="g", features={"audio": rows})
    store = FeatureStore(tmp_path / "store")
    for indices in ([5, 0, 3, 2, 1, 4], [2, 2, 1, 2], [1], [4, 1], []):
        read = store.read(["audio"], indices)["audio"]
        assert [rows.tobytes() for rows in read.split()] == [written[i].tobytes() for i in indices]
        assert read.values.shape == (sum(len(written[i]) for i in indices), 3)
        assert read.values.dtype == dtype
        assert not read.values.flags.writeable
        chosen = np.array(indices, np.int64)
        assert store.lengths_of("audio", chosen).tolist() == [len(written[i]) for i in indices]


def test_a_file_that_is_cut_while_it_is_open_is_named(tmp_path):
    """A mapping of its rows would end the process by a signal."""
    path = _write(tmp_path / "store")
    schema = FeatureStore(path).schema.modalities["audio"]
    file = path / "audio.safetensors"
    opened = ShardFile(file, schema, schema.shards[0])
    os.truncate(file, 512 + 4 * 8)  # four of the six rows
    target = np.zeros((2, 2), np.float32)
    bytes_ = target.reshape(-1).view(np.uint8).data
    opened.read(opened.pieces(np.array([1]), [bytes_]))
    assert target.tolist() == [[1, 1], [1, 1]]
    with pytest.raises(DataError, match=rf"{file} ends at byte {512 + 4 * 8}: it was cut while it was open"):
        opened.read(opened.pieces(np.array([3]), [bytes_]))


def test_only_what_is_not_in_memory_is_announced_and_read_twice(tmp_path, monkeypatch):
    store = FeatureStore(_write(tmp_path / "store"))
    waited, announced = [], []
    whole = os.preadv

    def preadv(descriptor, buffers, place, flags=0):
        if not flags:
            waited.append((place, len(buffers[0])))
        elif place == 512:
            raise BlockingIOError
        return whole(descriptor, buffers, place)

    monkeypatch.setattr(os, "preadv", preadv)
    monkeypatch.setattr(os, "posix_fadvise", lambda *words: announced.append(words[1:3]))
    read = store.read(["audio"], [2, 0, 1])["audio"]
    assert [rows.tolist() for rows in read.split()] == [store.rows("audio", number).tolist() for number in (2, 0, 1)]
    first = (512, store.rows("audio", 0).nbytes)
    assert announced == [first]
    assert waited == [first] * 3, "by the batch, and by each of the two reads of the sample alone"


def test_an_open_store_is_read_as_it_was_when_another_takes_its_place(tmp_path):
    store = FeatureStore(_write(tmp_path / "store"))
    _write(tmp_path / "store", count=5, overwrite=True)
    assert store.rows("audio", 2).tolist() == [[2, 2]] * 3


def test_a_store_that_is_left_closes_its_files(tmp_path):
    _write(tmp_path / "store")
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    stores = [FeatureStore(tmp_path / "store") for _ in range(5)]
    assert len(os.listdir("/proc/self/fd")) > before
    del stores
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_read_that_the_system_cuts_short_goes_on(tmp_path, monkeypatch):
    """As it does beyond 2 GiB."""
    store = FeatureStore(_write(tmp_path / "store"))
    whole = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, buffers, place, *_: whole(file, [buffers[0][:5]], place))
    assert store.rows("audio", 2).tolist() == [[2, 2]] * 3


def test_safetensors_reads_our_files(tmp_path):
    from safetensors.numpy import load_file

    arrays = load_file(_write(tmp_path / "store") / "audio.safetensors")
    assert arrays["offsets"].tolist() == [0, 1, 3, 6]
    assert arrays["values"].shape == (6, 2)


def test_a_store_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(DataError), StoreWriter(tmp_path / "store", name="clips") as writer:
        writer.add(id="a", split="train", group="g", features={"face": np.zeros((1, 2))})
    assert list(tmp_path.iterdir()) == []


def test_overwriting_is_asked_for_and_spares_other_folders(tmp_path):
    path = _write(tmp_path / "store")
    with pytest.raises(DataError, match="exists already; choose another folder or pass --overwrite"):
        _write(path)
    assert len(FeatureStore(_write(path, count=5, overwrite=True))) == 5
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    (tmp_path / "photos").mkdir()
    with pytest.raises(DataError, match="is not a feature store, so it is not overwritten"):
        _write(tmp_path / "photos", overwrite=True)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"id": "s0"}, "sample id 's0' comes twice"),
        ({"features": {"face": np.zeros((1, 2))}}, "sample 'new': unknown modality or task face"),
        ({"labels": {"size": 1}}, "sample 'new': unknown modality or task size"),
        (
            {"features": {"audio": np.zeros((1, 3))}},
            r"sample 'new': audio rows have shape \(1, 3\), the store says \[T, 2\]",
        ),
        ({"features": {"audio": np.zeros(2)}}, r"audio rows have shape \(2,\)"),
        ({"features": {"audio": np.array([[1, np.nan]])}}, "sample 'new': NaN or Inf in audio"),
        ({"features": {"audio": np.array([[1, 1e39]])}}, r"NaN or Inf in audio \(stored as float32\)"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_a_bad_sample_is_named(tmp_path, sample, message):
    with StoreWriter(tmp_path / "store", name="clips", modalities={"audio": FeatureSpec(dim=2)}, tasks=TASKS) as writer:
        writer.add(id="s0", split="train", group="g")
        with pytest.raises(DataError, match=message):
            writer.add(**({"id": "new", "split": "train", "group": "g"} | sample))
        writer.add(id="s1", split="train", group="g")
    assert len(FeatureStore(tmp_path / "store")) == 2


WRONG_SAMPLES = [
    ({"labels": {"funny": 2}}, "the label of 'funny' is 2, 0 or 1 (binary) was expected"),
    ({"labels": {"funny": "yes"}}, "the label of 'funny' is 'yes', 0 or 1 (binary) was expected"),
    ({"labels": {"funny": math.nan}}, "the label of 'funny' is nan, 0 or 1 (binary) was expected"),
    ({"labels": {"mood": math.inf}}, "the label of 'mood' is inf, a finite number was expected"),
    ({"labels": {"mood": [1.0]}}, "the label of 'mood' is [1.0], a finite number was expected"),
    ({"labels": {"fun": 1}}, "unknown modality or task fun; it has "),
    ({"split": "dev"}, "split is 'dev'; write one of train, val, test"),
    ({"id": ""}, "the id is empty"),
    ({"id": 5}, "id is 5, a text was expected"),
    ({"group": None}, "group is None, a text was expected"),
    ({"text": 5}, "text is 5, a text was expected"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_SAMPLES, ids=str)
def test_a_sample_that_is_none_is_refused_by_name(tmp_path, changes, message):
    given = {"id": "a", "split": "train", "group": "g"} | changes
    with (
        pytest.raises(DataError, match=re.escape(message)) as error,
        StoreWriter(tmp_path / "store", name="clips", tasks=TASKS) as writer,
    ):
        writer.add(**given)
    assert str(error.value).startswith(f"store 'clips', sample '{given['id']}': ")
    assert not list(tmp_path.iterdir())


def test_what_a_notebook_gives_is_taken(tmp_path):
    """Rows as lists, no text, booleans and numpy's numbers."""
    with StoreWriter(tmp_path / "store", name="clips", modalities={"audio": FeatureSpec(dim=2)}, tasks=TASKS) as writer:
        labels = {"funny": np.True_, "mood": np.float32(0.5)}
        writer.add(id="a", split="train", group="g", text=None, features={"audio": [[1, 2], [3, 4]]}, labels=labels)
        writer.add(id="b", split="val", group="h", features={"audio": None})
    store = FeatureStore(tmp_path / "store")
    assert store.rows("audio", 0).tolist() == [[1, 2], [3, 4]]
    assert store.text(0) == ""
    assert [store.labels(task)[0].tolist() for task in ("funny", "mood")] == [[1, 0], [0.5, 0]]


def test_a_store_without_samples_is_not_written(tmp_path):
    with pytest.raises(DataError, match="store 'clips': no sample was added"), StoreWriter(tmp_path / "s", name="clips"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": {"split": TaskSchema(kind="binary")}}, "a task or column takes one of the names id, split, group, text"),
        ({"modalities": {"text": FeatureSpec(dim=2)}}, "a task or column takes one of the names"),
        ({"modalities": {"../audio": FeatureSpec(dim=2)}}, "'../audio' cannot name a modality"),
        ({"tasks": TASKS, "columns": {"mood": pa.int8()}}, "or one twice"),
    ],
)
def test_names_taken_twice_or_leaving_the_folder(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        StoreWriter(tmp_path / "store", name="clips", **options)


def test_further_columns_are_kept(tmp_path):
    with StoreWriter(tmp_path / "store", name="clips", columns={"difficulty": pa.float32()}) as writer:
        writer.add(id="a", split="train", group="g", text="hi", columns={"difficulty": 0.5})
    store = FeatureStore(tmp_path / "store")
    assert store.column("difficulty").to_pylist() == [0.5]
    with pytest.raises(DataError, match=r"has no column 'age'; it has id, split, .* difficulty"):
        store.column("age")
    with pytest.raises(DataError, match="has no task 'mood'; its tasks: none"):
        store.task("mood")


def test_fingerprint_follows_the_data(tmp_path):
    one, same, other = (_write(tmp_path / name, count) for name, count in (("a", 3), ("b", 3), ("c", 4)))
    assert FeatureStore(one).fingerprint == FeatureStore(same).fingerprint
    assert FeatureStore(one).fingerprint != FeatureStore(other).fingerprint


def _edit(path: Path, **changes) -> None:
    file = path / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_what_is_not_a_store_is_said(tmp_path):
    with pytest.raises(DataError, match=r"is not a feature store: it has no dataset\.json"):
        FeatureStore(tmp_path)
    path = _write(tmp_path / "store")
    _edit(path, samples=4)
    with pytest.raises(DataError, match="modality 'audio': its shards hold 3 samples, the store has 4"):
        FeatureStore(path)
    _edit(path, samples=3, colour="red")
    with pytest.raises(DataError, match=r"dataset\.json: colour: Extra inputs are not permitted"):
        FeatureStore(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b'{"values": 1', "not a feature file"),
        (b"[" * 400, "not a feature file"),
        (b'{"offsets": {}}', "KeyError: 'values'"),
        (b'{"values": {"dtype": "F32", "shape": [6, 2], "data_offsets": [0, 1e999]}}', "OverflowError"),
        (b'{"values": {"dtype": "F32", "shape": [6, 2], "data_offsets": [-48, 0]}}', "do not fit the file"),
        (b'{"values": {"dtype": "F32", "shape": [6, 2], "data_offsets": [4000, 4048]}}', "do not fit the file"),
        (b'{"values": {"dtype": "F32", "shape": [9, 2], "data_offsets": [0, 72]}}', r"an array is F32 \(9, 2\)"),
        (b'{"values": {"dtype": "I64", "shape": [6, 2], "data_offsets": [0, 96]}}', r"dataset.json says F32 \(6, 2\)"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path, header, message):
    path = _write(tmp_path / "store")
    file = path / "audio.safetensors"
    content = bytearray(file.read_bytes())
    content[8:512] = header.ljust(504)
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        FeatureStore(path)


def test_a_header_as_long_as_the_world_is_not_read(tmp_path):
    path = _write(tmp_path / "store")
    (path / "audio.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    with pytest.raises(DataError, match=r"not a safetensors file \(header of 4611686018427387904 bytes in a file of 10\)"):
        FeatureStore(path)
    (path / "audio.safetensors").unlink()
    with pytest.raises(DataError, match=r"is missing, though dataset\.json names it"):
        FeatureStore(path)


def test_offsets_outside_the_rows_are_refused_when_read(tmp_path):
    path = _write(tmp_path / "store")
    content = bytearray((path / "audio.safetensors").read_bytes())
    content[-8:] = (9999).to_bytes(8, "little")
    (path / "audio.safetensors").write_bytes(content)
    with pytest.raises(
        DataError, match=r"sample 's2', audio: offsets 3:9999 lie outside the 6 rows\. Run `mmtrain data check"
    ):
        FeatureStore(path).rows("audio", 2)


def test_garbage_for_a_table_is_refused(tmp_path):
    path = _write(tmp_path / "store")
    table = path / "samples.parquet"
    table.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    with pytest.raises(DataError, match="not a readable parquet file"):
        _ = FeatureStore(path).table
    table.unlink()
    with pytest.raises(DataError, match=r"samples\.parquet is missing"):
        _ = FeatureStore(path).table
