"""Checkpoints on disk: whole or not at all, every damage named, the one before used, nothing executed."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from mmtrain.engine import checkpoint as module
from mmtrain.engine.checkpoint import (
    Checkpoint,
    newest_valid,
    point,
    prune,
    read_checkpoint,
    save_checkpoint,
    step_folder,
    verify,
)
from mmtrain.errors import CheckpointError

CONTENT = Checkpoint(
    tensors={"model": {"weight": torch.arange(6.0).reshape(2, 3)}, "samples": {}},
    state={"step": 7, "best": 0.1},
    texts={"config.yaml": "name: ä\n"},
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Checkpoints of the steps 1 and 2."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, CONTENT)
    return tmp_path


def test_what_is_saved_is_read(root: Path) -> None:
    found = read_checkpoint(step_folder(root, 2))
    assert found.tensors["model"]["weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found.tensors["samples"] == {}
    assert (found.state, found.texts) == (CONTENT.state, CONTENT.texts)


def flip_a_bit(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)


def truncate(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 20)


def replace_by_folder(folder: Path) -> None:
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()


def exchange(folder: Path) -> None:
    (folder / "samples.safetensors").write_bytes((folder / "model.safetensors").read_bytes())


def empty_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1]")


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (flip_a_bit, "model.safetensors is damaged (its sha256 differs from the manifest)"),
    (truncate, "model.safetensors is 20 bytes long, not"),
    (lambda folder: (folder / "state.json").unlink(), "state.json is missing"),
    (lambda folder: (folder / "model.bin").write_bytes(b"x"), "model.bin is not of it"),
    (lambda folder: (folder / "config.yaml").write_bytes(b""), "config.yaml is 0 bytes long, not"),
    (replace_by_folder, "state.json"),
    (exchange, "samples.safetensors is"),
    (lambda folder: (folder / "manifest.json").unlink(), "is not a whole checkpoint: it has no manifest.json"),
    (empty_manifest, "manifest.json is damaged"),
]


@pytest.mark.parametrize(("damage", "complaint"), DAMAGE)
def test_damage_is_named_and_the_one_before_is_used(root: Path, damage: Callable[[Path], object], complaint: str) -> None:
    newest = step_folder(root, 2)
    verify(newest)
    damage(newest)
    with pytest.raises(CheckpointError) as error:
        read_checkpoint(newest)
    assert complaint in str(error.value)
    assert str(newest) in str(error.value)
    folder, complaints = newest_valid(root)
    assert folder == step_folder(root, 1)
    assert complaints == [str(error.value)]


def test_any_flipped_bit_is_seen(root: Path) -> None:
    folder = step_folder(root, 2)
    generator = torch.Generator().manual_seed(0)
    for file in sorted(folder.iterdir()):
        whole = file.read_bytes()
        for place in torch.randint(len(whole) * 8, (20,), generator=generator).tolist():
            damaged = bytearray(whole)
            damaged[place // 8] ^= 1 << place % 8
            file.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                verify(folder)
        file.write_bytes(whole)
    verify(folder)


def test_none_whole_is_an_error_and_no_restart(root: Path) -> None:
    for step in (1, 2):
        flip_a_bit(step_folder(root, step))
    with pytest.raises(CheckpointError, match="no checkpoint of this run is whole") as error:
        newest_valid(root)
    assert all(step_folder(root, step).name in str(error.value) for step in (1, 2))


def test_no_checkpoint_at_all_is_none(tmp_path: Path) -> None:
    assert newest_valid(tmp_path / "checkpoints") == (None, [])


class Killed(BaseException):
    """Stands for the end of the process, wherever it is raised."""


@pytest.mark.parametrize("call", ["save_file", "_record", "_fsync", "rename"])
@pytest.mark.parametrize("leaves_litter", [True, False])
def test_a_save_cut_short_leaves_the_old_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, call: str, leaves_litter: bool
) -> None:
    def die(*_: object, **__: object) -> None:
        raise Killed

    before = (step_folder(root, 2) / "manifest.json").read_bytes()
    with monkeypatch.context() as patch:
        target = {"save_file": safetensors.torch, "rename": Path}.get(call, module)
        patch.setattr(target, call, die)
        if leaves_litter:  # a killed process tidies nothing up
            patch.setattr(module.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Killed):
            save_checkpoint(root, 3, CONTENT)
    assert newest_valid(root) == (step_folder(root, 2), [])
    assert (step_folder(root, 2) / "manifest.json").read_bytes() == before
    assert any(root.glob(".step*")) == leaves_litter
    save_checkpoint(root, 3, CONTENT)
    prune(root, keep=5, step=3)
    assert newest_valid(root) == (step_folder(root, 3), [])
    assert not list(root.glob(".step*"))


@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("before", [True, False])
def test_a_kill_while_one_of_the_same_step_is_replaced_leaves_a_whole_one(
    root: Path, monkeypatch: pytest.MonkeyPatch, number: int, before: bool
) -> None:
    """Killed before or behind the `number`-th call that changes the folder: from then on nothing else is done."""
    calls = [0]

    def mortal(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: Any, **words: Any) -> object:
            calls[0] += 1
            if calls[0] > number or (calls[0] == number and before):
                raise Killed
            result = function(*arguments, **words)
            if calls[0] == number:
                raise Killed
            return result

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((Path, "rename"), (Path, "mkdir"), (module.shutil, "rmtree"), (module, "_write")):
            patch.setattr(owner, name, mortal(getattr(owner, name)))
        with suppress(Killed):
            save_checkpoint(root, 2, replace(CONTENT, state={"step": 2}))
    folder, complaints = newest_valid(root)
    assert (folder, complaints) == (step_folder(root, 2), [])
    prune(root, keep=5, step=2)
    assert sorted(path.name for path in root.iterdir()) == ["step-00000001", "step-00000002"]
    assert read_checkpoint(step_folder(root, 2)).state["step"] in (2, 7)


def test_one_that_was_moved_aside_is_put_back_only_where_it_is_whole_and_missing(root: Path) -> None:
    one, two = step_folder(root, 1), step_folder(root, 2)
    shutil.copytree(one, root / f".{one.name}.replaced.partial")
    two.rename(root / f".{two.name}.replaced.partial")
    flip_a_bit(root / f".{two.name}.replaced.partial")
    assert newest_valid(root) == (one, [])
    assert not two.exists()
    assert (root / f".{one.name}.replaced.partial").is_dir(), "its name is taken"


def test_pruning_keeps_the_newest_and_what_is_pointed_to(root: Path) -> None:
    for step in (3, 4, 5, 6):
        save_checkpoint(root, step, CONTENT)
    point(root, "best", step_folder(root, 1))
    point(root, "last", step_folder(root, 3))
    prune(root, keep=2, step=6)
    assert sorted(path.name[-1] for path in root.glob("step-*")) == ["1", "3", "5", "6"]
    assert read_checkpoint(root / "best").state == CONTENT.state
    point(root, "best", step_folder(root, 6))
    point(root, "last", step_folder(root, 6))
    prune(root, keep=1, step=6)
    assert [path.name[-1] for path in root.glob("step-*")] == ["6"]


def test_pruning_does_not_take_a_damaged_later_one_for_the_newest(root: Path) -> None:
    """Step 9 was found damaged and the run went on from 2: at step 3, keep 2 means 3 and 2."""
    save_checkpoint(root, 9, CONTENT)
    flip_a_bit(step_folder(root, 9))
    save_checkpoint(root, 3, CONTENT)
    prune(root, keep=2, step=3)
    assert newest_valid(root)[0] == step_folder(root, 3)
    assert step_folder(root, 2).is_dir()
    assert not step_folder(root, 1).exists()


class Bomb:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("slot", ["model.safetensors", "state.json", "manifest.json", "config.yaml", "optimizer.bin"])
def test_no_pickle_is_ever_read(root: Path, tmp_path: Path, slot: str) -> None:
    mark = tmp_path / "executed"
    hostile = pickle.dumps(Bomb(mark))
    folder = step_folder(root, 2)
    (folder / slot).write_bytes(hostile)
    if slot != "manifest.json":  # even where the manifest vouches for it
        manifest = {file.name: module._record(file) for file in folder.iterdir() if file.name != "manifest.json"}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with suppress(CheckpointError):
        read_checkpoint(folder)
    assert not mark.exists()
    pickle.loads(hostile)  # noqa: S301 - the control: the file is as hostile as it says
    assert mark.is_dir()
