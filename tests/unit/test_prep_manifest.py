"""Manifests: what a cell may hold, and a message with line and column for whatever is wrong."""

import json

import pytest

from data_prep.manifest import read_manifest
from data_prep.manifest_labels import parse_label
from mmtrain.data.schema import TaskSchema
from mmtrain.errors import DataError

TASKS = {"mood": "regression"}


def _file(folder, content, name="data.csv"):
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def test_cells_become_samples(tmp_path):
    content = '\ufeffid,split,group,text,audio,mood\na,train,g,"hi, ""you""\nthere",x/a.ogg,0.5\nb,val,,,,\n'
    first, second = read_manifest(_file(tmp_path, content), tasks=TASKS).entries
    assert (first.id, first.split, first.group, first.text) == ("a", "train", "g", 'hi, "you"\nthere')
    assert first.media == {"audio": tmp_path.resolve() / "x" / "a.ogg"}
    assert (first.labels, second.labels, second.media, second.group) == ({"mood": 0.5}, {}, {}, "b")


def test_further_columns_are_kept_as_numbers_or_texts(tmp_path):
    content = "id,split,speed,second_text,note,mood\na,train,1.5,hello,,1\nb,val,,3,,1\nc,val,1e3,x,,1\n"
    manifest = read_manifest(_file(tmp_path, content), tasks=TASKS)
    assert {name: str(kind) for name, kind in manifest.columns.items()} == {
        "speed": "double",
        "second_text": "string",
        "note": "string",
    }
    assert [entry.further for entry in manifest.entries] == [
        {"speed": 1.5, "second_text": "hello", "note": None},
        {"speed": None, "second_text": "3", "note": None},
        {"speed": 1000.0, "second_text": "x", "note": None},
    ]
    broken = read_manifest(_file(tmp_path, "id,split,speed\na,train,1\nb,val,nan\n", "other.csv"))
    assert str(broken.columns["speed"]) == "string"  # a number that is none would make the column useless


def test_jsonl_says_the_same(tmp_path):
    rows = [
        {"id": "a", "split": "train", "tags": ["x", "y"], "funny": True},
        {"id": "b", "split": "val", "tags": [], "text": None},
    ]
    content = "\n".join(map(json.dumps, rows))
    tasks = {"tags": "multilabel", "funny": "binary"}
    manifest = read_manifest(_file(tmp_path, content, "data.jsonl"), tasks=tasks)
    assert [entry.labels for entry in manifest.entries] == [{"tags": [1, 1], "funny": 1}, {"tags": [0, 0]}]
    assert manifest.tasks["tags"].classes == ("x", "y")


def test_the_sidecar_names_data_set_and_tasks(tmp_path):
    tasks = {"topic": {"kind": "multiclass", "classes": ["sea", "air"]}}
    (tmp_path / "data.json").write_text(json.dumps({"name": "clips", "licence": "MIT", "tasks": tasks}))
    manifest = read_manifest(_file(tmp_path, "id,split,topic,mood\na,train,air,1\n"), tasks=TASKS)
    assert (manifest.name, manifest.licence, list(manifest.tasks)) == ("clips", "MIT", ["topic", "mood"])
    assert manifest.entries[0].labels == {"topic": 1, "mood": 1.0}
    (tmp_path / "data.json").write_text('{"colour": 1}')
    with pytest.raises(DataError, match=r"data\.json: colour: Extra inputs are not permitted"):
        read_manifest(tmp_path / "data.csv")


