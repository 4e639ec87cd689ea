"""Parquet manifests, folders of media, clips cut from longer files, media elsewhere: the same samples as a CSV's."""

import json
from fractions import Fraction
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from real_media import write_video
from rich.console import Console

from data_prep.extract import extract
from data_prep.manifest import read_manifest
from data_prep.media.span import WHOLE, Span
from mmtrain.data.store import FeatureStore
from mmtrain.errors import ConfigError, DataError


def test_parquet_says_the_same_as_csv(tmp_path: Path) -> None:
    columns = {
        "id": ["a", "b"],
        "split": ["train", "val"],
        "start": [0.5, None],
        "tags": [["x", "y"], []],
        "funny": [True, None],
    }
    pq.write_table(pa.table(columns), tmp_path / "data.parquet")
    (tmp_path / "data.csv").write_text("id,split,start,tags,funny\na,train,0.5,x|y,1\nb,val,,-,\n")
    tasks = {"tags": "multilabel", "funny": "binary"}
    read, expected = (read_manifest(tmp_path / f"data.{form}", tasks=tasks) for form in ("parquet", "csv"))
    assert read.entries == expected.entries
    assert read.tasks == expected.tasks
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match=r"bad\.parquet is not Parquet"):
        read_manifest(tmp_path / "bad.parquet")


def test_a_clip_has_exact_times(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,split,start,end\na,train,0.1,30.7\nb,val,2,\nc,val,,\n")
    spans = [entry.span for entry in read_manifest(tmp_path / "data.csv").entries]
    assert spans == [Span(Fraction(1, 10), Fraction(307, 10)), Span(Fraction(2)), WHOLE]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ("-1,2", "column 'start': '-1' is not a time; write seconds, 0 or more"),
        ("0,nan", "column 'end': 'nan' is not a time"),
        ("00:01,2", "column 'start': '00:01' is not a time"),
        ("3,3", "the clip ends at 3 s and starts at 3 s"),
    ],
)
def test_times_that_are_none(tmp_path: Path, cells: str, message: str) -> None:
    (tmp_path / "data.csv").write_text(f"id,split,start,end\na,train,{cells}\n")
    with pytest.raises(DataError, match=f"line 2, sample 'a'.*{message}"):
        read_manifest(tmp_path / "data.csv")


