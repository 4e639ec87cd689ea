"""Run folders: nothing is written over or deleted but a run that was named for it."""

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "runs" / "demo")
    folder.begin(config="name: demo\n", environment="[]")
    (folder.path / "metrics.jsonl").write_text("{}\n")
    return folder


def test_a_new_folder_is_begun(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "a" / "b")
    assert folder.check(resume=False, overwrite=False) is False
    assert not folder.path.exists()
    assert folder.check(resume=True, overwrite=False) is False
    folder.begin(config="x: 1\n", environment="[]")
    assert folder.is_run()
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "environment.json"]


def test_a_run_is_refused_continued_or_replaced(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match=r"exists already\. Continue it with --resume, replace it with --overwrite, or"):
        run.check(resume=False, overwrite=False)
    assert run.check(resume=True, overwrite=False) is True
    assert run.check(resume=False, overwrite=True) is False
    assert run.metrics.exists(), "looking deletes nothing"
    run.begin(config="name: new\n", environment="[]")
    assert not run.metrics.exists()


def test_resume_and_overwrite_contradict(run: RunFolder) -> None:
    with pytest.raises(ConfigError, match="contradict"):
        run.check(resume=True, overwrite=True)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_that_is_no_run_is_never_deleted(tmp_path: Path, resume: bool) -> None:
    """A config.yaml alone is anybody's."""
    folder = RunFolder(tmp_path / "project")
    folder.path.mkdir()
    folder.config.write_text("mine: true\n")
    with pytest.raises(ConfigError, match="is not a run folder"):
        folder.check(resume=resume, overwrite=not resume)
    with pytest.raises(ConfigError, match="is not a run folder"):
        folder.begin(config="", environment="")  # even if nobody had checked
    assert folder.config.read_text() == "mine: true\n"


def test_a_run_inside_a_run_and_a_file_are_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="lies inside the run"):
        RunFolder(run.path / "checkpoints").check(resume=False, overwrite=False)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file"):
        RunFolder(tmp_path / "file").check(resume=False, overwrite=True)


class KilledError(BaseException):
    """What no handler of ours catches."""


def die_at(number: int, patch: pytest.MonkeyPatch) -> None:
    """Be killed instead of the `number`-th change (from 1) of the disk, whatever it is."""
    calls = count(1)

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def changed(*words: Any, **named: Any) -> Any:
            if next(calls) >= number:
                raise KilledError
            return function(*words, **named)

        return changed

    for owner, name in ((Path, "write_text"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir"), (shutil, "rmtree")):
        patch.setattr(owner, name, dying(getattr(owner, name)))


@pytest.mark.parametrize("replaced", [False, True])
def test_killed_anywhere_while_it_begins_it_can_be_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    free = set()
    for number in count(1):
        folder = RunFolder(tmp_path / str(number))
        if replaced:
            folder.begin(config="old: 1\n", environment="[]")
            (folder.path / "checkpoints").mkdir()
            (folder.path / "metrics.jsonl").write_text("{}\n")
        with monkeypatch.context() as patch:
            die_at(number, patch)
            try:
                folder.begin(config="new: 1\n", environment="[]")
            except KilledError:
                pass
            else:
                break
        free.add(not folder.is_run())
        if folder.is_run():
            assert replaced, "the two files stand there together or not at all"
            assert folder.check(resume=False, overwrite=True) is False
        else:
            assert [folder.check(resume=resume, overwrite=False) for resume in (False, True)] == [False, False]
        folder.begin(config="new: 1\n", environment="[]")
        assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "environment.json"]
        assert folder.config.read_text() == "new: 1\n"
    assert number == (11 if replaced else 6), "every change of the disk was met"
    assert free == ({True, False} if replaced else {True})


@pytest.mark.parametrize("name", ["environment.json", "config.yaml", ".notes.partial"])
def test_a_file_alone_is_anybodys(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="is not a run folder"):
        RunFolder(tmp_path).check(resume=True, overwrite=False)


def test_training_predictions_are_known_by_their_epoch(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.epochs_predicted() == []
    assert folder.train_predictions(3) == tmp_path / "predictions" / "train-epoch-0003.parquet"
    folder.train_predictions(3).parent.mkdir()
    for path in (folder.train_predictions(12_345), folder.train_predictions(3), folder.predictions("train-epoch-last")):
        path.touch()
    folder.train_predictions(4).with_suffix(".parquet.partial").touch()
    assert folder.epochs_predicted() == [3, 12_345]
