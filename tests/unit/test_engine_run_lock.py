"""The lock of a run folder: one holder, named to others; gone with its process, however that ended."""

import errno
import json
import multiprocessing
import os
import platform
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from mmtrain.engine import run_lock
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.run_lock import LOCK, RunLock
from mmtrain.errors import ConfigError


def hold(folder: Path, told: Connection) -> None:
    RunLock(folder).take()
    told.send(os.getpid())
    signal.pause()


def test_a_second_holder_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    with RunLock(tmp_path / "run"):
        note = json.loads((tmp_path / "run" / LOCK).read_text())
        assert (note["pid"], note["host"]) == (os.getpid(), platform.node())
        with pytest.raises(ConfigError) as error:
            RunLock(tmp_path / "run").take()
        said = str(error.value)
        assert said == (
            f"run folder {tmp_path}/run is in use: process {os.getpid()} on {platform.node()} trains there since "
            f"{note['since']}. Stop that one, or wait"
        )
        (tmp_path / "run" / LOCK).write_text("")
        with pytest.raises(ConfigError, match="in use: another process trains there"):
            RunLock(tmp_path / "run").take()
    RunLock(tmp_path / "run").take().release()


def test_who_waits_has_it_when_the_holder_is_gone_and_took_the_folder_away(tmp_path: Path) -> None:
    other = RunLock(tmp_path / "a" / "run").take()
    timer = threading.Timer(0.3, other.release)
    timer.start()
    with RunLock(tmp_path / "a" / "run", patience=30.0):
        assert (tmp_path / "a" / "run" / LOCK).exists()
    timer.join()
    assert not (tmp_path / "a").exists()


def test_a_killed_holder_leaves_litter_that_blocks_nobody(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(tmp_path / "run", theirs))
    process.start()
    try:
        assert ours.poll(60)
        pid = ours.recv()
        with pytest.raises(ConfigError, match=f"process {pid} on "):
            RunLock(tmp_path / "run").take()
    finally:
        process.kill()
        process.join()
    assert (tmp_path / "run" / LOCK).exists()
    with RunLock(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run" / LOCK).exists()


def test_folders_made_for_the_lock_alone_go_with_it(tmp_path: Path) -> None:
    with RunLock(tmp_path / "runs" / "a" / "b"):
        assert RunFolder(tmp_path / "runs/a/b").check(resume=False, overwrite=False) is False, "a lock is no content"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    RunLock(tmp_path / "mine").take().release()
    assert (tmp_path / "mine").is_dir()
    with RunLock(tmp_path / "runs" / "c"):
        (tmp_path / "runs" / "c" / "config.yaml").write_text("")
    assert sorted(path.name for path in (tmp_path / "runs" / "c").iterdir()) == ["config.yaml"]


def test_a_lock_that_was_removed_while_it_was_waited_for_is_not_taken_for_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder unlinks it between our opening and our locking: we would lock a file that nobody else will find."""
    first = RunLock(tmp_path).take()
    flock, calls = run_lock.fcntl.flock, []

    def release_first(descriptor: int, how: int) -> None:
        if not calls:
            first.release()
        calls.append(how)
        flock(descriptor, how)

    monkeypatch.setattr(run_lock.fcntl, "flock", release_first)
    second = RunLock(tmp_path).take()
    with pytest.raises(ConfigError, match="in use"):
        RunLock(tmp_path).take()
    second.release()


def test_overwriting_keeps_the_lock_and_a_cut_there_leaves_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin(config="a: 1\n", environment="[]")
    for name in ("checkpoints", "wandb"):
        (folder.path / name).mkdir()
        (folder.path / name / "x").write_text("x")
    (folder.path / "link").symlink_to(tmp_path)
    with RunLock(folder.path):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                folder.begin(config="b: 1\n", environment="[]")
        assert folder.is_run()
        folder.begin(config="b: 1\n", environment="[]")
        assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "environment.json", LOCK]
        with pytest.raises(ConfigError, match="in use"):
            RunLock(folder.path).take()
    assert tmp_path.is_dir()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, "not here")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with RunLock(tmp_path / "run") as lock:
        assert lock.complaint == f"warning: {tmp_path}/run cannot be locked (not here): start no second run there"
        assert list((tmp_path / "run").iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_any_other_refusal_of_the_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(run_lock.fcntl, "flock", refuse)
    with pytest.raises(OSError, match="broken") as error:
        RunLock(tmp_path / "run").take()
    assert error.value.filename == str(tmp_path / "run" / LOCK)
