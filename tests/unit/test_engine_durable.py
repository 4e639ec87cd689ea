"""Were the power to fail: files and folder of a checkpoint are on the disk before its name, and it before older ones go."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmtrain.engine import checkpoint as module
from mmtrain.engine.checkpoint import Checkpoint, point, prune, save_checkpoint, step_folder
from mmtrain.engine.jsonl import JsonLines

Patch = pytest.MonkeyPatch


class Disk:
    """Knows what would be left if the power failed: of every file and folder, what it held when it was last synchronized."""

    def __init__(self, patch: Patch) -> None:
        self._kept: dict[int, object] = {}
        sync, rename, remove = os.fsync, Path.rename, shutil.rmtree

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            self._kept[os.fstat(descriptor).st_ino] = self._held(Path(f"/dev/fd/{descriptor}").resolve())

        def checked_rename(source: Path, target: Path) -> Path:
            for path in (*source.iterdir(), source):
                assert self._is_kept(path), f"{path.name} could be lost, and the name {target.name} be there"
            return rename(source, target)

        def checked_rmtree(path: Path, **words: Any) -> None:
            if path.exists() and not path.name.startswith("."):
                assert self._is_kept(path.parent), f"{path.name} goes, and what follows it could be lost"
            remove(path, **words)

        patch.setattr(os, "fsync", fsync)
        patch.setattr(Path, "rename", checked_rename)
        patch.setattr(shutil, "rmtree", checked_rmtree)

    def _is_kept(self, path: Path) -> bool:
        return self._kept.get(path.stat().st_ino) == self._held(path)

    @staticmethod
    def _held(path: Path) -> object:
        """The bytes of a file; the names in a folder and what they lead to."""
        if path.is_file():
            return path.read_bytes()
        return {entry.name: entry.lstat().st_ino for entry in path.iterdir()}


def content(step: int) -> Checkpoint:
    return Checkpoint({"model": {"weight": torch.full((2, 3), float(step))}}, {"step": step}, {"config.yaml": "name: a\n"})


def save_three(root: Path) -> None:
    for step in (1, 2, 3):
        point(root, "last", save_checkpoint(root, step, content(step)))
        prune(root, keep=1, step=step)


def test_what_has_its_name_is_on_the_disk(tmp_path: Path, monkeypatch: Patch) -> None:
    Disk(monkeypatch)
    save_three(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last", "step-00000003"]


def no_fsync(patch: Patch) -> None:
    patch.setattr(module, "_fsync", lambda _: None)


def no_fsync_of_folders(patch: Patch) -> None:
    _only(patch, Path.is_file)


def no_fsync_of_files(patch: Patch) -> None:
    _only(patch, Path.is_dir)


def _only(patch: Patch, wanted: Callable[[Path], bool]) -> None:
    fsync = module._fsync
    patch.setattr(module, "_fsync", lambda path: fsync(path) if wanted(path) else None)


def manifest_written_last(patch: Patch) -> None:
    """Behind the fsync of what it describes."""
    write = module._write

    def write_and_change(partial: Path, checkpoint: Checkpoint) -> None:
        write(partial, checkpoint)
        (partial / module.MANIFEST).write_text((partial / module.MANIFEST).read_text() + "\n")

    patch.setattr(module, "_write", write_and_change)


def no_fsync_of_the_new_name(patch: Patch) -> None:
    _only(patch, lambda path: path.is_file() or path.name.startswith("."))


@pytest.mark.parametrize(
    "mutation", [no_fsync, no_fsync_of_files, no_fsync_of_folders, manifest_written_last, no_fsync_of_the_new_name]
)
def test_what_is_not_on_the_disk_is_seen(tmp_path: Path, monkeypatch: Patch, mutation: Callable[[Patch], None]) -> None:
    """Controls of the test above."""
    Disk(monkeypatch)
    mutation(monkeypatch)
    with pytest.raises(AssertionError, match="could be lost"):
        save_three(tmp_path)
    assert not step_folder(tmp_path, 3).exists() or mutation is no_fsync_of_the_new_name


def test_the_length_of_a_log_that_a_checkpoint_notes_is_on_the_disk(tmp_path: Path, monkeypatch: Patch) -> None:
    disk = Disk(monkeypatch)
    log = JsonLines(tmp_path / "log.jsonl")
    log.write({"step": 1})
    assert not disk._is_kept(log.path)
    assert log.position() == len(b'{"step": 1}\n')
    assert disk._is_kept(log.path)
    log.close()
