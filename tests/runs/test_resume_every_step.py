"""Stopped at any step of any epoch, and once more soon after, a run goes on with the same batches to the same end."""

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import cut, live, results

EPOCHS, STEPS = 3, 6  # windows of 4 and 2, evaluations at the epochs' ends
TOTAL = EPOCHS * STEPS


@pytest.fixture(scope="module")
def whole(base_experiment: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The experiment's file, and the results of the run that nothing stopped."""
    folder = tmp_path_factory.mktemp("steps")
    values = base_experiment | {"runs": str(folder / "runs")}
    values["model"] = {key: value for key, value in values["model"].items() if key != "text"}
    sizes = {"epochs": EPOCHS, "steps_per_epoch": STEPS, "eval_every": None, "checkpoint_every": None}
    values["training"] = values["training"] | sizes
    file = folder / "experiment.yaml"
    file.write_text(yaml.safe_dump(values))
    life = live(["train", "--config", str(file), "name=whole"], cwd=folder)
    assert life.code == 0, life.err
    return file, results(folder / "runs" / "whole")


def save_and_cut(*, at: int) -> None:
    """Save what was just loaded, before any step; and be interrupted in the step after `at` finished ones."""
    from mmtrain import training
    from mmtrain.engine.saving import save

    resume = training.resume_run

    def resume_and_save(run: Any) -> Any:
        state = resume(run)
        save(run, state)
        return state

    training.resume_run = resume_and_save
    cut(at=at, how=signal.SIGINT)


def stop_twice(whole: tuple[Path, dict[str, str]], at: int, folder: Path) -> None:
    """Stopped in the step after `at`, and again in the one after the next, each time in a new process."""
    file, expected = whole
    arguments = ["train", "--config", str(file), f"name=at-{at}"]
    patches = [partial(cut, at=at, how=signal.SIGINT), partial(save_and_cut, at=at + 2), None]
    for number, patch in enumerate(patches):
        life = live([*arguments, *(["--resume"] if number else [])], cwd=folder, patch=patch)
        ends = number == 2 or at + 2 * number >= TOTAL - 1  # a run that stops in its last step has nothing left to do
        assert life.code == (0 if ends else 130), life
    assert results(file.parent / "runs" / f"at-{at}") == expected


@pytest.mark.slow
@pytest.mark.parametrize("epoch", range(EPOCHS))
def test_stopped_twice_at_every_step(whole: tuple[Path, dict[str, str]], tmp_path: Path, epoch: int) -> None:
    for at in range(epoch * STEPS, (epoch + 1) * STEPS):
        stop_twice(whole, at, tmp_path)
