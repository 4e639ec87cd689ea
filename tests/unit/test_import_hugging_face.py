"""`data_prep import hf`: folders as `datasets` writes and publishes them become stores; what is wrong is named."""

import json
import sys
import types

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.cli import main
from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore

CLASSES = {"info": {"features": {"label": {"names": ["sad", "glad"], "_type": "ClassLabel"}, "score": {"dtype": "float64"}}}}
ROWS = {
    "sentence": ["a", "b", "c"],
    "label": [0, 1, -1],
    "score": [0.5, None, 1.0],
    "film": ["x", "x", ""],
    "key": [7, 8, 9],
}
FLAGS = ("--text", "sentence", "--label", "mood=binary:label")


def table(rows=ROWS, metadata=CLASSES):
    made = pa.table(rows)
    return made.replace_schema_metadata({"huggingface": json.dumps(metadata)}) if metadata else made


def save_to_disk(folder, tables, **state):
    """What DatasetDict.save_to_disk leaves: a folder a split, Arrow streams, and state.json with their names."""
    (folder).mkdir(parents=True)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": list(tables)}))
    for split, content in tables.items():
        (folder / split).mkdir()
        names = [f"data-{number:05d}-of-00002.arrow" for number in range(2)]
        for number, name in enumerate(names):
            with pa.ipc.new_stream(str(folder / split / name), content.schema) as writer:
                writer.write_table(content.slice(number * 2, 2))
        (folder / split / "cache-0123.arrow").write_bytes(b"not read")
        listed = {"_data_files": [{"filename": name} for name in names], **state}
        (folder / split / "state.json").write_text(json.dumps(listed))


def save_parquet(folder, **tables):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        pq.write_table(content, folder / f"{name}.parquet")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(source, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["data_prep", "import", "hf", str(source), "--out", "store", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        store = FeatureStore("store") if (tmp_path / "store").exists() else None
        return end.value.code, captured.out + captured.err, store

    return run


def test_save_to_disk(tmp_path, run):
    save_to_disk(tmp_path / "set", {"train": table(), "validation": table(ROWS | {"film": ["y", "y", "z"]})})
    code, said, store = run("set", *FLAGS, "--group", "film", "--label", "score=regression:score")
    assert code == 0, said
    assert check_store(tmp_path / "store") == []
    assert store.column("id").to_pylist() == [f"{split}-{number}" for split in ("train", "val") for number in range(3)]
    assert [store.text(index) for index in range(3)] == ["a", "b", "c"]
    assert store.column("group").to_pylist()[:3] == ["x", "x", "train-2"]
    assert store.schema.tasks["mood"].classes == ("sad", "glad")
    assert store.column("mood").to_pylist() == [0, 1, None] * 2
    assert store.column("score").to_pylist() == [0.5, None, 1] * 2
    assert (store.name, store.schema.provenance["source"]) == ("set", "set")


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        (("train", "test"), ["test", "train"]),
        (("data/train-00000-of-00001", "data/dev-00000-of-00001-0123456789abcdef"), ["val", "train"]),
        (("default/train/0000", "default/validation/0000"), ["train", "val"]),
        (("plain/train-00000-of-00002", "plain/train-00001-of-00002"), ["train"]),
    ],
)
def test_the_layouts_of_parquet(tmp_path, run, files, splits):
    for name in files:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(), tmp_path / "set" / f"{name}.parquet")
    code, said, store = run("set", *FLAGS)
    assert code == 0, said
    assert list(dict.fromkeys(store.column("split").to_pylist())) == splits
    assert len(store) == 3 * len(files)


def test_one_file_of_arrow_and_chosen_splits(tmp_path, run):
    save_parquet(tmp_path / "set", extra=table(), test=table(), train=table())
    _, _, store = run(
        "set", *FLAGS, "--split", "val=extra", "--split", "train=train", "--id", "key", "--allow-failures", "3"
    )
    assert store.column("split").to_pylist() == ["val"] * 3  # the ids of train are the same, and come second
    with pa.ipc.new_file(str(tmp_path / "train.arrow"), table().schema) as writer:
        writer.write_table(table())
    code, said, store = run("train.arrow", *FLAGS, "--overwrite", "--id", "key")
    assert code == 0, said
    assert (store.column("id").to_pylist(), store.column("split")[0].as_py()) == (["7", "8", "9"], "train")


