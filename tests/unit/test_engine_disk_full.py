"""A disk that refuses: whatever call it is, the old checkpoint stands, nothing half-made stays, and the next save works."""

import errno
import fcntl
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import safetensors.torch
import torch

from mmtrain.engine.checkpoint import Checkpoint, newest_valid, point, prune, read_checkpoint, save_checkpoint, step_folder
from mmtrain.engine.jsonl import JsonLines, append, read_jsonl
from mmtrain.engine.run_folder import write_whole
from mmtrain.errors import CheckpointError
from mmtrain.evaluation.prediction_file import write_predictions

CALLS = {
    "fsync": (os, "fsync"),
    "rename": (os, "rename"),
    "mkdir": (os, "mkdir"),
    "write": (Path, "write_text"),
    "tensors": (safetensors.torch, "save_file"),
    "link": (os, "symlink"),
    "replace": (os, "replace"),
}


def content(step: int) -> Checkpoint:
    tensors = {"model": {"weight": torch.full((2, 3), float(step))}, "random": {"torch": torch.arange(8)}}
    return Checkpoint(tensors, {"step": step}, {"config.yaml": "name: a\n"})


def save(root: Path, step: int) -> None:
    """As a run does it."""
    folder = save_checkpoint(root, step, content(step))
    point(root, "last", folder)
    prune(root, keep=2, step=step)


def fail_at(number: int, function: Callable[..., Any], *, before: bool) -> tuple[Callable[..., Any], list[int]]:
    """`function`, whose `number`-th call raises ENOSPC, before it does anything or when all is done."""
    calls = [0]

    def failing(*arguments: Any, **words: Any) -> Any:
        calls[0] += 1
        if calls[0] != number:
            return function(*arguments, **words)
        if not before:
            function(*arguments, **words)
        raise OSError(errno.ENOSPC, "No space left on device", "somewhere")

    return failing, calls


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("call", CALLS)
def test_every_call_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, before: bool) -> None:
    owner, name = CALLS[call]
    failed = 0
    for number in range(1, 40):
        root = tmp_path / str(number)
        for step in (1, 2):
            save(root, step)
        kept = {path: path.read_bytes() for path in root.rglob("step-*/*")}
        with monkeypatch.context() as patch:
            failing, calls = fail_at(number, getattr(owner, name), before=before)
            patch.setattr(owner, name, failing)
            try:
                save(root, 3)
            except (CheckpointError, OSError) as error:
                assert "No space left on device" in str(error)  # noqa: PT017
        if calls[0] < number:
            break
        failed += 1
        names = {path.name for path in root.iterdir()}
        assert not {name for name in names if name.startswith(".")}, "nothing half-made stays"
        folder, complaints = newest_valid(root)
        assert folder is not None
        assert complaints == []
        assert read_checkpoint(folder).state == {"step": int(folder.name[-1])}
        if folder == step_folder(root, 2):  # it was not finished: so nothing older was given up for it
            assert {path: path.read_bytes() for path in root.rglob("step-*/*")} == kept
            assert (root / "last").resolve() == folder
        save(root, 3)
        assert newest_valid(root) == (step_folder(root, 3), [])
        assert sorted(path.name for path in root.iterdir()) == ["last", "step-00000002", "step-00000003"]
    assert failed >= {"fsync": 8, "write": 3, "tensors": 2}.get(call, 1)


@pytest.mark.parametrize("call", ["rename", "fsync"])
def test_a_checkpoint_written_over_one_of_the_same_step_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    owner, name = CALLS[call]
    for number in range(1, 9):
        root = tmp_path / str(number)
        save(root, 1)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail_at(number, getattr(owner, name), before=True)[0])
            try:
                save_checkpoint(root, 1, content(1))
            except CheckpointError:
                assert newest_valid(root) == (step_folder(root, 1), [])
            else:
                assert number > 2
        save(root, 1)
        assert sorted(path.name for path in root.iterdir()) == ["last", "step-00000001"]


