"""A signal is noted and obeyed between two steps: the step under way is saved, on all processes, whatever it interrupts."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lives import Life, cut, live, live_together

Patch = Callable[[], None]


def signal_in_save() -> None:
    """SIGTERM comes while the first checkpoint is half written."""
    import safetensors.torch

    save_file, calls = safetensors.torch.save_file, [0]

    def interrupted(*words: Any) -> None:
        save_file(*words)
        calls[0] += 1
        if calls[0] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    safetensors.torch.save_file = interrupted


def saved_step(run: Path) -> int:
    """The step of the newest checkpoint; nothing half made stands beside it."""
    checkpoints = run / "checkpoints"
    assert not [path for path in checkpoints.iterdir() if path.name.startswith(".")]
    return int((checkpoints / "last").resolve().name.removeprefix("step-"))


def handler_exits() -> None:
    """A mutation: the handler ends the process where it stands."""
    from mmtrain.engine.signals import Signals

    def leave(*_: object) -> None:
        raise SystemExit(130)

    Signals._note = leave  # type: ignore[method-assign]


def then(first: Patch, second: Patch) -> None:
    first()
    second()


LONG = ("training.steps_per_epoch=12", "training.checkpoint_every=3", "training.eval_every=null")


def stop_in_save(fields: Path, mutation: Patch | None = None) -> Life:
    patch: Patch = signal_in_save
    patch = patch if mutation is None else partial(then, mutation, patch)
    return live(["train", "--config", str(fields), *LONG], cwd=fields.parent, patch=patch)


def test_a_signal_inside_a_save_lets_it_be_finished(fields: Path) -> None:
    life = stop_in_save(fields)
    assert life.code == 130, life.err
    assert "stopped at step 4; the run is saved" in life.err
    assert saved_step(fields.parent / "runs" / "run") == 4
    assert (fields.parent / "runs" / "run" / "checkpoints" / "step-00000003" / "manifest.json").is_file()


@pytest.mark.slow
def test_what_a_handler_that_exits_gives_up_is_seen(fields: Path) -> None:
    """Control of the test above: the checkpoint that was being written is lost, and so are all steps."""
    life = stop_in_save(fields, handler_exits)
    assert life.code == 130, life.err
    assert not (fields.parent / "runs" / "run" / "checkpoints" / "last").exists()


def signal_one(*, rank: str) -> None:
    """SIGTERM comes to one process of two, in its fifth step."""
    if os.environ["RANK"] == rank:
        cut(at=4, how=signal.SIGTERM)


def flag_alone() -> None:
    """A mutation: no process hears of the signal that another one got; a lost one is waited for four seconds."""
    from datetime import timedelta

    from mmtrain import training
    from mmtrain.engine.interrupt import Interrupt

    training.PATIENCE = timedelta(seconds=4)
    Interrupt.requested = lambda self: self._signals.met  # type: ignore[method-assign]


def stop_one(fields: Path, *, rank: str, mutation: Patch | None = None) -> list[Life]:
    patch: Patch = partial(signal_one, rank=rank)
    patch = patch if mutation is None else partial(then, mutation, patch)
    return live_together(["train", "--config", str(fields), *LONG], cwd=fields.parent, world=2, patch=patch, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_signal_to_one_of_two_processes_stops_both_at_one_step(fields: Path, rank: str) -> None:
    lives = stop_one(fields, rank=rank)
    assert [life.code for life in lives] == [130, 130], lives
    assert "stopped at step 5; the run is saved" in lives[0].err
    assert saved_step(fields.parent / "runs" / "run") == 5


@pytest.mark.slow
def test_a_flag_that_one_process_keeps_to_itself_is_seen(fields: Path) -> None:
    """Control of the test above."""
    lives = stop_one(fields, rank="1", mutation=flag_alone)
    codes = [life.code for life in lives]
    assert 0 not in codes, "the signal came"
    assert codes != [130, 130], lives
