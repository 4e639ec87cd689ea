"""Every way to damage a checkpoint, one after the other: never loaded, named with its file; the one before is used."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mmtrain.engine.checkpoint import Checkpoint, newest_valid, read_checkpoint, save_checkpoint, step_folder
from mmtrain.errors import CheckpointError


def content(step: int) -> Checkpoint:
    """Alike in size at every step, so that sizes do not give a swap away."""
    numbers = torch.arange(300.0) * step
    tensors = {
        "model": {"weight": numbers.reshape(3, 100), "bias": numbers[:3].clone()},
        "optimizer": {"0/exp_avg": numbers + 1},
        "random": {"0/torch": torch.arange(50, dtype=torch.uint8)},
        "samples": {},
    }
    return Checkpoint(tensors, {"step": step, "best": 0.5}, {"config.yaml": f"name: a{step}\n"})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of the steps 1 and 2."""
    root = tmp_path_factory.mktemp("checkpoints")
    for step in (1, 2):
        save_checkpoint(root, step, content(step))
    return root


Damage = Callable[[Path], None]


def truncations(folder: Path) -> Iterator[tuple[str, Damage]]:
    source = random.Random(1)
    for file in sorted(folder.iterdir()):
        size = file.stat().st_size
        for offset in {0, 1, size - 1, *(source.randrange(size) for _ in range(17))}:
            yield file.name, lambda path, offset=offset: os.truncate(path, offset)  # type: ignore[misc]


def flips(folder: Path) -> Iterator[tuple[str, Damage]]:
    source = random.Random(2)
    files = sorted(folder.iterdir())
    sizes = [file.stat().st_size for file in files]
    for file in source.choices(files, weights=sizes, k=200 - 20 * len(files)) + files * 20:
        place, bit = source.randrange(file.stat().st_size), source.randrange(8)
        yield file.name, lambda path, place=place, bit=bit: flip(path, place, bit)  # type: ignore[misc]


def flip(path: Path, place: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def grown(folder: Path) -> Iterator[tuple[str, Damage]]:
    for file in sorted(folder.iterdir()):
        yield file.name, grow


def grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def lost(folder: Path) -> Iterator[tuple[str, Damage]]:
    for file in sorted(folder.iterdir()):
        yield file.name, Path.unlink


def swapped(folder: Path) -> Iterator[tuple[str, Damage]]:
    for file in sorted(folder.iterdir()):
        other = folder.parent / "step-00000001" / file.name
        if other.read_bytes() != file.read_bytes():
            yield file.name, lambda path, other=other: copy(other, path)  # type: ignore[misc]


def copy(other: Path, path: Path) -> None:
    shutil.copy(other, path)


def replaced_by_folders(folder: Path) -> Iterator[tuple[str, Damage]]:
    for file in sorted(folder.iterdir()):
        yield file.name, become_folder


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("kind", [truncations, flips, grown, lost, swapped, replaced_by_folders])
def test_no_damage_is_loaded(whole: Path, tmp_path: Path, kind: Callable[[Path], Iterator[tuple[str, Damage]]]) -> None:
    trials = 0
    for name, damage in kind(step_folder(whole, 2)):
        trials += 1
        root = tmp_path / str(trials)
        shutil.copytree(whole, root)
        folder = step_folder(root, 2)
        damage(folder / name)
        with pytest.raises(CheckpointError) as error:
            read_checkpoint(folder)
        said = str(error.value)
        assert str(folder) in said
        # a manifest that was changed, not cut, may accuse a file that is whole: it is the one that is not as it says
        assert name in said or name == "manifest.json", said
        found, complaints = newest_valid(root)
        assert (found, complaints) == (step_folder(root, 1), [said])
        assert read_checkpoint(found).state["step"] == 1
        shutil.rmtree(step_folder(root, 1))
        with pytest.raises(CheckpointError, match="no checkpoint of this run is whole"):
            newest_valid(root)
        shutil.rmtree(root)
    assert trials >= {truncations: 7 * 15, flips: 200, swapped: 5}.get(kind, 7)  # type: ignore[call-overload]


def test_litter_is_not_taken_for_a_checkpoint(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    shutil.copytree(whole, root)
    shutil.copytree(step_folder(root, 2), root / ".step-00000003.partial")
    shutil.copytree(step_folder(root, 2), root / ".step-00000002.replaced.partial")
    (root / "step-00000004").write_text("a file")
    (root / ".last.link").symlink_to("step-00000009")
    (root / "last").symlink_to("step-00000009")
    assert newest_valid(root) == (step_folder(root, 2), [])
    (root / "step-00000005").mkdir()
    found, complaints = newest_valid(root)
    assert found == step_folder(root, 2)
    assert complaints == [f"{root}/step-00000005 is not a whole checkpoint: it has no manifest.json"]