def test_classes_by_the_values_and_lists_of_them(tmp_path, run):
    rows = {
        "t": ["a", "b", "c"],
        "topic": ["sea", "air", None],
        "stars": [2, 0, -1],
        "flags": [True, False, None],
        "tags": [["y"], [], None],
        "named": [[1], [0, 1], []],
        "single": [0, 1, 0],
        "holes": [1.0, float("nan"), 0.0],
        "halves": [0.5, 1.0, 0.5],
    }
    metadata = {
        "info": {"features": {"named": {"feature": {"names": ["p", "q"], "_type": "ClassLabel"}, "_type": "Sequence"}}}
    }
    metadata["info"]["features"]["single"] = "damaged"
    save_parquet(tmp_path / "set", train=table(rows, metadata))
    flags = ("topic=multiclass:topic", "stars=multiclass:stars", "flags=binary:flags", "tags=multilabel:tags")
    flags += ("named=multilabel:named", "single=multiclass:single")
    flags += ("holes=binary:holes", "halves=multiclass:halves")
    code, said, store = run("set", "--text", "t", *[word for flag in flags for word in ("--label", flag)])
    assert code == 0, said
    assert store.schema.tasks["topic"].classes == ("air", "sea")
    assert store.column("topic").to_pylist() == [1, 0, None]
    assert (store.schema.tasks["stars"].classes, store.column("stars").to_pylist()) == (("0", "1", "2"), [2, 0, None])
    assert (store.schema.tasks["flags"].classes, store.column("flags").to_pylist()) == ((), [1, 0, None])
    assert (store.schema.tasks["tags"].classes, store.column("tags").to_pylist()) == (("y",), [[1], [0], None])
    assert (store.schema.tasks["named"].classes, store.column("named").to_pylist()) == (("p", "q"), [[0, 1], [1, 1], [0, 0]])
    assert store.schema.tasks["single"].classes == ("0", "1")
    assert (store.schema.tasks["holes"].classes, store.column("holes").to_pylist()) == ((), [1, None, 0])
    assert (store.schema.tasks["halves"].classes, store.column("halves").to_pylist()) == (("0.5", "1"), [0, 1, 0])


def test_rows_and_a_second_text(tmp_path, run):
    rows = {"t": ["a", "b", "c"], "u": ["x", None, "z"], "face": [[[1.0, 2.0], [3.0, 4.0]], None, [[5.0, 6.0]]]}
    rows["voice"] = [[0.5, 0.25, 0.0], [1.0, 1.0, 1.0], []]
    save_parquet(tmp_path / "set", train=table(rows, None))
    flags = ("--text", "t", "--second-text", "u", "--modality", "face=face", "--modality", "voice=voice")
    code, said, store = run("set", *flags)
    assert code == 0, said
    assert np.array_equal(store.rows("face", 0), [[1, 2], [3, 4]])
    assert store.lengths("face").tolist() == [2, 0, 1]
    assert store.lengths("voice").tolist() == [1, 1, 0]
    assert store.column("second_text").to_pylist() == ["x", "", "z"]
    assert "face: missing in 1 of 3 samples" in said


@pytest.mark.parametrize(
    ("rows", "flags", "words"),
    [
        ({"label": [0, 5, 1]}, FLAGS, "row 1: column 'label' is '5', a number from 0 to 1 was expected"),
        ({"label": [0, -2, 1]}, FLAGS, "row 1: column 'label' is '-2', a number from 0 to 1 was expected"),
        ({"sentence": [1, 2, 3]}, FLAGS, "column 'sentence' is '1', a text was expected"),
        (
            {"score": [1.0, float("nan"), 2.0]},
            (*FLAGS, "--label", "s=regression:score"),
            "'nan', a finite number was expected",
        ),
        ({}, (*FLAGS, "--label", "s=multilabel:label"), "column 'label' is '0', a list of classes was expected"),
        (
            {"tags": [["a", None], ["None"], []]},
            (*FLAGS, "--label", "s=multilabel:tags"),
            "column 'tags' is 'None', one of None, a was expected",
        ),
        ({"film": ["x", "x", ""]}, (*FLAGS, "--id", "film"), "sample id 'x' comes twice"),
        ({"film": ["x", "y", ""]}, (*FLAGS, "--id", "film"), "row 2: column 'film' is empty"),
        (
            {"f": [[[1.0]], [[1.0], [1.0, 2.0]], [[1.0]]]},
            (*FLAGS, "--modality", "f=f"),
            "column 'f' holds no rows of numbers",
        ),
        ({"f": [[[1.0]], [[1.0, 2.0]], [[1.0]]]}, (*FLAGS, "--modality", "f=f"), "f rows have shape (1, 2), the store says"),
        (
            {"f": [[1.0], [2.0], None]},
            (*FLAGS, "--label", "s=regression:f"),
            "column 'f' is '[1.0]', a finite number was expected",
        ),
    ],
)
def test_a_row_that_cannot_be_imported_is_named(tmp_path, run, rows, flags, words):
    save_parquet(tmp_path / "set", train=table(ROWS | rows))
    code, said, store = run("set", *flags, "--allow-failures", "0")
    assert (code, store) == (3, None)
    assert words in said or words in (tmp_path / "store.failures.jsonl").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--text", "words"), "set has no column 'words'; it has sentence, label, score, film, key"),
        ((), "set: say what to import, such as --text COLUMN; its columns: sentence, label"),
        (
            ("--text", "sentence", "--label", "mood=label"),
            "--label mood=label: write mood=kind:column; kinds: binary, multiclass",
        ),
        (("--text", "sentence", "--label", "a=odd:label"), "--label a=odd:label: write a=kind:column"),
        ((*FLAGS, "--split", "dev=train"), "--split dev=train: write train=..., val=..., test=..."),
        ((*FLAGS, "--split", "val=dev"), "--split val=dev: set has the splits train"),
        ((*FLAGS, "--label", "a=binary:film"), "--label a=binary:film: "),
        ((*FLAGS, "--modality", "x=film"), "column 'film' has no rows in any sample"),
        ((*FLAGS, "--label", "a=multiclass:row"), "--label a=multiclass:row: the column holds {'at': 1}, numbers or names"),
    ],
)
def test_flags_that_do_not_fit_are_named(tmp_path, run, flags, words):
    save_parquet(tmp_path / "set", train=table(ROWS | {"film": ["x", "y", "z"], "row": [{"at": 1}] * 3}))
    code, said, store = run("set", *flags)
    assert (code, store) == (2, None)
    assert words in said