def test_one_text_a_sample(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,split,text,subtitles\na,train,hello,a.srt\n")
    with pytest.raises(DataError, match="its text stands in more than one of the columns text, text_file, subtitles"):
        read_manifest(tmp_path / "data.csv")


@pytest.mark.parametrize(
    ("source", "texts", "files"),
    [
        ("text", ["hello", ""], [[], []]),
        ("subtitles", ["", ""], [["subtitles"], ["subtitles"]]),
        ("none", ["", ""], [[], []]),
    ],
)
def test_the_source_of_the_text_is_chosen(tmp_path: Path, source: str, texts: list[str], files: list[list[str]]) -> None:
    (tmp_path / "data.csv").write_text("id,split,text,subtitles\na,train,hello,a.srt\nb,train,,b.srt\n")
    manifest = read_manifest(tmp_path / "data.csv", text=source)
    assert [entry.text for entry in manifest.entries] == texts
    assert [list(entry.media) for entry in manifest.entries] == files
    assert not manifest.columns


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id,split,text\na,train,hello\n")
    with pytest.raises(ConfigError, match="--text words: write one of text, text_file, subtitles, or none"):
        read_manifest(tmp_path / "data.csv", text="words")
    with pytest.raises(DataError, match=r"--text subtitles: .*data\.csv has no such column; it has id, split, text"):
        read_manifest(tmp_path / "data.csv", text="subtitles")


def test_half_a_character_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    rows = [
        {"id": "whole", "group": "g1", "text": "\U0001f600"},
        {"id": "cut", "group": "g2", "text": "so \ud83d"},
        {"id": "a\udcff", "group": "g3"},
        {"id": "held", "group": "g\ud83d", "note": ""},
        {"id": "noted", "group": "g4", "note": "\ude00"},
        *({"id": f"fine{number}", "group": f"h{number}"} for number in range(9)),
    ]
    (tmp_path / "data.jsonl").write_text("\n".join(map(json.dumps, rows)))
    manifest = read_manifest(tmp_path / "data.jsonl", collect=True)
    assert len(manifest.entries) == 10
    told = [reason.reason.partition(", column ")[2].partition(" is half a character")[0] for reason in manifest.failures]
    assert told == ["'text': '\\ud83d'", "'id': '\\udcff'", "'group': '\\ud83d'", "'note': '\\ude00'"]
    with pytest.raises(DataError, match=r"line 2, sample 'cut', column 'text': '\\ud83d' is half a character, as where"):
        read_manifest(tmp_path / "data.jsonl")


def test_a_long_text_in_a_cell(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text(f"id,split,text\na,train,{'w' * 200_000}\n")
    assert len(read_manifest(tmp_path / "data.csv").entries[0].text) == 200_000


def test_media_elsewhere_only_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "data.csv").write_text("id,split,audio\na,train,../a.wav\n")
    with pytest.raises(DataError, match=r"leads out of .*, or pass --allow-outside"):
        read_manifest(tmp_path / "inside" / "data.csv")
    (entry,) = read_manifest(tmp_path / "inside" / "data.csv", allow_outside=True).entries
    assert entry.media == {"audio": tmp_path.resolve() / "a.wav"}


def _touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def test_a_folder_is_a_manifest(tmp_path: Path) -> None:
    folder = _touch(
        tmp_path / "clips",
        *("train/sad/a.mp4", "train/sad/a.srt", "train/glad/b.MP4", "val/sad/a.wav", "val/sad/a.png", "test/glad/c.txt"),
        *("train/.hidden.mp4", "train/notes.pdf"),
    )
    manifest = read_manifest(folder, tasks={"label": "multiclass"})
    assert (manifest.name, manifest.tasks["label"].classes) == ("clips", ("glad", "sad"))
    told = [(entry.id, entry.split, entry.labels["label"], sorted(entry.media)) for entry in manifest.entries]
    assert told == [
        ("test/glad/c", "test", 0, ["text_file"]),
        ("train/glad/b", "train", 0, ["video"]),
        ("train/sad/a", "train", 1, ["subtitles", "video"]),
        ("val/sad/a", "val", 1, ["audio", "image"]),
    ]
    assert manifest.entries[1].media["video"] == folder.resolve() / "train/glad/b.MP4"
    before = manifest.sha256
    _touch(folder, "val/sad/d.wav")
    assert read_manifest(folder).sha256 != before


def test_folders_that_are_laid_out_otherwise(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'train/x/y/a' lies too deep; a folder is laid out as \[split/\]\[label/\]name"):
        read_manifest(_touch(tmp_path / "deep", "train/x/y/a.mp4"))
    with pytest.raises(DataError, match=r"'train/a\.mkv' and 'train/a\.mp4' would both be the video of one sample"):
        read_manifest(_touch(tmp_path / "twice", "train/a.mp4", "train/a.mkv"))
    with pytest.raises(DataError, match="has no samples"):
        read_manifest(_touch(tmp_path / "none", "readme.md"))


def test_a_picture_beside_a_clip_has_no_time(tmp_path: Path) -> None:
    write_video(tmp_path / "film.mp4")
    Image.new("RGB", (4, 4)).save(tmp_path / "still.png")
    (tmp_path / "data.csv").write_text("id,split,video,image,start,end\na,train,film.mp4,still.png,1,2\n")
    options = {"size": 2, "frames_per_second": 10.0}
    wanted = {"video": "pixels", "image": "pixels"}
    console = Console(file=StringIO())
    told = extract(tmp_path / "data.csv", out=tmp_path / "store", wanted=wanted, options=options, console=console)
    assert told == ([], [])
    store = FeatureStore(tmp_path / "store")
    assert (store.lengths("video").tolist(), store.lengths("image").tolist()) == ([10], [1])


def test_clips_that_share_a_plain_text_are_named(tmp_path: Path) -> None:
    """Where they have times, for a text has none; a file of its own, and a whole film's, are no reason to speak."""
    for name in ("film.txt", "own.txt", "whole.txt"):
        (tmp_path / name).write_text("what is said")
    rows = ["a,train,film.txt,0,2", "b,train,film.txt,2,4", "c,train,own.txt,4,6", "d,val,whole.txt,,", "e,test,whole.txt,,"]
    (tmp_path / "data.csv").write_text("\n".join(["id,split,text_file,start,end", *rows]) + "\n")
    said = StringIO()
    extract(tmp_path / "data.csv", out=tmp_path / "store", wanted={}, console=Console(file=said, width=40))
    notes = [line for line in said.getvalue().splitlines() if line.startswith("warning")]
    assert notes == [
        f"warning: {tmp_path}/film.txt is the whole text of 2 clips: a plain text has no times to cut it by. Give each clip "
        "a file of its own, or subtitles"
    ]
