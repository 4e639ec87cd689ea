"""`data_prep import npy` and `export npy`: what goes in comes out to the bit, and what does not fit is named."""

import contextlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.cli import main
from data_prep.importers.arrays import file_name, read_array
from mmtrain.data.check import check_store
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import DataError

ROWS = [
    {
        "id": "a/1",
        "split": "train",
        "group": "f",
        "text": "one, \u00e9\n two",
        "mood": 0.1,
        "tags": ["x", "y"],
        "kind": "sad",
    },
    {"id": "b", "split": "val", "group": "b", "text": "", "mood": None, "tags": [], "kind": "glad", "funny": 1},
    {"id": "c d", "split": "test", "group": "c", "text": "z", "mood": -1e-17, "tags": None, "kind": None, "funny": 0},
]
TASKS = ("--task", "mood=regression", "--task", "tags=multilabel", "--task", "kind=multiclass", "--task", "funny=binary")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("sys.argv", ["data_prep", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return end.value.code, captured.out + captured.err

    return run


@pytest.fixture
def folder(tmp_path):
    """Three samples: `audio` float32 of two, `face` float16 of one, `frames` pixels of one."""
    for name in ("audio", "face", "frames"):
        (tmp_path / name).mkdir()
    numbers = np.random.default_rng(0)
    np.save(tmp_path / "audio" / "a%2F1.npy", numbers.normal(size=(5, 3)).astype(np.float32))
    np.save(tmp_path / "audio" / "c d.npy", numbers.normal(size=(1, 3)).astype(np.float32))
    np.save(tmp_path / "face" / "b.npy", numbers.normal(size=(2, 4)).astype(np.float16))
    np.save(tmp_path / "frames" / "b.npy", numbers.integers(0, 256, (2, 3, 4, 5), dtype=np.uint8))
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    return tmp_path


def files(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.npy")}


def test_npy_to_store_to_npy_is_exact(folder, run):
    modalities = [word for name in ("audio", "face", "frames") for word in ("--modality", f"{name}={name}")]
    code, said = run("import", "npy", "table.jsonl", "--out", "store", *modalities, *TASKS, "--licence", "CC0-1.0")
    assert code == 0, said
    assert check_store(folder / "store") == []
    assert "audio: missing in 1 of 3 samples" in said
    store = FeatureStore(folder / "store")
    assert [(spec.dtype, spec.row_shape) for spec in store.schema.modalities.values()] == [
        ("float32", (3,)),
        ("float16", (4,)),
        ("uint8", (3, 4, 5)),
    ]
    code, said = run("export", "npy", "store", "--out", "back")
    assert code == 0, said
    assert "back: 3 samples, 4 files" in said
    wanted = {name: content for name, content in files(folder).items() if not name.startswith("back")}
    assert files(folder / "back") == wanted
    rows = [json.loads(line) for line in (folder / "back" / "table.jsonl").read_text().splitlines()]
    assert rows == [{"funny": None, **row} for row in ROWS]
    described = json.loads((folder / "back" / "table.json").read_text())
    assert (described["name"], described["licence"]) == ("table", "CC0-1.0")
    assert not (folder / "back.partial").exists()


def test_the_store_of_an_export_has_the_same_data(folder, run):
    tasks = {
        "kind": TaskSchema(kind="multiclass", classes=("z", "a b")),
        "tags": TaskSchema(kind="multilabel", classes=("y", "x")),
        "funny": TaskSchema(kind="binary", classes=("no", "yes")),
    }
    with StoreWriter(
        folder / "one",
        name="one",
        modalities={"audio": FeatureSpec(dim=2)},
        tasks=tasks,
        columns={"speed": pa.float64(), "note": pa.string()},
    ) as writer:
        rows = np.array([[1e-30, -0.0]], np.float32)
        for index, split in enumerate(("train", "val", "test")):
            labels = {"kind": index % 2, "tags": [index % 2, 0], "funny": 1} if index else {}
            columns = {"speed": index / 3, "note": None if index else "x"}
            features = {"audio": rows} if index else {}
            writer.add(
                id=f"../{index}", split=split, group="", text="\t ", features=features, labels=labels, columns=columns
            )
    assert run("export", "npy", "one", "--out", "npy")[0] == 0
    code, said = run("import", "npy", "npy/table.jsonl", "--modality", "audio=npy/audio", "--out", "two")
    assert code == 0, said
    one, two = FeatureStore(folder / "one"), FeatureStore(folder / "two")
    assert two.schema.tasks == one.schema.tasks
    kept = [name for name in one.table.column_names if name != "group"]  # an empty group becomes one of its own
    assert two.table.select(kept).to_pylist() == one.table.select(kept).to_pylist()
    assert [two.rows("audio", index).tobytes() for index in range(3)] == [b"", rows.tobytes(), rows.tobytes()]


def test_a_table_may_be_csv_json_or_parquet(folder, run):
    plain = [{key: row.get(key) for key in ("id", "split", "group", "text", "mood")} for row in ROWS]
    (folder / "a.json").write_text(json.dumps(plain))
    (folder / "b.json").write_text(json.dumps({row["id"]: {k: v for k, v in row.items() if k != "id"} for row in plain}))
    pq.write_table(pa.Table.from_pylist(plain), folder / "c.parquet")
    (folder / "d.csv").write_text(
        'id,split,group,text,mood\na/1,train,f,"one, \u00e9\n two",0.1\nb,val,b,,\nc d,test,c,z,-1e-17\n'
    )
    tables = []
    for number, name in enumerate(("a.json", "b.json", "c.parquet", "d.csv")):
        given = ("--modality", "audio=audio", "--task", "mood=regression", "--out", f"s{number}")
        code, said = run("import", "npy", name, *given)
        assert code == 0, said
        tables.append(FeatureStore(folder / f"s{number}").table.to_pylist())
    assert tables[0][0]["mood"] == 0.1
    assert all(table == tables[0] for table in tables)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.json", "{", "t.json is not JSON"),
        ("t.json", "3", "t.json is neither a list of objects nor an object of objects by id"),
        ("t.json", "[3]", "t.json is neither a list of objects nor an object of objects by id"),
        ("t.json", "[]", "t.json has no samples"),
        ("t.parquet", "PAR1", "t.parquet is not Parquet"),
        ("t.csv", "name\nb\n", "t.csv has no column 'id'"),
    ],
)
def test_a_table_that_is_none_is_named(folder, run, name, content, words):
    (folder / name).write_text(content)
    code, said = run("import", "npy", name, "--modality", "audio=audio", "--out", "store")
    assert code == 2
    assert words in said


def test_parquet_cells_that_are_no_text_or_number_are_named(folder, run):
    pq.write_table(pa.table({"id": ["a"], "when": pa.array([0], pa.timestamp("s"))}), folder / "t.parquet")
    code, said = run("import", "npy", "t.parquet", "--modality", "audio=audio", "--out", "store")
    assert (code, "a cell is neither text nor number" in said) == (2, True)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((2, 4), np.float32), "has rows of 4 numbers, 3 numbers were expected (as in a%2F1.npy)"),
        (np.ones((0, 3), np.float32), "has shape (0, 3): not one row"),
        (np.ones((2, 3, 1), np.float32), "has shape (2, 3, 1); rows [T, D] were expected"),
        (np.array([{}], object), "holds Python objects, which could run code and are not read"),
        (np.array([["a", "b", "c"]]), "holds <U1, numbers were expected"),
        (np.ones((1, 3), complex), "holds complex128, numbers were expected"),
        (np.array(1.0), "has shape ()"),
        (np.full((1, 3), np.nan), "NaN or Inf in audio"),
        (b"\x93NUMPY\x01\x00\xff", "is not a whole .npy file"),
        (b"", "is not a whole .npy file"),
        (b"\x80\x04N.", "is not a whole .npy file"),
    ],
)
def test_a_file_that_does_not_fit_fails_its_sample(folder, run, array, words):
    if isinstance(array, bytes):
        (folder / "audio" / "b.npy").write_bytes(array)
    else:
        np.save(folder / "audio" / "b.npy", array, allow_pickle=True)
    arguments = ("import", "npy", "table.jsonl", "--modality", "audio=audio", "--out", "store")
    code, said = run(*arguments)
    assert code == 3
    assert "1 of 3 samples cannot be imported (0 allowed)" in said
    assert words in said
    assert not (folder / "store").exists()
    code, _ = run(*arguments, "--allow-failures", "1")
    assert code == 0
    assert FeatureStore(folder / "store").column("id").to_pylist() == ["a/1", "c d"]
    record = json.loads((folder / "store.failures.jsonl").read_text())
    assert (record["id"], record["kept"]) == ("b", False)
    assert words in record["reason"]


