"""`merge`: all samples come over bit by bit, and what two stores mean differently is refused with both sides."""

import numpy as np
import pyarrow as pa
import pytest

from data_prep.merge import merge
from data_prep.stats import measure_store
from mmtrain.data.check import check_store
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

AUDIO = FeatureSpec(dim=2, rows_per_second=10, extractor="logmel", extractor_version="1")
FUNNY = TaskSchema(kind="binary")


def _write(
    path,
    *,
    modalities=None,
    tasks=None,
    columns=None,
    ids=("s0", "s1"),
    group="g",
    split="train",
    licence="",
    **columns_of_all,
):
    modalities = {"audio": AUDIO} if modalities is None else modalities
    tasks = {"funny": FUNNY} if tasks is None else tasks
    options = {"modalities": modalities, "tasks": tasks, "columns": columns, "licence": licence}
    with StoreWriter(path, name=path.name, **options) as writer:
        for index, name in enumerate(ids):
            features = {key: np.full((index + 1, spec.dim), index + 0.5) for key, spec in modalities.items()}
            labels = dict.fromkeys(tasks, index % 2)
            writer.add(
                id=name, split=split, group=group, text="hi", features=features, labels=labels, columns=columns_of_all
            )
    return path


def test_everything_comes_over_and_what_a_store_lacks_is_missing(tmp_path):
    face = {"face": FeatureSpec(dim=3, dtype="float16")}
    mood = {"mood": TaskSchema(kind="regression", unit="points")}
    one = _write(tmp_path / "one", columns={"pace": pa.float64()}, licence="MIT", pace=2.5)
    two = _write(tmp_path / "two", modalities={"audio": AUDIO} | face, tasks=mood, ids=("t0",), group="h", licence="CC0-1.0")
    assert merge([one, two], out=tmp_path / "all") == []
    store = FeatureStore(tmp_path / "all")
    assert check_store(tmp_path / "all") == []
    assert (store.name, store.schema.licence) == ("all", "MIT AND CC0-1.0")
    assert store.column("id").to_pylist() == ["s0", "s1", "t0"]
    assert store.column("pace").to_pylist() == [2.5, 2.5, None]
    assert store.column("funny").to_pylist() == [0, 1, None]
    assert store.column("mood").to_pylist() == [None, None, 0.0]
    assert store.lengths("face").tolist() == [0, 0, 1]
    assert store.schema.tasks == {"funny": FUNNY} | mood
    for index, (path, place) in enumerate([(one, 0), (one, 1), (two, 0)]):
        assert store.rows("audio", index).tobytes() == FeatureStore(path).rows("audio", place).tobytes()
    sources = store.schema.provenance["sources"]
    assert [source["fingerprint"] for source in sources] == [FeatureStore(path).fingerprint for path in (one, two)]


def test_ids_that_clash_are_refused_or_told_apart_by_their_store(tmp_path):
    one, two = _write(tmp_path / "one", ids=("a", "b", "c")), _write(tmp_path / "two", ids=("c", "x", "a"), split="val")
    words = (
        r"sample id 'c' stands in .*one and in .*two; 2 ids clash \('a', \.\.\.\)\. Leave one of them out by `filter`, or"
    )
    with pytest.raises(DataError, match=words):
        merge([one, two], out=tmp_path / "all")
    assert not (tmp_path / "all").exists()
    assert merge([one, two], out=tmp_path / "all", prefix_ids=True, name="both") == []
    store = FeatureStore(tmp_path / "all")
    assert store.name == "both"
    assert store.column("id").to_pylist() == ["one-a", "one-b", "one-c", "two-c", "two-x", "two-a"]
    assert store.column("group").to_pylist() == ["one-g"] * 3 + ["two-g"] * 3
    assert store.schema.provenance["prefix_ids"] is True
    with pytest.raises(
        DataError, match=r"--prefix-ids: .*one and .*one are both named 'one', so their ids would stay alike"
    ):
        merge([one, one], out=tmp_path / "other", prefix_ids=True)


def test_a_group_that_comes_to_stand_on_two_sides_is_said(tmp_path):
    one, two = _write(tmp_path / "one"), _write(tmp_path / "two", ids=("t",), split="test")
    (note,) = merge([one, two], out=tmp_path / "all")
    assert note.startswith("warning: 1 groups stand in more than one split (such as 'g'): divide the new store by `split`")
    loose = [_write(tmp_path / name, ids=(name,), split=split, group="") for name, split in (("x", "val"), ("y", "test"))]
    assert merge(loose, out=tmp_path / "loose") == []  # samples without a group share none


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"modalities": {"audio": AUDIO.model_copy(update={"dim": 3})}},
            r"modality 'audio' has dim 2 in .*one and dim 3 in .*two: one model cannot read both\. Extract both alike",
        ),
        ({"modalities": {"audio": AUDIO.model_copy(update={"rows_per_second": 5.0})}}, "rows_per_second 10.0 in .* 5.0 in"),
        (
            {"modalities": {"audio": AUDIO.model_copy(update={"extractor": "mfcc", "extractor_version": "2"})}},
            r"extractor logmel, extractor_version 1 in .*one and extractor mfcc, extractor_version 2 in .*two",
        ),
        (
            {"modalities": {"audio": AUDIO.model_copy(update={"dtype": "float16"})}},
            r"dtype float32 in .*one and dtype float16 in .*two: .*\. Make them alike by `cast`",
        ),
        (
            {"tasks": {"funny": TaskSchema(kind="multiclass", classes=("a", "b"))}},
            r"task 'funny' is binary in .*one and multiclass of a, b in .*two: rename it in one of them",
        ),
        ({"tasks": {"funny": TaskSchema(kind="regression", unit="points")}}, "and regression in points in .*two"),
        ({"tasks": {}, "columns": {"funny": pa.int8()}}, r"'funny' is a task in .*one and a column in .*two: rename one"),
        ({"columns": {"pace": pa.string()}}, r"column 'pace' holds double in .*one and string in .*two: write it alike"),
    ],
)
def test_what_means_two_things_is_refused_with_both_sides(tmp_path, changes, message):
    one = _write(tmp_path / "one", columns={"pace": pa.float64()})
    two = _write(tmp_path / "two", ids=("t0",), **changes)
    with pytest.raises(DataError, match=message):
        merge([one, two], out=tmp_path / "all")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["one", "two"]


def test_one_store_is_not_merged_and_statistics_do_not_come_over(tmp_path):
    one, two = _write(tmp_path / "one"), _write(tmp_path / "two", ids=("t0",), group="h")
    with pytest.raises(DataError, match="write two stores or more"):
        merge([one], out=tmp_path / "all")
    measure_store(one, out=tmp_path / "normalized", normalize=True)
    (note,) = merge([tmp_path / "normalized", two], out=tmp_path / "all")
    assert note == f"the statistics of {tmp_path / 'normalized'} are not kept: measure those of the new store by `stats`"
    assert FeatureStore(tmp_path / "all").rows("audio", 1).tolist() == [[1.5, 1.5], [1.5, 1.5]]  # as stored, not normalized
    assert FeatureStore(tmp_path / "all").schema.modalities["audio"].statistics is None
