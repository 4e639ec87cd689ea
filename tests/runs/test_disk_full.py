"""A disk that fills up while a run saves: it stops with a sentence, or goes on and saves later, and loses nothing."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from lives import Life, Patch, cut, live, live_together, weights

LIMIT = 14_000  # bytes a file may have: more than any log of these runs, less than the random states of a checkpoint


def refuse_saves(*steps: int) -> None:
    """While the checkpoints of `steps` are written, no file may grow beyond the limit."""
    from mmtrain.engine import checkpoint

    save = checkpoint.save_checkpoint

    def limited(root: Path, step: int, content: checkpoint.Checkpoint) -> Path:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        if step in steps:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, hard))
        try:
            return save(root, step, content)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    checkpoint.save_checkpoint = limited


def refuse_and_interrupt(*, step: int) -> None:
    refuse_saves(step)
    cut(at=step - 1, how=signal.SIGINT)


def checkpoints(file: Path, name: str) -> list[str]:
    return sorted(path.name for path in (file.parent / "runs" / name / "checkpoints").iterdir())


def train(file: Path, name: str, *words: str, patch: Patch | None = None) -> Life:
    return live(["train", "--config", str(file), f"name={name}", *words], cwd=file.parent, patch=patch)


@pytest.fixture
def whole(fields: Path) -> Path:
    """The file of an experiment of four steps with checkpoints at 2 and 4; its run `whole` is done, undisturbed."""
    assert train(fields, "whole").code == 0
    return fields


GOES_ON = "training.on_save_error=continue"


@pytest.mark.parametrize(
    ("step", "words", "left", "newest"),
    [
        (2, [], [], "There is no checkpoint yet"),
        pytest.param(  # no save follows the last one
            4, [GOES_ON], ["last", "step-00000002"], "The newest whole checkpoint is of step 2", marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_stops_with_a_sentence_and_is_resumed(
    whole: Path, step: int, words: list[str], left: list[str], newest: str
) -> None:
    run = whole.parent / "runs" / "run"
    life = train(whole, "run", *words, patch=partial(refuse_saves, step))
    assert life.code == 2, life
    assert len(life.err.splitlines()) == 1
    assert life.err.startswith(f"error: checkpoint {run}/checkpoints/step-{step:08d} could not be written: "), life
    assert "File too large" in life.err
    limited = "a file may not be so large there (`ulimit -f`, or a quota)"
    assert life.err.endswith(f" bytes are free there now; {limited}. {newest}; make room and continue with --resume\n")
    assert checkpoints(whole, "run") == left
    life = train(whole, "run", "--resume")
    assert life.code == 0, life.err
    assert weights(whole, "run") == weights(whole, "whole")


def test_a_run_goes_on_and_saves_later(whole: Path) -> None:
    life = train(whole, "run", GOES_ON, patch=partial(refuse_saves, 2))
    assert life.code == 0, life.err
    said = " ".join(life.out.split())  # the console wraps long lines
    assert said.count("could not be written") == 1
    assert "Training goes on and saves again when due. There is no checkpoint yet" in said
    assert checkpoints(whole, "run") == ["best", "last", "step-00000004"]
    for name in ("checkpoints/last/model.safetensors", "metrics.jsonl", "curriculum.jsonl"):
        assert (whole.parent / "runs/run" / name).read_bytes() == (whole.parent / "runs/whole" / name).read_bytes(), name


def test_an_interrupted_run_does_not_say_that_it_is_saved_where_it_is_not(fields: Path) -> None:
    life = train(fields, "run", GOES_ON, patch=partial(refuse_and_interrupt, step=3))
    assert life.code == 130
    assert "stopped at step 3; its last checkpoint is of step 2. Continue with" in life.err
    assert checkpoints(fields, "run") == ["last", "step-00000002"]


@pytest.mark.slow
def test_all_processes_stop_with_the_same_sentence_or_go_on(fields: Path) -> None:
    arguments = ["train", "--config", str(fields), "name=two"]
    lives = live_together(arguments, cwd=fields.parent, world=2, patch=partial(refuse_saves, 2))
    assert [life.code for life in lives] == [2, 2], lives
    assert lives[0].err == lives[1].err
    assert "could not be written" in lives[0].err
    lives = live_together([*arguments, "--overwrite", GOES_ON], cwd=fields.parent, world=2, patch=partial(refuse_saves, 2))
    assert [life.code for life in lives] == [0, 0], lives


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path, *, full: int, free: int) -> None:
    """Somebody fills the disk in step `full`, all but 12 KB, and tidies up in step `free`."""
    from mmtrain.engine import loop

    train_step = loop.train_step

    def train_step_and_fill(run: object, inputs: object) -> object:
        if inputs.step == full:  # type: ignore[attr-defined]
            space = os.statvfs(disk)
            (disk / "ballast").write_bytes(bytes(space.f_bavail * space.f_bsize - 12_288))
        if inputs.step == free:  # type: ignore[attr-defined]
            (disk / "ballast").unlink()
        return train_step(run, inputs)  # type: ignore[arg-type]

    loop.train_step = train_step_and_fill  # type: ignore[assignment]


@pytest.mark.slow
def test_a_disk_that_is_really_full(whole: Path, small_disk: Path) -> None:
    life = train(whole, "full", f"runs={small_disk}", GOES_ON, patch=partial(fill, small_disk, full=1, free=2))
    assert life.code == 0, life
    assert "No space left on device" in " ".join(life.out.split())
    assert (small_disk / "full/checkpoints/last/model.safetensors").read_bytes() == weights(whole, "whole")
    life = train(whole, "stop", f"runs={small_disk}", patch=partial(fill, small_disk, full=1, free=2))
    assert life.code == 2
    assert "No space left on device" in life.err
    (small_disk / "ballast").unlink()
    assert list((small_disk / "stop/checkpoints").iterdir()) == []
    assert train(whole, "stop", f"runs={small_disk}", "--resume").code == 0
    assert (small_disk / "stop/checkpoints/last/model.safetensors").read_bytes() == weights(whole, "whole")


@pytest.mark.slow
def test_a_disk_that_may_only_be_read(fields: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    life = train(fields, "run", f"runs={small_disk}")
    assert (life.code, life.err) == (2, f"error: {small_disk}/run: Read-only file system\n")