def test_rows_of_the_table_that_are_no_sample_are_failures(folder, run):
    rows = ["a/1,train,glad", "a/1,train,glad", "c d,val,furious", "b,train,sad"]
    (folder / "t.csv").write_text("\n".join(["id,split,mood", *rows]))
    (folder / "t.json").write_text(json.dumps({"tasks": {"mood": {"kind": "multiclass", "classes": ["glad", "sad"]}}}))
    arguments = ("import", "npy", "t.csv", "--modality", "audio=audio", "--out", "store")
    code, said = run(*arguments)
    assert code == 3
    assert "2 of 4 samples cannot be imported (0 allowed)" in said
    assert run(*arguments, "--allow-failures", "2")[0] == 0
    assert FeatureStore(folder / "store").column("id").to_pylist() == ["a/1", "b"]
    told = [json.loads(line) for line in (folder / "store.failures.jsonl").read_text().splitlines()]
    assert [(line["id"], line["modality"]) for line in told] == [("a/1", "manifest"), ("c d", "manifest")]
    assert "stands in line 2 too" in told[0]["reason"]
    assert "'furious' is not one of glad, sad" in told[1]["reason"]
    (folder / "t.csv").write_text("id,split,mood\na/1,train,furious\n")
    code, said = run(*arguments, "--overwrite")
    assert (code, "1 of 1 samples cannot be imported" in said) == (3, True)


