"""Every optimizer, schedule and average, cut inside a window and resumed, ends as the run that was not."""

import json
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import Write, cut, live
from test_resume_exact import results

from mmtrain.engine.history import history
from mmtrain.engine.optimizers import OPTIMIZERS
from mmtrain.engine.schedules import LR_SCHEDULES

SCHEDULES = {
    "cosine_restarts": {"cycles": 2},
    "exponential": {"gamma": 0.3},
    "multi_step": {"milestones": [6, 8], "unit": "steps"},
    # every evaluation is without gain: the rate falls at 4 and at 8
    "reduce_on_plateau": {"metric": "val/funny/loss", "patience": 1, "improve_by": 100, "gamma": 0.5},
}
AVERAGES = {"adamw": {"name": "ema", "decay": 0.9}, "sgd": {"name": "swa", "start": 4, "every": 2}}
OPTIMIZER_NAMES = [row.model_fields["name"].default for row in OPTIMIZERS]
SCHEDULE_NAMES = [row.model_fields["name"].default for row in LR_SCHEDULES]
# each optimizer with a schedule of its own; then the schedules that are left
PAIRS = list(
    zip(OPTIMIZER_NAMES, ["reduce_on_plateau", "cosine", "cosine_restarts", "multi_step", "linear", "constant"], strict=True)
)
PAIRS += [("adamw", name) for name in SCHEDULE_NAMES if name not in dict(PAIRS).values()]
QUICK = (("adamw", "reduce_on_plateau"),)  # the rest is in the slow suite


def experiment(write: Write, **training: Any) -> Path:
    """Ten steps with dropout in windows of 4, evaluations at 4, 8 and 10, checkpoints at 3, 6 and 9 besides."""
    changes = {"epochs": 1, "eval_every": 4, "checkpoint_every": 3, "optimizer": {}, "schedule": {}}
    path = write(training=changes | training)
    values = yaml.safe_load(path.read_text())
    values["training"] |= training
    values["model"]["sequences"] = {"audio": {"name": "linear"}}
    values["model"]["fusion"] = {"name": "concat", "dropout": 0.1}
    values["curriculum"]["sampler"] = {"name": "uniform"}
    path.write_text(yaml.safe_dump(values))
    return path


def train(file: Path, name: str, *flags: str, cuts: Any = None) -> tuple[int, str]:
    life = live(["train", "--config", str(file), *flags, f"name={name}"], cwd=file.parent, patch=cuts)
    return life.code, life.out + life.err


@pytest.mark.parametrize(
    ("optimizer", "schedule"), [pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.slow) for pair in PAIRS]
)
def test_a_run_cut_twice_ends_as_the_whole_one(write_experiment: Write, optimizer: str, schedule: str) -> None:
    if optimizer == "schedule_free_adamw":
        pytest.importorskip("schedulefree")
    layers = {} if optimizer == "adagrad" else {"layer_decay": 0.5}
    file = experiment(
        write_experiment,
        optimizer={"name": optimizer, **layers},
        schedule={"name": schedule, "warmup": 2} | SCHEDULES.get(schedule, {}),
        average=AVERAGES.get(optimizer),
    )
    code, said = train(file, "whole")
    assert code == 0, said
    for number, (at, how) in enumerate([(4, signal.SIGINT), (7, signal.SIGKILL)]):
        code, said = train(file, "cut", *(["--resume"] if number else []), cuts=partial(cut, at=at, how=how))
        assert code == (130 if how == signal.SIGINT else -how), said
    code, said = train(file, "cut", "--resume")
    assert code == 0, said
    runs = file.parent / "runs"
    assert results(runs / "cut") == results(runs / "whole")
    if optimizer == "sgd":
        assert json.loads(results(runs / "whole")["state"])["average"] == 4  # of steps 4, 6, 8 and 10
    rates = history(runs / "whole").steps["lr/model.matrices"]
    assert len(rates) == 10
    assert rates[0] == pytest.approx(rates[1] / 2)
    if schedule == "reduce_on_plateau":
        assert rates[2:].tolist() == pytest.approx([rates[1]] * 2 + [rates[1]] * 4 + [rates[1] / 2] * 2)