def test_folders_that_do_not_fit_are_named(tmp_path, run):
    save_parquet(tmp_path / "odd", fold_a=table(), train=table())
    assert "odd has the splits fold_a, train; say which is which, such as --split train=fold_a" in run("odd", *FLAGS)[1]
    save_parquet(tmp_path / "many" / "sst2", train=table())
    save_parquet(tmp_path / "many" / "cola", train=table())
    code, said, _ = run("many", *FLAGS)
    assert (code, "has split 'train' in several folders (cola, sst2); name one" in said) == (2, True)
    assert run("many/cola", *FLAGS)[0] == 0
    (tmp_path / "empty").mkdir()
    assert "empty has no .arrow and no .parquet file" in run("empty", *FLAGS, "--overwrite")[1]
    (tmp_path / "empty" / "train.parquet").write_bytes(b"PAR1")
    assert "train.parquet is not a readable parquet file" in run("empty", *FLAGS, "--overwrite")[1]
    save_to_disk(tmp_path / "chosen", {"train": table()}, _indices_data_files=[{"filename": "indices.arrow"}])
    assert "call flatten_indices() before save_to_disk" in run("chosen", *FLAGS, "--overwrite")[1]
    (tmp_path / "chosen" / "train" / "state.json").write_text("{")
    assert "state.json is not what save_to_disk writes" in run("chosen", *FLAGS, "--overwrite")[1]
    save_parquet(tmp_path / "two" / "train", **{"0000": table(), "0001": pa.table({"sentence": ["a"]})})
    code, said, _ = run("two", *FLAGS, "--overwrite")
    assert (code, "0001.parquet has no column 'label'" in said) == (2, True)


def test_files_that_are_not_of_the_set_are_not_read(tmp_path, run):
    save_to_disk(tmp_path / "saved", {"train": table()})
    (tmp_path / "saved" / "train" / "data-00001-of-00009.arrow").write_bytes(b"of an earlier save")
    code, said, store = run("saved", *FLAGS)
    assert (code, len(store)) == (0, 3), said
    save_parquet(tmp_path / "files", train=table())
    (tmp_path / "files" / "cache-0123.arrow").write_bytes(b"of a transform")
    code, said, store = run("files", *FLAGS, "--overwrite")
    assert (code, len(store)) == (0, 3), said


def test_a_truncated_arrow_file_is_named_with_its_row(tmp_path, run):
    save_to_disk(tmp_path / "set", {"train": table()})
    file = tmp_path / "set" / "train" / "data-00001-of-00002.arrow"
    file.write_bytes(file.read_bytes()[:-300])
    code, said, store = run("set", *FLAGS)
    assert (code, store) == (2, None)
    assert "data-00001-of-00002.arrow is not a readable arrow file" in said


def test_a_name_on_the_hub_is_asked_for_its_data_files_alone(tmp_path, run, monkeypatch):
    save_parquet(tmp_path / "cache" / "small", train=table())
    asked = {}

    def snapshot_download(name, **options):
        asked.update(name=name, **options)
        return str(tmp_path / "cache")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    code, said, store = run("owner/films/small", *FLAGS, "--revision", "v1")
    assert code == 0, said
    assert (asked["name"], asked["repo_type"], asked["revision"]) == ("owner/films", "dataset", "v1")
    assert asked["allow_patterns"] == ["small/*.parquet", "small/*.arrow", "small/*state.json"]
    assert store.schema.provenance["revision"] == "v1"


def test_a_hub_that_cannot_be_reached_and_a_name_that_is_none(run, monkeypatch):
    def snapshot_download(*_arguments, **_options):
        raise OSError("no route\nto host")

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    assert run("owner/films", *FLAGS)[:2] == (
        2,
        "owner/films is not a folder, and could not be fetched from the hub (no route)\n",
    )
    for name in ("films", "a/b/c/d", "../films"):
        code, said, _ = run(name, *FLAGS)
        assert (code, "is neither a folder nor the name of a data set on the hub" in said) == (2, True)
