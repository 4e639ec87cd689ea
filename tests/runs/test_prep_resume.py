"""An extraction that is killed goes on where it stopped, and ends with the bytes of one that nothing cut."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from real_media import beep, write_video
from rich.console import Console

from data_prep import extract as extraction
from data_prep.extract import extract
from data_prep.extractors.logmel import LogMel
from data_prep.failures import MediaError
from mmtrain.data.check import check_store
from mmtrain.data.store import FeatureStore
from mmtrain.errors import DataError

soundfile = pytest.importorskip("soundfile")

CLIPS = 6


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Six clips of one sound file."""
    soundfile.write(tmp_path / "film.wav", beep(8000, 4.0), 8000)
    rows = [f"c{n},{('train', 'val', 'test')[n % 3]},film.wav,{n // 2},{3 + n % 2},{n % 2}" for n in range(CLIPS)]
    (tmp_path / "clips.csv").write_text("\n".join(["id,split,audio,start,end,loud", *rows]) + "\n")
    return tmp_path / "clips.csv"


def run(manifest: Path, name: str, **options: object) -> Path:
    out = manifest.parent / name
    options = {"wanted": {"audio": "logmel"}, "tasks": {"loud": "binary"}, **options}
    extract(manifest, out=out, console=Console(quiet=True), **options)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def counted(monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None] = lambda _: None) -> list[object]:
    """The calls of the extractor from now on; `before` may end one."""
    calls: list[object] = []
    original = LogMel.__call__

    def call(self, file, span):
        before(len(calls))
        calls.append(span)
        return original(self, file, span)

    monkeypatch.setattr(LogMel, "__call__", call)
    return calls


KILL = """
import os, signal, sys
from data_prep.finished import Finished
from data_prep.__main__ import main
save, left = Finished.save, [int(sys.argv.pop(1))]
def dying(self, place, rows):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    save(self, place, rows)
Finished.save = dying
main()
"""


def test_killed_and_resumed_gives_the_bytes_of_an_unbroken_one(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(run(manifest, "whole"))
    arguments = [
        "extract",
        str(manifest),
        "--out",
        str(manifest.parent / "cut"),
        "--audio",
        "logmel",
        "--task",
        "loud=binary",
    ]
    command = [sys.executable, "-c", KILL, "3", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert not (manifest.parent / "cut").exists()
    calls = counted(monkeypatch)
    out = run(manifest, "cut")
    assert len(calls) == CLIPS - 3
    assert contents(out) == whole
    assert check_store(out) == []
    assert sorted(file.name for file in manifest.parent.iterdir()) == ["clips.csv", "cut", "film.wav", "whole"]


def test_killed_while_the_store_is_written_it_extracts_nothing_anew(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(run(manifest, "whole"))
    close = extraction.StoreWriter.close

    def stopped(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extraction.StoreWriter, "close", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(manifest, "cut")
    assert not list(manifest.parent.glob("cut*partial"))
    monkeypatch.setattr(extraction.StoreWriter, "close", close)
    calls = counted(monkeypatch)
    assert contents(run(manifest, "cut")) == whole
    assert calls == []


@pytest.mark.parametrize("workers", [2, 5])
def test_the_store_does_not_depend_on_workers(manifest: Path, workers: int) -> None:
    assert contents(run(manifest, "many", workers=workers)) == contents(run(manifest, "one"))


def test_what_changed_is_extracted_anew_and_what_was_damaged_too(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def end(call: int) -> None:
        if call == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        counted(patch, end)
        with pytest.raises(KeyboardInterrupt):
            run(manifest, "cut")
    places = sorted((manifest.parent / "cut.extracting").rglob("*.safetensors"))
    assert len(places) == 4
    places[0].write_bytes(b"")
    calls = counted(monkeypatch)
    assert contents(run(manifest, "cut")) == contents(run(manifest, "whole"))
    assert len(calls) == (CLIPS - 4 + 1) + CLIPS
    with monkeypatch.context() as patch:
        counted(patch, end)
        with pytest.raises(KeyboardInterrupt):
            run(manifest, "third")
    soundfile.write(manifest.parent / "film.wav", beep(16_000, 4.0), 16_000)
    del calls[:]
    run(manifest, "third")
    assert len(calls) == CLIPS


def test_bad_rows_and_bad_files_are_collected_and_counted(tmp_path: Path) -> None:
    write_video(tmp_path / "good.mp4")
    write_video(tmp_path / "silent.mp4", rate=None, seconds=0.5)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "bad.srt").write_text("no cue at all")
    rows = [
        "good,train,,good.mp4,,1",
        "good,train,,good.mp4,,1",
        "strange,train,,good.mp4,,7",
        "outside,train,,../good.mp4,,1",
        "silent,train,,silent.mp4,,1",
        "empty,train,,empty.mp4,,1",
        "unsaid,train,,good.mp4,bad.srt,1",
        "text,val,hello,,,0",
    ]
    (tmp_path / "clips.csv").write_text("\n".join(["id,split,text,video,subtitles,loud", *rows]) + "\n")
    with pytest.raises(
        MediaError, match=r"3 of 8 samples .* \(2 allowed\).*sample 'good'.*the id 'good' stands in line 2 too"
    ):
        run(tmp_path / "clips.csv", "store", allow_failures=2)
    assert not (tmp_path / "store.extracting").exists(), "told before anything is extracted"
    with pytest.raises(MediaError, match=r"6 of 8 samples .* \(5 allowed\).*--allow-failures 6"):
        run(tmp_path / "clips.csv", "store", allow_failures=5)
    assert not (tmp_path / "store").exists()
    store = FeatureStore(run(tmp_path / "clips.csv", "store", allow_failures=6))
    assert [store.sample_id(index) for index in range(len(store))] == ["good", "text"]
    assert store.lengths("audio").tolist()[1] == 0
    failures = [json.loads(line) for line in (tmp_path / "store.failures.jsonl").read_text().splitlines()]
    told = [(failure["id"], failure["modality"], failure["reason"].split(": ")[-1]) for failure in failures]
    assert [(name, modality) for name, modality, _ in told] == [
        ("good", "manifest"),
        ("strange", "manifest"),
        ("outside", "manifest"),
        ("silent", "audio"),
        ("empty", "audio"),
        ("unsaid", "text"),
    ]
    for (_, _, reason), words in zip(
        told,
        ("stands in line 2", "'7' is not one of 0, 1", "leads out of", "no audio", "is empty", "subtitles"),
        strict=True,
    ):
        assert words in reason


def test_two_extractions_into_one_folder(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def inside(call: int) -> None:
        if call == 0:
            with pytest.raises(DataError, match=r"another process extracts into .* now; wait for it"):
                run(manifest, "out")

    counted(monkeypatch, inside)
    run(manifest, "out")


def test_a_full_disk_is_one_sentence_and_keeps_what_is_done(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise OSError(28, "No space left on device")

    for name in ("data_prep.finished.os.fsync", "mmtrain.data.feature_files.os.fsync"):
        with monkeypatch.context() as patch:
            patch.setattr(name, full)
            with pytest.raises(
                DataError, match=r"cannot be written \(No space left on device\)\. What is extracted is kept"
            ):
                run(manifest, "out")
        assert not (manifest.parent / "out").exists()
        assert not (manifest.parent / "out.partial").exists()
        assert not list((manifest.parent / "out.extracting").rglob("*.partial"))
    run(manifest, "out")