def test_without_splits_groups_are_divided(tmp_path):
    rows = "".join(f"s{number},g{number // 2}\n" for number in range(40))
    entries = read_manifest(_file(tmp_path, "id,group\n" + rows)).entries
    sides = {entry.group: entry.split for entry in entries}
    assert all(sides[entry.group] == entry.split for entry in entries)
    assert sorted(sum(entry.split == split for entry in entries) for split in ("train", "val", "test")) == [6, 6, 28]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no samples"),
        ("id,split\n", "has no samples"),
        ("name,mood\na,1\n", "has no column 'id'; it has name, mood"),
        ("id,split\na,train\n", "has no column 'mood' for the task of that name"),
        ("id,mood\na,1\nb,2\n", r"no column 'split' and too few groups \(2\)"),
        ("id,split,mood\na,train,1\na,val,1\n", "line 3: the id 'a' stands in line 2 too"),
        ("id,split,mood\n,train,1\n", "line 2: the id is empty"),
        ("id,split,mood\na,dev,1\n", "sample 'a': split 'dev'; write one of train, val, test"),
        ("id,split,mood\na,train,high\n", "line 2, sample 'a', column 'mood': 'high' is not a finite number"),
        ("id,split,mood\na,train,inf\n", "'inf' is not a finite number"),
        ("id,split,mood\na,train,nan\n", "'nan' is not a finite number; an empty cell is a missing label"),
        ("id,mood,mood\na,1,2\n", "line 1: the column 'mood' stands there twice; give each a name of its own"),
        ("id,split,mood\na,train\n", "line 2: not as many cells as the 3 columns"),
        ("id,split,mood\na,train,1,2\n", "line 2: not as many cells as the 3 columns"),
        ('id,split,mood\n"a,train,1\n', "not CSV"),
        (b"id\n\xff\n", "is not UTF-8 text"),
        ("id,split,mood,audio\na,train,1,../a.ogg\n", r"column 'audio': '\.\./a\.ogg' leads out of"),
        ("id,split,mood,audio\na,train,1,/etc/passwd\n", "leads out of"),
        (b"id,split,mood,audio\na,train,1,a\0b\n", "is not a path|not CSV"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read_manifest(_file(tmp_path, content), tasks=TASKS)


def test_jsonl_lines_are_objects(tmp_path):
    for line in ("[1]", "{", "[" * 100_000):
        with pytest.raises(DataError, match="line 2: not a JSON object"):
            read_manifest(_file(tmp_path, '{"id": "a"}\n' + line, "data.jsonl"))


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "inside").mkdir()
    (tmp_path / "secret.ogg").touch()
    (tmp_path / "inside" / "link.ogg").symlink_to(tmp_path / "secret.ogg")
    with pytest.raises(DataError, match=r"'link\.ogg' leads out of .*; move the file into it"):
        read_manifest(_file(tmp_path / "inside", "id,split,audio\na,train,link.ogg\n"))


@pytest.mark.parametrize(("kind", "cells"), [("binry", "1"), ("multiclass", "x")])
def test_a_task_flag_that_cannot_be(tmp_path, kind, cells):
    told = "unknown kind; write one of binary" if kind == "binry" else "column 'mood': .* at least 2 classes"
    with pytest.raises(DataError, match=told):
        read_manifest(_file(tmp_path, f"id,split,mood\na,train,{cells}\n"), tasks={"mood": kind})


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"data\.csv cannot be read \(No such file or directory\)"):
        read_manifest(tmp_path / "data.csv")


NAMED = TaskSchema(kind="binary", classes=("no", "yes"))
STARS = TaskSchema(kind="multiclass", classes=("1", "2", "3"))
TAGS = TaskSchema(kind="multilabel", classes=("x", "y", "z"))


@pytest.mark.parametrize(
    ("task", "cell", "label"),
    [
        (TaskSchema(kind="binary"), "1", 1),
        (NAMED, "yes", 1),
        (NAMED, "0", 0),
        (STARS, "1", 0),
        (TAGS, "z|x", [1, 0, 1]),
        (TAGS, "-", [0, 0, 0]),
        (TaskSchema(kind="regression"), "-1e-3", -0.001),
    ],
)
def test_labels(task, cell, label):
    assert parse_label(task, cell) == label


@pytest.mark.parametrize(
    ("task", "cell", "message"),
    [
        (TaskSchema(kind="binary"), "2", "'2' is not one of 0, 1; an empty cell is a missing label"),
        (NAMED, "maybe", "'maybe' is not one of no, yes"),
        (STARS, "0", "'0' is not one of 1, 2, 3"),
        (TAGS, "x|w", "write names of x, y, z with | between, or - for none of them"),
    ],
)
def test_labels_that_are_not(task, cell, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message is compared below
        parse_label(task, cell)
    assert message in str(error.value)