def test_one_row_wide_types_and_what_is_known_of_rows(folder, run):
    np.save(folder / "audio" / "b.npy", np.array([1, 2, 3]))
    given = ("--modality", "audio=audio", "--extractor", "audio=vggish", "--rate", "audio=1.5")
    code, said = run("import", "npy", "table.jsonl", "--out", "store", *given)
    assert code == 0, said
    store = FeatureStore(folder / "store")
    assert store.rows("audio", 1).tolist() == [[1, 2, 3]]
    spec = store.schema.modalities["audio"]
    assert (spec.extractor, spec.rows_per_second) == ("vggish", 1.5)


def test_float16_among_others_is_named(folder, run):
    np.save(folder / "face" / "c d.npy", np.ones((1, 4), np.float32))
    code, said = run("import", "npy", "table.jsonl", "--modality", "face=face", "--out", "store")
    assert code == 3
    assert "is float32, float16 was expected (as in b.npy); make all files float16 or none" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--modality", "audio=nowhere"), "--modality audio=nowhere: not a folder"),
        (("--modality", "audio"), "--modality audio: write name=value, each name once"),
        (("--modality", "audio=audio", "--rate", "audio=0"), "--rate audio=0: write a number above 0"),
        (("--modality", "audio=audio", "--rate", "audio=x"), "--rate audio=x: write a number above 0"),
        (
            ("--modality", "audio=audio", "--extractor", "face=x"),
            "--extractor face: no --modality of that name; there are audio",
        ),
        (("--modality", "audio=empty"), "empty has not one file for 'audio' that can be read: no empty/a%2F1.npy"),
        (
            ("--modality", "audio=bad"),
            "bad has not one file for 'audio' that can be read: bad/b.npy is not a whole .npy file",
        ),
    ],
)
def test_flags_that_do_not_fit_are_named(folder, run, arguments, words):
    (folder / "empty").mkdir()
    (folder / "bad").mkdir()
    (folder / "bad" / "b.npy").touch()
    code, said = run("import", "npy", "table.jsonl", "--out", "store", *arguments)
    assert code == 2
    assert words in said


