"""The gradient in a run: its norms in logs, trackers and history, every clipping in a step, and the hunt for a NaN."""

import copy
import json
import math
import os
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from lives import Write, live, live_together

import mmtrain
from mmtrain.engine import step as step_module
from mmtrain.engine.clipping import CLIPPINGS
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loading import StepInput
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.errors import NonFiniteError
from mmtrain.training import train_experiment

Build = Callable[..., Run]
ROWS = pytest.mark.parametrize("name", [row.model_fields["name"].default for row in CLIPPINGS])


def first_step(run: Run) -> StepInput:
    return next(iter(run.loader.steps(run.curriculum.next_window(0, run.settings.window), first=0)))


def test_a_step_knows_the_norm_of_every_group_before_clipping(small_run: Build) -> None:
    """Against sums over the parameters' own gradients, in float64, by the groups' rule: matrices and all else."""
    run = small_run(training={"clipping": {"name": "none"}}, curriculum={"weighting": {"name": "uncertainty"}})
    values, _ = train_step(run, first_step(run))
    squares = {"model.matrices": 0.0, "model.others": 0.0, "weighting": 0.0}
    for parameter in run.model.parameters():
        assert parameter.grad is not None
        squares["model.matrices" if parameter.ndim > 1 else "model.others"] += float(parameter.grad.double().square().sum())
    for parameter in run.curriculum.weighting.module.parameters():
        squares["weighting"] += float(parameter.grad.double().square().sum())
    assert values.norms.groups == pytest.approx({name: math.sqrt(square) for name, square in squares.items()}, rel=1e-6)
    assert all(norm > 0 for norm in values.norms.groups.values())
    assert values.grad_norm == pytest.approx(math.sqrt(sum(squares.values())), rel=1e-6)


class Tracker:
    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def log(self, scalars: dict[str, float], *, step: int) -> None:
        self.logged.append(scalars | {"step": step})

    def close(self) -> None: ...


def test_norms_stand_in_every_record_in_trackers_and_in_the_history(small_run: Build) -> None:
    run = small_run(training={"epochs": 1, "clipping": {"max_norm": 1e-3}})
    tracker = Tracker()
    fit(replace(run, trackers=[tracker]), RunState())
    records = [record for record in read_jsonl(run.folder.metrics) if record["kind"] == "step"]
    assert [sorted(record["grad_norms"]) for record in records] == [["model.matrices", "model.others"]] * 10
    for record in records:
        assert record["grad_norm"] == pytest.approx(math.hypot(*record["grad_norms"].values()), rel=1e-12)
        assert record["grad_norm"] > 1e-3
    steps = mmtrain.history(run.folder.path).steps
    for name in ("model.matrices", "model.others"):
        column = steps[f"grad_norms/{name}"]
        assert isinstance(column, np.ndarray)
        assert column.tolist() == [record["grad_norms"][name] for record in records]
        tracked = [line[f"grad_norms/{name}"] for line in tracker.logged if "grad_norm" in line]
        assert tracked == column.tolist()


def test_a_group_that_stands_still_has_the_norm_zero(write_experiment: Write) -> None:
    stages = [{"at": 0, "layers": 0}, {"at": 2, "layers": None}]
    file = write_experiment(
        training={"epochs": 1, "steps_per_epoch": 3, "eval_every": None, "unfreeze": {"stages": stages, "unit": "steps"}}
    )
    steps = train_experiment(file).steps
    for name in ("text.matrices", "text.others"):
        assert steps[f"grad_norms/{name}"][:2].tolist() == [0.0, 0.0]
        assert steps[f"grad_norms/{name}"][2] > 0
    assert (steps["grad_norms/model.matrices"] > 0).all()


@ROWS
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_what_is_not_finite_touches_no_weight_under_any_clipping(
    small_run: Build, name: str, wrong: float, policy: str
) -> None:
    """One number of one gradient, which clipping by value would make a plain one; and not the optimizer's moments either."""
    run = small_run(training={"clipping": {"name": name}, "on_nonfinite": policy})
    step = first_step(run)
    train_step(run, step)
    before = copy.deepcopy((run.model.state_dict(), run.optimizer.state_dict()["state"]))
    last = list(run.model.parameters())[-1]
    last.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([0]), wrong))
    if policy == "stop":
        with pytest.raises(NonFiniteError, match="step 1: the gradient holds NaN or Inf"):
            train_step(run, step)
    else:
        values, updated = train_step(run, step)
        assert (values.left_out, updated) == (True, False)
        assert not math.isfinite(values.grad_norm)
    assert all(torch.equal(value, before[0][key]) for key, value in run.model.state_dict().items())
    for number, state in run.optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, before[1][number][key]) for key, value in state.items())