def test_the_message_names_path_reason_and_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def refuse(*_: object, error: Exception) -> None:
        raise error

    for error in (OSError(errno.ENOSPC, "No space left on device"), safetensors.SafetensorError("I/O error: No space left")):
        with monkeypatch.context() as patch:
            patch.setattr(safetensors.torch, "save_file", partial(refuse, error=error))
            with pytest.raises(CheckpointError) as raised:
                save_checkpoint(tmp_path / "checkpoints", 3, content(3))
        said = str(raised.value)
        assert said.startswith(f"checkpoint {tmp_path}/checkpoints/step-00000003 could not be written: ")
        assert "No space left" in said
        assert "Its tensors take 88 bytes; " in said  # 6 x 4 + 8 x 8
        assert said.endswith(" bytes are free there now")
    for error in (OSError(errno.EFBIG, "File too large"), safetensors.SafetensorError("File too large (os error 27)")):
        with monkeypatch.context() as patch:
            patch.setattr(safetensors.torch, "save_file", partial(refuse, error=error))
            with pytest.raises(CheckpointError, match=r"a file may not be so large there \(`ulimit -f`, or a quota\)$"):
                save_checkpoint(tmp_path / "checkpoints", 3, content(3))


class Full:
    """A file on a disk with room for `room` more bytes, which takes a few at a time."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self.room = file, room

    def write(self, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = int(self._file.write(data[: min(self.room, 3)]))
        self.room -= written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def test_a_log_has_whole_lines_only(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "log.jsonl")
    log.write({"step": 1})
    whole, full = log._file, Full(log._file, room=7)
    log._file = full  # type: ignore[assignment]
    with pytest.raises(OSError, match="No space left on device") as error:
        log.write({"step": 2})
    assert error.value.filename == str(tmp_path / "log.jsonl")
    assert (tmp_path / "log.jsonl").read_bytes() == b'{"step": 1}\n'
    full.room = 1000
    log.write({"step": 3})
    log._file = whole
    assert list(read_jsonl(log.path)) == [{"step": 1}, {"step": 3}]
    assert log.position() == log.path.stat().st_size
    log.close()


@pytest.mark.parametrize("rest", [b'{"step": 3', b"x" * 9000, b""])
def test_a_line_that_a_kill_has_cut_off_is_forgotten_when_the_log_goes_on(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "log.jsonl"
    for whole in (b"", b'{"step": 1}\n{"step": 2}\n'):
        path.write_bytes(whole + rest)
        log = JsonLines(path).mend()
        assert log.position() == len(whole)
        log.write({"step": 4})
        log.close()
        assert path.read_bytes() == whole + b'{"step": 4}\n'
        path.write_bytes(whole + rest)
        append(path, {"step": 4})
        assert path.read_bytes() == whole + b'{"step": 4}\n'


def test_who_appends_waits_until_another_has_written_its_line(tmp_path: Path) -> None:
    """Else a line that is being written would pass for one that a kill cut off."""
    path = tmp_path / "log.jsonl"
    with path.open("ab", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b'{"step":')
        second = Thread(target=append, args=(path, {"step": 4}))
        second.start()
        second.join(0.3)
        assert second.is_alive()
        other.write(b" 3}\n")
        fcntl.flock(other, fcntl.LOCK_UN)
    second.join(10)
    assert list(read_jsonl(path)) == [{"step": 3}, {"step": 4}]


def test_small_files_and_predictions_are_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writers: dict[str, Callable[[Path], None]] = {
        "a.json": lambda path: write_whole(path, "new"),
        "b.parquet": lambda path: write_predictions(path, []),
    }
    for name, write in writers.items():
        (tmp_path / name).write_text("old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", fail_at(1, os.replace, before=True)[0])
            with pytest.raises(OSError, match="No space left on device") as error:
                write(tmp_path / name)
        assert error.value.filename == str(tmp_path / name)
        assert (tmp_path / name).read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(writers)
