"""predictions/train-epoch-NNNN.parquet: every labelled training sample once, as the epoch's checkpoint sees it."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lives import Write, live
from safetensors.torch import load_file
from test_processes_equal import double, float64, run_of

from mmtrain.engine import validation
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.scoring import score_run

Build = Callable[..., Run]
ASKED = {"train_predictions": True, "keep_checkpoints": 9}


def forward_one_by_one(run: Run, task: str) -> dict[tuple[str, str], tuple[list[float], float]]:
    """(stream, id) -> logits and label of every training sample that carries one, a forward pass for each."""
    found = {}
    for number, stream in enumerate(run.train_streams):
        if task not in stream.tasks:
            continue
        labels, labelled = stream.labels(task)
        for position in np.flatnonzero(labelled):
            batch = run.loader.collate([stream.sample(int(position))], [number])
            logits = run.model(batch.inputs, batch.labelled).logits[task]
            found[stream.name, batch.ids[0]] = logits.flatten().tolist(), float(labels[position])
    return found


def test_every_epoch_leaves_what_its_checkpoint_says_of_every_labelled_training_sample(small_run: Build) -> None:
    run = small_run(training=ASKED)
    fit(run, RunState())
    assert run.folder.epochs_predicted() == [1, 2], "evaluations at 8 and 18 fall inside an epoch"
    run.model.eval()
    for epoch, step in ((1, 10), (2, 20)):
        run.model.load_state_dict(load_file(run.folder.checkpoints / f"step-{step:08d}" / "model.safetensors"))
        saved = read_predictions(run.folder.train_predictions(epoch))
        assert set(saved) == {"funny", "mood", "pitch"}
        with torch.inference_mode():
            expected = {task: forward_one_by_one(run, task) for task in saved}
        for task, item in saved.items():
            keys = list(zip(item.streams.tolist(), item.ids.tolist(), strict=True))
            assert sorted(keys) == sorted(expected[task]), "each labelled sample once"
            logits = np.array([expected[task][key][0] for key in keys]).reshape(item.logits.shape)
            assert item.logits == pytest.approx(logits, abs=1e-5)
        item = saved["funny"]
        signs = np.array([2 * expected["funny"][key][1] - 1 for key in zip(item.streams, item.ids, strict=True)])
        assert item.losses == pytest.approx(np.log1p(np.exp(-signs * item.logits)), abs=1e-5)
        assert {"clips", "calls"} == set(item.streams.tolist())
    assert read_predictions(run.folder.train_predictions(1))["funny"].losses[0] != item.losses[0]


def test_a_run_that_stops_early_leaves_those_of_the_epoch_under_way(small_run: Build, monkeypatch: Any) -> None:
    metrics = validation.split_metrics
    worse = iter(range(9))
    monkeypatch.setattr(
        validation, "split_metrics", lambda split, found: metrics(split, found) | {f"{split}/loss": float(next(worse))}
    )
    run = small_run(training=ASKED | {"eval_every": 4}, selection={"mode": "min", "patience": 3})
    state = RunState()
    fit(run, state)
    assert (state.step, run.folder.epochs_predicted()) == (14, [1, 2])


def test_nothing_is_evaluated_for_it_where_it_is_off(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing in the run depends on it: the logs with it and without are the same bytes."""
    seen: list[Any] = []
    evaluate = validation.evaluate

    def count(model: Any, streams: Any, **arguments: Any) -> Any:
        seen.append(streams)
        return evaluate(model, streams, **arguments)

    monkeypatch.setattr(validation, "evaluate", count)
    off = small_run()
    fit(off, RunState())
    assert len(seen) == 4
    assert all(streams is off.val_streams for streams in seen)
    assert off.folder.epochs_predicted() == []
    on = small_run(training=ASKED)
    fit(on, RunState())
    assert len(seen) == 4 + 4 + 2
    assert off.folder.metrics.read_bytes() == on.folder.metrics.read_bytes()


def test_two_processes_leave_the_same_file(write_experiment: Write) -> None:
    write = float64(write_experiment)
    changes: dict[str, Any] = {"training": ASKED | {"optimizer": {"eps": 1e-3}}}
    runs = [run_of(write, f"world{world}", world=world, patch=double, **changes) for world in (1, 2)]
    for epoch in (1, 2):
        one, two = ((run / "predictions" / f"train-epoch-{epoch:04d}.parquet").read_bytes() for run in runs)
        assert one == two


def kill_before_the_checkpoint() -> None:
    whole = validation.predict_training

    def predict_training(run: Run, step: int) -> None:
        whole(run, step)
        os.kill(os.getpid(), signal.SIGKILL)

    validation.predict_training = predict_training


@pytest.mark.slow
def test_killed_after_it_and_resumed_writes_it_again_alike(write_experiment: Write, tmp_path: Path) -> None:
    whole, parted = (write_experiment(f"{name}.yaml", name=name, training=ASKED) for name in ("whole", "parted"))
    assert live(["train", "--config", str(whole)], cwd=tmp_path).code == 0
    assert live(["train", "--config", str(parted)], cwd=tmp_path, patch=kill_before_the_checkpoint).code == -signal.SIGKILL
    file = tmp_path / "runs/parted/predictions/train-epoch-0001.parquet"
    written = file.stat().st_mtime_ns
    end = live(["train", "--config", str(parted), "--resume"], cwd=tmp_path)
    assert end.code == 0, end.err
    assert file.stat().st_mtime_ns > written
    for epoch in (1, 2):
        name = f"predictions/train-epoch-{epoch:04d}.parquet"
        assert (tmp_path / "runs/whole" / name).read_bytes() == (tmp_path / "runs/parted" / name).read_bytes()


def test_a_resumed_run_may_be_asked_for_it(write_experiment: Write, tmp_path: Path) -> None:
    file = write_experiment(training={"eval_every": None})
    assert live(["train", "--config", str(file)], cwd=tmp_path, patch=stop_at_12).code == 130
    end = live(["train", "--config", str(file), "--resume", "training.train_predictions=true"], cwd=tmp_path)
    assert end.code == 0, end.err
    assert [path.name for path in (tmp_path / "runs/run/predictions").glob("train-*")] == ["train-epoch-0002.parquet"]


def stop_at_12() -> None:
    from lives import cut

    cut(at=11, how=signal.SIGINT)


def test_evaluate_says_who_writes_them(small_run: Build) -> None:
    from mmtrain.errors import ConfigError

    run = small_run()
    with pytest.raises(ConfigError, match=r"'train-epoch-0001' is none of .* training.train_predictions: true has the run"):
        score_run(run.folder.path, split="train-epoch-0001")


def test_a_run_whose_streams_are_used_up_at_an_evaluation_ends_as_a_whole(small_run: Build) -> None:
    """Its last window is an empty one: the training predictions are there, and the checkpoint knows of the end."""
    curriculum = {"exhausted": "stop", "window": 2, "sampler": {"name": "uniform"}}
    training = ASKED | {"epochs": 1, "steps_per_epoch": 40, "eval_every": 2, "checkpoint_every": None}
    run, state = small_run(curriculum=curriculum, training=training, batch={"size": 10, "micro": None}), RunState()
    fit(run, state)
    assert state.step < 40
    assert state.step == state.evaluated, "or this tests nothing"
    assert state.step % 2 == 0
    assert run.folder.epochs_predicted() == [1]
    saved = json.loads((run.folder.checkpoints / "last" / "state.json").read_text())
    assert (saved["step"], saved["stopped"]) == (state.step, True)