@ROWS
def test_a_step_moves_the_weights_by_the_clipped_gradient(small_run: Build, name: str) -> None:
    """Plain descent: the weights move by lr times what numpy in float64 makes of the gradient."""
    bound = {"norm": {"max_norm": 0.05}, "value": {"max_value": 0.05}, "none": {}}[name]
    descent = {"optimizer": {"name": "sgd", "lr": 0.5, "momentum": 0.0, "weight_decay": 0.0}}
    free, run = (
        small_run(training=descent | {"schedule": {"name": "constant", "warmup": 0}, "clipping": clipping})
        for clipping in ({"name": "none"}, {"name": name, **bound})
    )
    before = [parameter.detach().double().numpy().copy() for parameter in run.model.parameters()]
    train_step(free, first_step(free))
    gradients = [parameter.grad.double().numpy() for parameter in free.model.parameters()]
    norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients))
    assert norm > 0.1
    formulas = {
        "norm": lambda gradient: gradient * 0.05 / (norm + 1e-6),
        "value": lambda gradient: np.clip(gradient, -0.05, 0.05),
        "none": lambda gradient: gradient,
    }
    values, _ = train_step(run, first_step(run))
    assert values.grad_norm == pytest.approx(norm, rel=1e-6), "before clipping"
    for parameter, start, gradient in zip(run.model.parameters(), before, gradients, strict=True):
        expected = start - 0.5 * formulas[name](gradient)
        assert parameter.detach().numpy() == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_each_step_moves_the_weights_by_its_own_rate(small_run: Build) -> None:
    """A warm-up of two steps and a line down to zero in six: 1/2, 1, 1, 3/4, 1/2, 1/4 of the peak; the log says the same."""
    descent = {"name": "sgd", "lr": 0.4, "text_lr": 0.4, "momentum": 0.0, "weight_decay": 0.0}
    length = {"epochs": 1, "steps_per_epoch": 6, "schedule": {"name": "linear", "warmup": 2}}
    run = small_run(training=length | {"optimizer": descent, "clipping": {"name": "none"}})
    for inputs, share in zip(run.loader.steps(run.curriculum.next_window(0, 4), first=0), (1 / 2, 1, 1, 3 / 4), strict=True):
        before = [parameter.detach().clone() for parameter in run.model.parameters()]
        values, _ = train_step(run, inputs)
        assert list(values.lr.values()) == pytest.approx([0.4 * share] * len(values.lr))
        for parameter, start in zip(run.model.parameters(), before, strict=True):
            moved = torch.zeros_like(start) if parameter.grad is None else 0.4 * share * parameter.grad
            torch.testing.assert_close(parameter.detach(), start - moved, rtol=1e-5, atol=1e-7)


def half_precision(run: Run, monkeypatch: pytest.MonkeyPatch, scale: float) -> Run:
    """The run with a loss scaler, as fp16 has it."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaled = AcceleratedOptimizer(run.optimizer, scaler=scaler)
    monkeypatch.setattr(run.accelerator, "scaler", scaler)
    monkeypatch.setattr(run.accelerator, "native_amp", True)
    monkeypatch.setattr(run.accelerator.state, "_mixed_precision", "fp16")
    monkeypatch.setattr(run.accelerator, "_optimizers", [scaled])
    return replace(run, optimizer=scaled)


@ROWS
def test_a_scaled_loss_changes_neither_norms_nor_what_clipping_does(
    small_run: Build, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    plain, other = (small_run(training={"clipping": {"name": name}, "optimizer": {"name": "sgd"}}) for _ in range(2))
    expected, _ = train_step(plain, first_step(plain))
    scaled = half_precision(other, monkeypatch, 1024.0)
    values, updated = train_step(scaled, first_step(scaled))
    assert updated
    assert values.norms.groups == pytest.approx(expected.norms.groups, rel=1e-5)
    for key, value in plain.model.state_dict().items():
        torch.testing.assert_close(scaled.model.state_dict()[key], value, msg=key)


def test_a_step_left_out_under_a_loss_scaler_lowers_the_scale_and_touches_nothing(
    small_run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does one that is barred though its gradient is sound; and the scaler takes the next step."""
    run = half_precision(small_run(training={"on_nonfinite": "skip"}), monkeypatch, 1024.0)
    inputs = first_step(run)
    before = copy.deepcopy(run.model.state_dict())
    sound = [batch.inputs["audio"].values.clone() for batch in inputs.micro_batches]
    for batch in inputs.micro_batches:
        batch.inputs["audio"].values.fill_(math.nan)
    values, updated = train_step(run, inputs)
    assert (values.left_out, updated, run.accelerator.scaler.get_scale()) == (True, False, 512.0)
    for batch, numbers in zip(inputs.micro_batches, sound, strict=True):
        batch.inputs["audio"].values.copy_(numbers)
    values, updated = train_step(run, replace(inputs, is_barred=True))
    assert (values.left_out, updated) == (True, False)
    assert not run.optimizer.state_dict()["state"]
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    assert train_step(run, inputs)[1]


