"""An average of the weights in a run: it is the average of what training passed through, evaluated, saved and scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lives import Write, live, live_together
from safetensors.numpy import load_file

from mmtrain.engine.history import history
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step

Build = Callable[..., Run]
SHORT = {"epochs": 1, "eval_every": 4, "checkpoint_every": None}


def test_the_average_is_of_the_weights_behind_every_step(small_run: Build) -> None:
    run = small_run(training={"average": {"name": "ema", "decay": 0.75}, "schedule": {"warmup": 0}})
    expected: dict[str, Any] = {}
    for inputs in run.loader.steps(run.curriculum.next_window(0, 4), first=0):
        train_step(run, inputs)
        for name, value in run.model.named_parameters():
            now = value.detach().double().numpy().copy()
            expected[name] = 0.75 * expected[name] + 0.25 * now if name in expected else now
    assert run.average is not None
    assert run.average.count == 4
    for name, value in run.average.module.named_parameters():
        assert value.detach().numpy() == pytest.approx(expected[name], rel=1e-5, abs=1e-7), name


def train(write: Write, *, world: int = 1, **changes: Any) -> Path:
    """A run of one epoch with batch normalization, evaluated at steps 4, 8 and 10."""
    norm = {"name": "mlp", "hidden": [8], "dropout": 0.0, "batch_norm": True}
    file = write(tasks={"funny": {"head": norm}}, **changes)
    lives = live_together(["train", "--config", str(file)], cwd=file.parent, world=world)
    assert [life.code for life in lives] == [0] * world, "\n".join(life.out + life.err for life in lives)
    return file.parent / "runs" / "run"


def scored(run: Path, *flags: str) -> Any:
    life = live(["evaluate", str(run), "--split", "val", "--checkpoint", "last", *flags], cwd=run.parent)
    assert life.code == 0, life.err
    name = "val_average" if flags else "val"
    assert (run / "predictions" / f"{name}.parquet").is_file()
    return json.loads((run / "evaluation" / f"{name}.json").read_text())["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_the_average_is_evaluated_saved_and_scored(write_experiment: Write, world: int) -> None:
    run = train(write_experiment, world=world, training=SHORT | {"average": {"name": "swa", "start": 5}})
    found = history(run).evaluations
    assert np.isnan(found["val_average/loss"]).tolist() == [True, False, False]  # at step 4 there was none
    assert found["val_average/loss"][-1] != found["val/loss"][-1]
    average, trained = scored(run, "--weights", "average"), scored(run)
    for name in ("loss", "funny/loss", "mood/loss", "pitch/loss"):
        assert average[f"val_average/{name}"] == pytest.approx(found[f"val_average/{name}"][-1], rel=1e-6)
        assert trained[f"val/{name}"] == pytest.approx(found[f"val/{name}"][-1], rel=1e-6)


@pytest.mark.slow
def test_training_goes_on_as_if_there_were_no_average(write_experiment: Write) -> None:
    last = "checkpoints/last/model.safetensors"
    plain = load_file(train(write_experiment, name="run", training=SHORT) / last)
    found = load_file(train(write_experiment, runs="others", training=SHORT | {"average": {"name": "ema"}}).parents[1]
                      / "others" / "run" / last)  # fmt: skip
    assert all((found[name] == value).all() for name, value in plain.items())


def test_weights_that_a_checkpoint_does_not_hold_are_refused(write_experiment: Write) -> None:
    run = train(write_experiment, training={"epochs": 1, "steps_per_epoch": 4, "eval_every": None, "checkpoint_every": None})
    for weights, message in (
        ("average", "--weights: checkpoint 'best', of step 4, holds no average; training.average was null or had not begun"),
        ("mean", "--weights: 'mean' is none of trained, average"),
    ):
        life = live(["evaluate", str(run), "--weights", weights], cwd=run.parent)
        assert life.code == 2
        assert message in life.err


def test_schedule_free_weights_are_evaluated_and_saved_as_their_average(write_experiment: Write) -> None:
    pytest.importorskip("schedulefree")
    training = SHORT | {"optimizer": {"name": "schedule_free_adamw"}, "schedule": {"name": "constant"}}
    run = train(write_experiment, training=training)
    for name in ("loss", "funny/loss", "pitch/loss"):
        assert scored(run)[f"val/{name}"] == pytest.approx(history(run).evaluations[f"val/{name}"][-1], rel=1e-6)
    last = run / "checkpoints" / "last"
    saved, trained = load_file(last / "model.safetensors"), load_file(last / "trained.safetensors")
    state = json.loads((last / "state.json").read_text())["optimizer"]["param_groups"]
    assert [group["name"] for group in state] == ["text.others", "text.matrices", "model.matrices", "model.others"]
    moments = load_file(last / "optimizer.safetensors")
    x = saved["text.encoder.embeddings.word_embeddings.weight"]  # the first parameter; y = (1 - beta1) z + beta1 x
    assert trained["text.others/0"] == pytest.approx(0.1 * moments["0/z"] + 0.9 * x, rel=1e-4, abs=1e-6)
    assert (trained["text.others/0"] != x).any()
