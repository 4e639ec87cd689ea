"""Whatever lies among the media of a data set: a line of failures.jsonl each, the rest in the store, and no code runs."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from real_media import beep, write_video

from data_prep.cli import main
from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore

soundfile = pytest.importorskip("soundfile")

GOOD = """1
00:00:02,900 --> 00:00:03,200
\u00e0 la fin

2
00:00:00,500 --> 00:00:03,000
caf\u00e9
"""


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    whole = write_video(folder / "whole.mp4").read_bytes()
    write_video(folder / "variable.mp4", times=[0, 0.033, 0.9, 1.7, 2.99, 3.0, 3.39, 3.4, 3.9])
    write_video(folder / "silent.mp4", rate=None)
    write_video(folder / "brief.mp4", rate=None, seconds=0.5)
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.mp4").write_bytes(bytes(len(whole)))
    (folder / "empty.mp4").touch()
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "table.mp4").write_text("id,split\n")
    for name, rate, subtype, channels in (
        ("eight", 8_000, "PCM_U8", 1),
        ("stereo", 44_100, "PCM_16", 2),
        ("high", 96_000, "PCM_24", 1),
    ):
        soundfile.write(folder / f"{name}.wav", np.repeat(beep(rate, 4.0)[:, None], channels, 1), rate, subtype=subtype)
    (folder / "latin.srt").write_bytes(GOOD.encode("cp1252"))
    (folder / "backwards.srt").write_text("1\n00:00:03,000 --> 00:00:01,000\nno\n")
    os.mkfifo(folder / "pipe.wav")
    (folder / "bytes.srt").write_bytes(b"\xff\xfe\x00")
    return folder


def typed(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["data_prep", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def failures(out: Path) -> dict[str, str]:
    lines = (out.parent / f"{out.name}.failures.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["id"]: f"{line['modality']}: {line['reason']}" for line in map(json.loads, lines)}


BAD = {
    "cut": (("cut.mp4", "", "1"), "not a readable sound file (Invalid data"),
    "zero": (("zero.mp4", "", "1"), "not a readable sound file (Invalid data"),
    "empty": (("empty.mp4", "", "1"), "the file is empty"),
    "noise": (("noise.mp4", "", "1"), "not a readable sound file (Invalid data"),
    "table": (("table.mp4", "", "1"), "not a readable sound file (Invalid data"),
    "absent": (("absent.mp4", "", "1"), "No such file"),
    "silent": (
        ("silent.mp4", "", "1"),
        "no audio track; where a clip has no sound, leave its cell in a column 'audio' empty",
    ),
    "brief": (("brief.mp4", "", "1"), "no audio track"),
    "backwards": (("whole.mp4", "backwards.srt", "1"), "a cue runs from 3 s to 1 s"),
    "bytes": (("whole.mp4", "bytes.srt", "1"), "said to be utf-16"),
    "seven": (("whole.mp4", "", "7"), "'7' is not one of 0, 1"),
    "pipe": (("pipe.wav", "", "1"), "'pipe.wav' is no plain file"),
    "folder": (("../whole.mp4", "", "1"), "leads out of"),
}
FINE = {
    "whole": ("whole.mp4", "", "1"),
    "variable": ("variable.mp4", "latin.srt", "0"),
    "eight": ("eight.wav", "", "1"),
    "stereo": ("stereo.wav", "", ""),
    "high": ("high.wav", "", "0"),
}


def test_all_that_is_bad_is_named_and_all_else_is_there(
    media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {**FINE, **{name: cells for name, (cells, _) in BAD.items()}}
    lines = [f"{name},train,{','.join(cells)}" for name, cells in rows.items()]
    lines.append(f"whole,train,{','.join(FINE['whole'])}")  # an id that comes twice
    (media / "clips.csv").write_text("\n".join(["id,split,audio,subtitles,loud", *lines]) + "\n")
    words = ["extract", media / "clips.csv", "--out", tmp_path / "store", "--audio", "logmel", "--task", "loud=binary"]
    assert typed(monkeypatch, *words) == 3
    said = capsys.readouterr().err
    assert "3 of 19 samples" in said  # of the table, before any medium is read
    assert not (tmp_path / "store").exists()
    assert typed(monkeypatch, *words, "--allow-failures", 13) == 3
    assert "14 of 19 samples" in capsys.readouterr().err
    assert typed(monkeypatch, *words, "--allow-failures", 14) == 0
    found = failures(tmp_path / "store")
    assert set(found) == {*BAD, "whole", "variable"}
    assert "text: 1 of its 2 cues begin before another ends" in found["variable"]  # the last of three lines about it
    for name, (_, reason) in BAD.items():
        assert reason in found[name], name
    assert "stands in line 2 too" in found["whole"]
    store = FeatureStore(tmp_path / "store")
    assert check_store(tmp_path / "store") == []
    assert [store.sample_id(index) for index in range(len(store))] == list(FINE)
    for index, name in enumerate(FINE):
        loud = np.flatnonzero(store.rows("audio", index).max(axis=1) > -1.5).tolist()
        assert loud == [30, 31, 32, 33], name  # the beep at 3.0 s, whatever the form
    assert store.text(1) == "caf\u00e9 \u00e0 la fin"  # by time, though they overlap and stand the other way round
    said = capsys.readouterr()
    report = tmp_path / "store.failures.jsonl"
    what = f"14 samples left out, 1 sample kept with flaws in the text, see {report}"
    assert said.out == f"{tmp_path / 'store'}: written; {what}\n"
    assert "cp1252" not in said.err  # it stands in the report
    assert "flaws" not in said.err
    lines = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    assert [(line["id"], line["modality"]) for line in lines if line["kept"]] == [("variable", "text")] * 3
    assert len([line for line in lines if not line["kept"]]) == 14
    assert not list(tmp_path.glob("*.partial"))


class Bomb:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.file),)


def test_arrays_that_are_none_are_named_and_nothing_of_them_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "face").mkdir()
    arrays = {
        "good": np.ones((3, 4), np.float32),
        "objects": np.array([Bomb(tmp_path / "ran")], object),
        "wide": np.ones((3, 5), np.float32),
        "deep": np.ones((2, 3, 4), np.float32),
        "nan": np.full((1, 4), np.nan, np.float32),
    }
    for name, array in arrays.items():
        np.save(tmp_path / "face" / f"{name}.npy", array, allow_pickle=True)
    (tmp_path / "face" / "bare.npy").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    (tmp_path / "face" / "zero.npy").touch()
    names = [*arrays, "bare", "zero"]
    (tmp_path / "table.csv").write_text("\n".join(["id,split", *(f"{name},train" for name in names)]) + "\n")
    words = ["import", "npy", tmp_path / "table.csv", "--modality", f"face={tmp_path / 'face'}", "--out", tmp_path / "store"]
    assert typed(monkeypatch, *words) == 3
    assert not (tmp_path / "store").exists()
    assert typed(monkeypatch, *words, "--allow-failures", 6) == 0
    found = failures(tmp_path / "store")
    assert set(found) == set(names) - {"good"}
    for name, reason in (("objects", "Python objects"), ("wide", "5 numbers, 4 numbers were expected"), ("nan", "NaN")):
        assert reason in found[name]
    assert len(FeatureStore(tmp_path / "store")) == 1
    assert not (tmp_path / "ran").exists()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
sys.argv = ["data_prep", *sys.argv[2:]]
from data_prep.cli import main
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [4_000, 30_000])
@pytest.mark.parametrize("command", ["extract", "import"])
def test_a_disk_that_takes_no_more_leaves_no_half_store(tmp_path: Path, command: str, limit: int) -> None:
    """No file may grow beyond the limit: rows of one sample meet it, or the store's own file does."""
    names = [f"c{number}" for number in range(6)]
    if command == "extract":
        for number in range(6):
            soundfile.write(tmp_path / f"c{number}.wav", beep(8_000, 4.0), 8_000)
        lines, words = [f"{name},train,{name}.wav" for name in names], ["extract", "table.csv", "--audio", "logmel"]
    else:
        (tmp_path / "face").mkdir()
        for name in names:
            np.save(tmp_path / "face" / f"{name}.npy", np.ones((100, 20), np.float32))
        lines, words = [f"{name},train" for name in names], ["import", "npy", "table.csv", "--modality", "face=face"]
    (tmp_path / "table.csv").write_text("\n".join(["id,split,audio"[: 8 if command == "import" else None], *lines]) + "\n")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *words, "--out", "store"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [entry.name for entry in tmp_path.glob("store*")] == (["store.extracting"] if command == "extract" else [])