class Root(torch.nn.Module):
    """sqrt(0) has the slope Inf, and Inf * 0 is NaN: finite forward, NaN backward."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return values + (values * 0).sqrt()


def with_root(run: Run) -> None:
    head = run.heads["funny"]
    before = head.forward

    def forward(*words: Any, **named: Any) -> Any:
        return Root()(before(*words, **named))

    head.forward = forward


@pytest.mark.parametrize("policy", ["stop", "skip", "rollback"])
def test_anomaly_mode_names_the_operation(small_run: Build, policy: str) -> None:
    run = small_run(training={"detect_anomaly": True, "on_nonfinite": policy})
    before = copy.deepcopy(run.model.state_dict())
    with_root(run)
    with pytest.raises(NonFiniteError) as error:
        fit(run, RunState())
    place = run.folder.nonfinite / "step-00000001"
    assert str(error.value) == (
        "step 1: the backward pass of SqrtBackward0 gave NaN (its output 0; training.detect_anomaly). No weight was "
        f"changed. The warning above shows where the forward pass called it. The batch is kept in {place}"
    )
    assert json.loads((place / "process-0.json").read_text())["origin"] == "the backward pass of SqrtBackward0"
    assert all(torch.equal(value, before[key]) for key, value in run.model.state_dict().items())
    assert not torch.is_anomaly_enabled(), "it ends with the step"


def test_without_anomaly_mode_the_same_nan_is_found_in_the_gradient(small_run: Build) -> None:
    run = small_run()
    with_root(run)
    with pytest.raises(NonFiniteError, match="the gradient holds NaN or Inf"):
        train_step(run, first_step(run))


def test_anomaly_mode_leaves_a_sound_run_and_other_errors_as_they_are(
    small_run: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, watched = (small_run(training={"epochs": 1, "detect_anomaly": on}) for on in (False, True))
    for run in (plain, watched):
        fit(run, RunState())
    for key, value in plain.model.state_dict().items():
        assert torch.equal(watched.model.state_dict()[key], value), key

    def fail(*_: Any) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(step_module, "backward", fail)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train_step(watched, first_step(small_run()))


def grow_a_root() -> None:
    from mmtrain import training

    build = training.build_run

    def build_with_root(*words: Any, **named: Any) -> Run:
        run = build(*words, **named)
        with_root(run)
        return run

    training.build_run = build_with_root
    warnings.simplefilter("default")


@pytest.mark.slow
def test_the_command_ends_with_code_3_the_operation_and_its_traceback(fields: Path) -> None:
    """And a run that met a NaN may be resumed with the hunt on: the key is a free one."""
    arguments = ["train", "--config", str(fields)]
    assert live(arguments, cwd=fields.parent, patch=grow_a_root).code == 3
    hunted = live([*arguments, "--resume", "--detect-anomaly"], cwd=fields.parent, patch=grow_a_root)
    assert hunted.code == 3
    assert "error: step 1: the backward pass of SqrtBackward0 gave NaN" in hunted.err
    assert "Error detected in SqrtBackward0. Traceback of forward call that caused the error:" in hunted.err
    assert "in forward" in hunted.err
    assert "(values * 0).sqrt()" in hunted.err


def second_grows_a_root_before_the_first_has_a_folder() -> None:
    if os.environ["RANK"] == "1":
        return grow_a_root()
    from mmtrain import build

    begin = build.begin_run

    def begin_late(*words: Any, **named: Any) -> None:
        time.sleep(1)
        begin(*words, **named)

    build.begin_run = begin_late
    return None


@pytest.mark.slow
def test_the_other_process_of_two_ends_for_having_lost_the_one_that_found_it(fields: Path) -> None:
    arguments = ["train", "--config", str(fields), "--detect-anomaly"]
    lives = live_together(arguments, cwd=fields.parent, world=2, patch=second_grows_a_root_before_the_first_has_a_folder)
    assert [life.code for life in lives] == [2, 3], lives
    assert "another process of this run ended or did not answer" in lives[0].err
    # 0 / 0 in the root where no gradient reaches a row of this slice, else infinity times 0 in the product below it
    assert re.search("the backward pass of (Sqrt|Mul)Backward0 gave NaN", lives[1].err)


@pytest.mark.slow
def test_norms_and_clipping_are_those_of_the_global_batch_on_two_processes(fields: Path) -> None:
    arguments = ["train", "--config", str(fields), "training.clipping.max_norm=0.05", "batch.size=6"]
    arguments += ["model.fusion.name=concat", "model.fusion.dropout=0"]
    assert live([*arguments, "name=one"], cwd=fields.parent).code == 0
    lives = live_together([*arguments, "name=two"], cwd=fields.parent, world=2)
    assert [life.code for life in lives] == [0, 0], lives
    one, two = (mmtrain.history(fields.parent / "runs" / name).steps for name in ("one", "two"))
    for name in ("grad_norm", "grad_norms/model.matrices", "grad_norms/model.others"):
        assert two[name] == pytest.approx(one[name], rel=1e-4), name
