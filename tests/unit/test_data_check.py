"""`check_store`: one line for each thing wrong, naming store, sample and column, whatever was done to the store."""

import hashlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.filtering import filter_store
from mmtrain.data.check import check_store
from mmtrain.data.check_table import MAX_SHOWN
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.store import FeatureStore
from mmtrain.data.writer import StoreWriter

HEADER = 512  # bytes of a feature file before its values
SPLITS = ("train", "train", "val", "test")
CLIPS = "store 'clips', "


def _write(path: Path, shard_bytes: int = 1 << 20) -> Path:
    """Four samples s0 .. s3 with 1 .. 4 rows of audio (the last has none of video) and one label."""
    modalities = {"audio": FeatureSpec(dim=2), "video": FeatureSpec(dim=3, dtype="float16")}
    tasks = {"topic": TaskSchema(kind="multiclass", classes=("a", "b")), "mood": TaskSchema(kind="regression")}
    with StoreWriter(path, name="clips", modalities=modalities, tasks=tasks, shard_bytes=shard_bytes) as writer:
        for index, split in enumerate(SPLITS):
            features = {"audio": np.ones((index + 1, 2), np.float32)}
            if index < 3:
                features["video"] = np.ones((1, 3), np.float16)
            labels = {"topic": index % 2, "mood": 0.5}
            group = f"g{index}"
            writer.add(id=f"s{index}", split=split, group=group, text="hi" * index, features=features, labels=labels)
    return path


