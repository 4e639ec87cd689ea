"""Every weighting: a run that was killed inside a window and resumed ends, bit for bit, as the run that was not."""

import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lives import Write, cut, live
from test_resume_exact import results
from test_weighting_processes import rows

FAST = ("gradnorm-representation",)


def train(file: Path, *flags: str, patch: Any = None) -> int:
    return live(["train", "--config", str(file), *flags], cwd=file.parent, patch=patch).code


@pytest.mark.parametrize(
    "weighting",
    [pytest.param(*row.values, id=row.id, marks=[] if row.id in FAST else [pytest.mark.slow]) for row in rows()],
)
def test_a_run_killed_inside_a_window_ends_as_the_whole_run(write_experiment: Write, weighting: dict[str, Any]) -> None:
    """With dropout, micro-batches, text and a penalty; windows of 4, checkpoints at 3 and 6, killed in step 5 and in step 7.

    So what a window sums up over its steps, and what learns in every step, is taken up in the middle.
    """
    training = {"epochs": 1, "steps_per_epoch": 9, "eval_every": None, "checkpoint_every": 3}
    changes = {"curriculum": {"window": 4, "weighting": weighting}, "training": training}
    whole, parted = (write_experiment(f"{name}.yaml", name=name, **changes) for name in ("whole", "parted"))
    assert train(whole) == 0
    assert train(parted, patch=partial(cut, at=4, how=signal.SIGKILL)) == -signal.SIGKILL
    assert train(parted, "--resume", patch=partial(cut, at=6, how=signal.SIGKILL)) == -signal.SIGKILL
    assert train(parted, "--resume") == 0
    folder = whole.parent / "runs"
    assert results(folder / "parted") == results(folder / "whole")