def test_what_cannot_be_exported_is_named_and_leaves_nothing(tmp_path, run):
    for number, (sample, task, label, words) in enumerate(
        [
            ("x" * 300, TaskSchema(kind="binary"), 1, "its id is too long for a file's name"),
            ("a", TaskSchema(kind="multilabel", classes=("a|b", "c")), [1, 0], "the label [1, 0] cannot be written"),
        ]
    ):
        store = tmp_path / f"s{number}"
        with StoreWriter(store, name="s", modalities={"audio": FeatureSpec(dim=1)}, tasks={"t": task}) as writer:
            features = {"audio": np.ones((1, 1), np.float32)}
            writer.add(id=sample, split="train", group="g", features=features, labels={"t": label})
        code, said = run("export", "npy", store, "--out", "npy")
        assert code == 2
        assert words in said
        assert not list(tmp_path.glob("npy*"))
    (tmp_path / "npy").mkdir()
    assert run("export", "npy", store, "--out", "npy") == (2, "npy exists already; choose another folder\n")


@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30), min_size=2, max_size=2, unique=True)
)
@settings(max_examples=200)
def test_no_id_leaves_its_folder_and_no_two_share_a_file(names):
    found = [file_name(name) for name in names]
    assert found[0] != found[1]
    assert not any(set(name) & set("/\\\0") or name.startswith(".") for name in found)


@given(st.binary(max_size=80), st.integers(0, 127))
@settings(max_examples=100)
def test_damaged_bytes_are_a_named_error(tmp_path_factory, noise, place):
    file = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(file, np.ones((4, 3), np.float32))
    content = bytearray(file.read_bytes())
    content[place : place + len(noise)] = noise
    file.write_bytes(content)
    with contextlib.suppress(DataError):
        read_array(file)


def test_a_link_that_leads_out_of_its_folder_is_refused(folder, run):
    outside, audio = folder / "outside", folder / "audio"
    outside.mkdir()
    (audio / "c d.npy").rename(outside / "secret.npy")
    (audio / "c d.npy").symlink_to(outside / "secret.npy")
    (audio / "b.npy").symlink_to("a%2F1.npy")  # stays inside
    words = ("import", "npy", "table.jsonl", "--modality", "audio=audio", *TASKS, "--out")
    code, said = run(*words, "store", "--allow-failures", 1)
    assert code == 0, said
    (failure,) = map(json.loads, (folder / "store.failures.jsonl").read_text().splitlines())
    assert failure["id"] == "c d"
    refusal = "is a link that leads out of its folder, to"
    assert f"{refusal} {outside / 'secret.npy'}; copy it, or pass --allow-outside" in failure["reason"]
    store = FeatureStore(folder / "store")
    assert store.lengths("audio").tolist() == [5, 5]
    code, said = run(*words, "all", "--allow-outside")
    assert code == 0, said
    assert FeatureStore(folder / "all").lengths("audio").tolist() == [5, 5, 1]
    (folder / "elsewhere").symlink_to(audio)  # a folder that was named is meant
    code, said = run(*words, "linked", "--modality", "more=elsewhere", "--allow-failures", 1)
    assert code == 0, said
    assert FeatureStore(folder / "linked").lengths("more").tolist() == [5, 5]


def test_where_every_file_leads_out_none_is_read(folder, run):
    (folder / "audio").rename(folder / "outside")
    (folder / "audio").mkdir()
    (folder / "audio" / "b.npy").symlink_to(folder / "outside" / "c d.npy")
    code, said = run("import", "npy", "table.jsonl", "--modality", "audio=audio", *TASKS, "--out", "store")
    assert code == 2
    assert "is a link that leads out of its folder" in said


def test_a_link_that_leads_nowhere_is_no_missing_modality(folder, run):
    """Such as to a disk that is not there."""
    (folder / "audio" / "b.npy").symlink_to(folder / "audio" / "gone.npy")
    code, _ = run("import", "npy", "table.jsonl", "--modality", "audio=audio", *TASKS, "--out", "store")
    assert code == 3
    assert "b.npy is missing" in (folder / "store.failures.jsonl").read_text()