def _rehash(path: Path) -> None:
    """Make dataset.json agree with the files again, as someone would who changes data behind its back."""
    file = path / "dataset.json"
    schema = json.loads(file.read_text())
    for name in schema["files"]:
        content = (path / name).read_bytes()
        schema["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    file.write_text(json.dumps(schema))


def _column(path: Path, name: str, values: list, kind: pa.DataType | None = None) -> None:
    table = pq.read_table(path / "samples.parquet", partitioning=None)
    place = table.column_names.index(name)
    column = pa.array(values, kind or table.schema.field(name).type)
    pq.write_table(table.set_column(place, name, column), path / "samples.parquet")
    _rehash(path)


def _patch(path: Path, name: str, offset: int, content: bytes) -> None:
    data = bytearray((path / name).read_bytes())
    offset %= len(data)
    data[offset : offset + len(content)] = content
    (path / name).write_bytes(data)
    _rehash(path)


def _edit(path: Path, change: Callable[[dict], object]) -> None:
    file = path / "dataset.json"
    schema = json.loads(file.read_text())
    change(schema)
    file.write_text(json.dumps(schema))


@pytest.mark.parametrize("shard_bytes", [1, 1 << 20])
def test_a_whole_store_has_no_defects(tmp_path, shard_bytes):
    assert check_store(_write(tmp_path / "store", shard_bytes)) == []


NAN = np.float32(np.nan).tobytes()
CHANGES = {
    "duplicate id": (
        lambda p: _column(p, "id", ["s0", "s1", "s0", "s3"]),
        [CLIPS + "sample 's0', column 'id': the id stands in row 0 too; ids are unique"],
    ),
    "empty id": (lambda p: _column(p, "id", ["s0", None, "s2", "s3"]), ["column 'id': the id is empty"]),
    "unknown split": (
        lambda p: _column(p, "split", ["train", "dev", "val", None]),
        [
            CLIPS + "sample 's1', column 'split': unknown split 'dev'; it is one of train, val, test",
            CLIPS + "sample 's3', column 'split': unknown split None; it is one of train, val, test",
        ],
    ),
    "straddling group": (
        lambda p: _column(p, "group", ["g0", "g1", "g0", "g3"]),
        [CLIPS + "sample 's2', column 'group': group 'g0' straddles the splits 'train' and 'val'"],
    ),
    "empty group": (
        lambda p: _column(p, "group", ["g0", "", "g2", "g3"]),
        ["sample 's1', column 'group': the group is empty"],
    ),
    "label 7": (
        lambda p: _column(p, "topic", [0, 7, None, 1]),
        [CLIPS + "sample 's1', column 'topic': label 7 is not a class 0 .. 1 (multiclass)"],
    ),
    "label NaN": (
        lambda p: _column(p, "mood", [0.5, 0.5, float("nan"), 1]),
        [CLIPS + "sample 's2', column 'mood': label nan is not a finite number"],
    ),
    "labels as text": (
        lambda p: _column(p, "mood", ["1", "2", "3", "4"], pa.string()),
        [CLIPS + "column 'mood': holds string, a number was expected"],
    ),
    "ids as numbers": (
        lambda p: _column(p, "id", [1, 2, 3, 4], pa.int64()),
        ["column 'id': holds int64, text was expected"],
    ),
    "text changed": (
        lambda p: _column(p, "text", ["", "hi", "hihi", "gone"]),
        [CLIPS + "sample 's3', column 'text_characters': 6 is recorded, the text has 4 characters"],
    ),
    "NaN in a row": (
        lambda p: _patch(p, "audio.safetensors", HEADER + 3 * 8, NAN),
        [CLIPS + "sample 's2', column 'audio': its rows hold NaN or Inf"],
    ),
    "Inf in half precision": (
        lambda p: _patch(p, "video.safetensors", HEADER + 6, np.float16(np.inf).tobytes()),
        [CLIPS + "sample 's1', column 'video': its rows hold NaN or Inf"],
    ),
    "offsets out of order": (
        lambda p: _patch(p, "audio.safetensors", -32, (7).to_bytes(8, "little")),
        [CLIPS + "sample 's1', column 'audio': offsets 7:3 do not lie in order within the 10 rows"],
    ),
    "last offset beyond the rows": (
        lambda p: _patch(p, "audio.safetensors", -8, (1 << 40).to_bytes(8, "little")),
        ["sample 's3', column 'audio': offsets 6:1099511627776", "offsets run from 0 to 1099511627776, from 0 to 10"],
    ),
    "negative offset": (
        lambda p: _patch(p, "audio.safetensors", -40, (-1).to_bytes(8, "little", signed=True)),
        ["sample 's0', column 'audio': offsets -1:1", "offsets run from -1 to 10"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_behind_the_hash(tmp_path, change):
    path = _write(tmp_path / "store")
    act, expected = CHANGES[change]
    act(path)
    lines = check_store(path)
    missed = [text for text in expected if not any(text in line for line in lines)]
    assert (missed, len(lines)) == ([], len(expected)), lines
    assert all(line.startswith(CLIPS) for line in lines)


def test_a_missing_column_is_named(tmp_path):
    path = _write(tmp_path / "store")
    table = pq.read_table(path / "samples.parquet", partitioning=None)
    pq.write_table(table.drop_columns(["mood", "group"]), path / "samples.parquet")
    _rehash(path)
    lines = check_store(path)
    assert [line.partition(";")[0] for line in lines] == [
        f"{CLIPS}column 'group': the column is missing",
        f"{CLIPS}column 'mood': the column is missing",
    ]


def test_a_sample_with_nothing_in_it(tmp_path):
    with StoreWriter(tmp_path / "store", name="clips", modalities={"audio": FeatureSpec(dim=1)}) as writer:
        writer.add(id="silent", split="train", group="a", text="words")
        writer.add(id="wordless", split="train", group="b", features={"audio": np.ones((1, 1))})
        writer.add(id="bare", split="train", group="c", text="  ")
    assert check_store(tmp_path / "store") == [
        "store 'clips', sample 'bare', column 'text': the text is empty and it has no rows in audio: "
        "the sample has nothing to learn from. Leave out all such samples: python -m data_prep filter "
        f"{tmp_path}/store --where "
        + shlex.quote("(text_characters > 0 or audio.rows > 0) and id not in ('bare',)")
        + " --out NEW"
    ]


@pytest.mark.parametrize("modality", ["audio", "audio-2", "in"])
def test_the_command_for_samples_with_nothing_in_them_leaves_them_out(tmp_path, modality):
    with StoreWriter(tmp_path / "store", name="clips", modalities={modality: FeatureSpec(dim=1)}) as writer:
        writer.add(id="silent", split="train", group="a", text="words")
        writer.add(id="wordless", split="train", group="b", text=" ", features={modality: np.ones((1, 1))})
        for number, text in enumerate(("", "  ", " \t")):
            writer.add(id=f"it's {number}", split="train", group="c", text=text)
    lines = check_store(tmp_path / "store")
    assert len(lines) == 3
    words = shlex.split(lines[0].partition("python -m data_prep ")[2])
    assert words[:2] == ["filter", str(tmp_path / "store")]
    filter_store(Path(words[1]), where=words[words.index("--where") + 1], out=tmp_path / "new")
    assert FeatureStore(tmp_path / "new").column("id").to_pylist() == ["silent", "wordless"]
    assert check_store(tmp_path / "new") == []


def test_many_defects_are_named_in_part_and_counted(tmp_path):
    with StoreWriter(tmp_path / "store", name="clips") as writer:
        for index in range(MAX_SHOWN + 5):
            writer.add(id=str(index), split="train", group="g")
    lines = check_store(tmp_path / "store")
    assert len(lines) == MAX_SHOWN + 1
    assert lines[-1] == "store 'clips', column 'text': ... and 5 more defects of this kind"


@pytest.mark.parametrize("file", ["audio.safetensors", "video.safetensors", "samples.parquet"])
def test_a_flipped_bit_a_cut_and_a_lost_file(tmp_path, file):
    path = _write(tmp_path / "store")
    content = (path / file).read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    (path / file).write_bytes(flipped)
    assert any(f"file '{file}': its sha256 is" in line and "the bytes have changed" in line for line in check_store(path))
    (path / file).write_bytes(content[:-9])
    told = f"{CLIPS}file '{file}': has {len(content) - 9} bytes, dataset.json says {len(content)}"
    assert told in check_store(path)
    (path / file).unlink()
    assert f"{CLIPS}file '{file}': cannot be read (No such file or directory)" in check_store(path)


def test_lies_in_dataset_json(tmp_path):
    path = _write(tmp_path / "store")
    (tmp_path / "secret").write_text("x")
    record = {"bytes": 1, "sha256": "0" * 64}
    _edit(path, lambda schema: schema["files"].update({"../secret": record}))
    assert check_store(path) == [CLIPS + "file '../secret': is not a plain file inside the store"]
    _edit(path, lambda schema: [schema["files"].pop(name) for name in ("../secret", "audio.safetensors")])
    assert check_store(path) == [CLIPS + "file 'audio.safetensors': dataset.json records no size and hash for it"]
    _edit(path, lambda schema: schema["modalities"]["audio"].update(dim=4))
    assert any("column 'audio'" in line and "dataset.json says F32 (10, 4)" in line for line in check_store(path))
    _edit(path, lambda schema: schema["modalities"]["audio"]["shards"][0].update(file="../secret"))
    assert check_store(path)[0].startswith(f"{path / 'dataset.json'}: modalities.audio.shards.0.file")
    _edit(path, lambda schema: schema.clear())
    assert len(check_store(path)) == 1
    assert check_store(tmp_path)[0].endswith("is not a feature store: it has no dataset.json")
    assert check_store(tmp_path / "nowhere")[0].startswith(f"there is no store {tmp_path}/nowhere; ")


def test_another_number_of_samples_than_promised(tmp_path):
    with StoreWriter(tmp_path / "store", name="clips") as writer:
        writer.add(id="a", split="train", group="g", text="hi")
    _edit(tmp_path / "store", lambda schema: schema.update(samples=2))
    assert check_store(tmp_path / "store") == [
        "store 'clips', column 'id': samples.parquet has 1 samples, dataset.json says 2"
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_random_damage_gives_lines_and_never_an_exception(tmp_path_factory, data):
    """Bytes overwritten anywhere, hashes made to agree: check_store returns, and reports what breaks the format."""
    path = _write(tmp_path_factory.mktemp("damage") / "store")
    file = data.draw(st.sampled_from(["audio.safetensors", "samples.parquet"]))
    size = (path / file).stat().st_size
    if data.draw(st.booleans()):
        _patch(path, file, data.draw(st.integers(0, size - 1)), data.draw(st.binary(min_size=1, max_size=16)))
    else:
        (path / file).write_bytes((path / file).read_bytes()[: data.draw(st.integers(0, size - 1))])
        _rehash(path)
        assert check_store(path)
    assert all(isinstance(line, str) and "\n" not in line for line in check_store(path))
