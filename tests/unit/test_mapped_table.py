"""A mapped sample table says what the decoded one says, and a file that is damaged, half or of another table is not used."""

import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmtrain.data.mapped_table
from mmtrain.compatibility import group_warnings, table_notes
from mmtrain.data.columns import codes
from mmtrain.data.dataset import Stream
from mmtrain.data.mapped_table import mapped_file, write_mapped
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

TASKS = {
    "funny": TaskSchema(kind="binary"),
    "tags": TaskSchema(kind="multilabel", classes=("x", "y")),
    "mood": TaskSchema(kind="regression"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Ten samples, with labels, texts and groups missing."""
    with StoreWriter(
        tmp_path / "store", name="clips", tasks=TASKS, modalities={"audio": FeatureSpec(dim=1)}, columns={"year": pa.int16()}
    ) as writer:
        for number in range(10):
            labels = {"funny": number % 2, "tags": [number % 2, 1], "mood": number / 4}
            writer.add(
                id=f"s{number}",
                split=("train", "val", "train")[number % 3],
                group="" if number == 4 else f"g{number // 2}",
                text=("", "  ", "some words", "ünd")[number % 4],
                features={"audio": np.full((number % 3, 1), number)},
                labels={name: label for place, (name, label) in enumerate(labels.items()) if (number + place) % 4},
                columns={"year": None if number == 7 else 1990 + number},
            )
    return tmp_path / "store"


@pytest.fixture
def cache(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the store's table, in record batches of three samples."""
    monkeypatch.setattr(mmtrain.data.mapped_table, "_ROWS", 3)
    write_mapped(path, cache=path.parent / "cache", sha256=FeatureStore(path).table_hash)
    return path.parent / "cache"


def _write_as(table: pa.Table, file: Path) -> None:
    """A table under the name and the mark of another."""
    mark = {"sha256 of samples.parquet": file.stem}
    with pa.ipc.new_file(file, table.schema.with_metadata(mark)) as writer:
        writer.write_table(table.replace_schema_metadata(mark), max_chunksize=3)


def test_all_is_as_in_memory(path: Path, cache: Path) -> None:
    splits = ["test", "train"] * 5
    for options in ({}, {"splits": splits}, {"left_out": {2: "bad"}}):
        plain, mapped = FeatureStore(path, **options), FeatureStore(path, cache=cache, **options)
        assert (plain.is_mapped, mapped.is_mapped) == (False, True)
        assert mapped.table.equals(plain.table)
        assert mapped.column("id").num_chunks == 4
        for task in TASKS:
            for one, other in zip(plain.labels(task), mapped.labels(task), strict=True):
                assert (one.dtype, one.tolist()) == (other.dtype, other.tolist())
        for split in ("train", "val", "test"):
            assert plain.split(split).tolist() == mapped.split(split).tolist()
        for column in ("text", "split"):
            assert plain.characters(column).tolist() == mapped.characters(column).tolist()
        assert [plain.text(index) for index in range(10)] == [mapped.text(index) for index in range(10)]
        assert [plain.group(index) for index in range(10)] == [mapped.group(index) for index in range(10)]
        assert plain.fingerprint == mapped.fingerprint
        one, other = (Stream("a", store, split="train", tasks=list(TASKS), modalities=["text"]) for store in (plain, mapped))
        assert one.indices.tolist() == other.indices.tolist()
        assert {name: mask.tolist() for name, mask in one.present().items()} == {
            name: mask.tolist() for name, mask in other.present().items()
        }
        assert group_warnings({"a": plain}) == group_warnings({"a": mapped})


def test_a_wrong_label_is_named_by_its_sample_across_pieces(path: Path, cache: Path) -> None:
    file = mapped_file(cache, FeatureStore(path).table_hash)
    table = pq.read_table(path / "samples.parquet")
    funny = table["funny"].to_pylist()
    funny[7] = 5
    table = table.set_column(table.column_names.index("funny"), "funny", pa.array(funny, pa.int8()))
    _write_as(table, file)
    with pytest.raises(DataError, match="sample 's7', column 'funny': label 5 is not 0 or 1"):
        FeatureStore(path, cache=cache).labels("funny")


def test_strings_are_numbered_across_pieces() -> None:
    numbered, strings = codes(pa.chunked_array([["b", None], ["a", "b"], []]))
    assert numbered.tolist() == [0, 1, 2, 0]
    assert strings.to_pylist() == ["b", None, "a"]
    assert codes(pa.chunked_array([], pa.string()))[0].tolist() == []


def test_memory_does_not_grow_by_a_mapped_table(path: Path, cache: Path) -> None:
    before = pa.total_allocated_bytes()
    mapped = FeatureStore(path, cache=cache)
    assert mapped.table.num_rows == 10
    assert pa.total_allocated_bytes() == before
    held = FeatureStore(path).table
    assert pa.total_allocated_bytes() > before
    assert held.equals(mapped.table)


def test_what_is_not_of_this_table_is_not_used(path: Path, cache: Path) -> None:
    assert not FeatureStore(path, cache=cache / "other").is_mapped
    table = pq.read_table(path / "samples.parquet")
    pq.write_table(table.slice(0, 9), path / "samples.parquet")
    refused = r"samples\.parquet is not what dataset\.json describes; `mmtrain data check "
    with pytest.raises(DataError, match=refused):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for
    with pytest.raises(DataError, match=refused):
        write_mapped(path, cache=cache / "other", sha256=FeatureStore(path).table_hash)
    (path / "samples.parquet").unlink()
    with pytest.raises(DataError, match=refused):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for


def test_a_sound_file_is_left_and_a_damaged_one_made_anew(path: Path, cache: Path) -> None:
    sha256 = FeatureStore(path).table_hash
    file = mapped_file(cache, sha256)
    before, whole = file.stat().st_ino, file.read_bytes()
    assert write_mapped(path, cache=cache, sha256=sha256) == file
    assert file.stat().st_ino == before
    file.write_bytes(b"nothing")
    write_mapped(path, cache=cache, sha256=sha256)
    assert file.read_bytes() == whole


def test_another_table_under_its_name_is_refused(path: Path, cache: Path) -> None:
    file = mapped_file(cache, FeatureStore(path).table_hash)
    other = file.with_name(f"{'0' * 64}.arrow")
    file.rename(other)
    _write_as(pq.read_table(path / "samples.parquet"), other)
    other.rename(file)
    with pytest.raises(
        DataError, match=rf"{file} is of another samples\.parquet; `mmtrain data map {path} --cache {cache}` makes it"
    ):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for


def test_a_cache_that_is_no_folder_has_no_tables(path: Path) -> None:
    (path.parent / "cache").touch()
    assert not FeatureStore(path, cache=path.parent / "cache").is_mapped


def test_a_file_that_may_not_be_read_is_not_called_damaged(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def memory_map(file: str) -> None:
        raise PermissionError(13, "Permission denied", file)

    monkeypatch.setattr(pa, "memory_map", memory_map)
    with pytest.raises(DataError, match=r"\.arrow cannot be read \(no permission\); give the experiment a `cache` of your"):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for


def test_what_a_killed_process_left_is_removed(path: Path) -> None:
    sha256, folder = FeatureStore(path).table_hash, path.parent / "cache" / "tables"
    folder.mkdir(parents=True)
    old, young, foreign = (folder / f".{name}.part" for name in (f"{sha256}.1", f"{sha256}.2", f"{'0' * 64}.3"))
    for file in (old, young, foreign):
        file.touch()
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    made = write_mapped(path, cache=path.parent / "cache", sha256=sha256)
    assert set(folder.iterdir()) == {young, foreign, made}


@pytest.mark.parametrize("length", [0, 1, 100, 1000, -1])
def test_a_file_that_was_cut_is_refused(path: Path, cache: Path, length: int) -> None:
    file = mapped_file(cache, FeatureStore(path).table_hash)
    os.truncate(file, length if length >= 0 else file.stat().st_size - 1)
    with pytest.raises(
        DataError, match=rf"{file} is damaged \(.*\); `mmtrain data map {path} --cache {cache}` makes it anew"
    ):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for


@pytest.mark.parametrize("place", [1, 2, 3])
def test_offsets_that_lead_out_of_the_file_are_refused(place: int, path: Path, cache: Path) -> None:
    file = mapped_file(cache, FeatureStore(path).table_hash)
    bytes_, offsets = file.read_bytes(), np.arange(0, 8, 2, dtype="<i4")  # of the first three ids
    assert bytes_.count(offsets.tobytes()) > 0
    offsets_after = offsets.copy()
    offsets_after[place] = 2**31 - 1
    file.write_bytes(bytes_.replace(offsets.tobytes(), offsets_after.tobytes(), 1))
    with pytest.raises(DataError, match=rf"{file} is damaged"):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for


def test_a_table_with_too_few_samples_is_refused(path: Path, cache: Path) -> None:
    file = mapped_file(cache, FeatureStore(path).table_hash)
    _write_as(pq.read_table(path / "samples.parquet").slice(0, 9), file)
    with pytest.raises(DataError, match=r"has 9 samples, dataset\.json says 10"):
        FeatureStore(path, cache=cache).table  # noqa: B018 - is read by being asked for


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Sets the size at which the system refuses to let a file grow."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    answer = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, answer)


def test_a_full_disk_leaves_nothing(path: Path, small_files: Callable[[int], None]) -> None:
    sha256 = FeatureStore(path).table_hash
    small_files(1000)
    with pytest.raises(DataError, match=r"samples\.parquet cannot be decoded into .*\.arrow: .*File too large"):
        write_mapped(path, cache=path.parent / "cache", sha256=sha256)
    assert list((path.parent / "cache").rglob("*.*")) == []


def test_large_tables_are_spoken_of(path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmtrain.compatibility._MUCH_TABLE", 100)
    monkeypatch.setattr("mmtrain.compatibility._MOST_COMPARED", 9)
    plain, mapped = FeatureStore(path), FeatureStore(path, cache=cache)
    assert table_notes({"a": mapped}) == ["dataset 'a': its sample table is mapped"]
    assert table_notes({"a": plain}) == [
        f"dataset 'a': its sample table takes 0.0 GiB in each process; `mmtrain data map {path}` makes a file that all of a "
        "machine share"
    ]
    assert group_warnings({"a": mapped}) == [
        "dataset 'a': with 10 samples it was not looked whether a group stands in more than one split; "
        f"`mmtrain data check {path}` does"
    ]
