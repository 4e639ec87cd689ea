"""Whole small runs: early stopping, history, training metrics, truncation."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lives import Write

from mmtrain.engine import loop, timing, validation
from mmtrain.engine.history import history
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.errors import DataError
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.training import train_experiment

Build = Callable[..., Run]


def test_the_peak_of_memory_is_that_of_each_epoch(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of three steps; a step holds 300 MiB in the first, and 20 in the second."""
    peaks = [900 * 2**20]  # of what went before
    train_step = loop.train_step

    def holding(run: Run, inputs: Any) -> Any:
        peaks.append((300 if inputs.step < 3 else 20) * 2**20)
        return train_step(run, inputs)

    monkeypatch.setattr(loop, "train_step", holding)
    for module in (loop, timing):
        monkeypatch.setattr(module, "forget_peak", lambda _: peaks.clear())
    monkeypatch.setattr(timing, "largest_peak", lambda _: max(peaks))
    found = fit(small_run(training={"epochs": 2, "steps_per_epoch": 3, "eval_every": None}), RunState())
    assert found.epochs["peak_memory_mib"].tolist() == [300.0, 20.0]


def test_a_kill_between_a_checkpoint_and_its_names_is_made_good(fields: Path) -> None:
    train_experiment(fields)
    checkpoints = fields.parent / "runs" / "run" / "checkpoints"
    for name in ("last", "best"):
        (checkpoints / name).unlink()
    (checkpoints / "last").symlink_to("step-00000002")
    train_experiment(fields, resume=True)
    assert [(checkpoints / name).resolve().name for name in ("last", "best")] == ["step-00000004"] * 2


def test_early_stopping_keeps_the_best(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses as planned here: the second of them is the best, and two without gain end the run."""
    planned = iter([3.0, 2.0, 2.5, float("nan"), 1.0])
    metrics = validation.split_metrics
    seen: dict[str, Any] = {}

    def plan(split: str, predictions: Any) -> dict[str, float]:
        values = metrics(split, predictions)
        if split == "val":
            values["val/loss"] = next(planned)
            seen[str(values["val/loss"])] = predictions
        return values

    monkeypatch.setattr(validation, "split_metrics", plan)
    run = small_run(
        selection={"mode": "min", "patience": 2},
        training={"epochs": 5, "steps_per_epoch": 4, "eval_every": None, "keep_checkpoints": 1},
    )
    state = RunState()
    found = fit(run, state)
    assert (state.step, state.stopped, state.selection.best, state.selection.best_step) == (16, True, 2.0, 8)
    assert found.evaluations["val/loss"].tolist()[:3] == [3.0, 2.0, 2.5]
    assert np.isnan(found.evaluations["val/loss"][3])
    checkpoints = run.folder.checkpoints
    assert [(checkpoints / name).resolve().name for name in ("best", "last")] == ["step-00000008", "step-00000016"]
    assert sorted(path.name for path in checkpoints.glob("step*")) == ["step-00000008", "step-00000016"]
    saved = read_predictions(run.folder.predictions("val"))
    for item in seen["2.0"]:
        order = np.lexsort((item.ids, item.streams))
        assert saved[item.task].losses.tolist() == item.losses[order].astype(np.float32).tolist()


@pytest.mark.parametrize(
    ("metric", "mode", "warned"),
    [("val/loss", "max", True), ("val/funny/loss", "max", True), ("val/loss", "min", False), ("val/funny/f1", "max", False)],
)
def test_a_run_that_would_keep_its_worst_loss_is_warned(
    metric: str, mode: str, warned: bool, small_run: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    small_run(selection={"metric": metric, "mode": mode})
    words = f"warning: selection.mode: max keeps the checkpoint of the worst {metric}; write mode: min"
    assert (words in capsys.readouterr().out) == warned


def test_history_is_what_the_files_say(small_run: Build) -> None:
    run = small_run()
    found = fit(run, RunState())
    records = list(read_jsonl(run.folder.metrics))
    steps = [record for record in records if record["kind"] == "step"]
    assert found.steps["step"].tolist() == list(range(1, 21))
    assert found.steps["grad_norm"].tolist() == [record["grad_norm"] for record in steps]
    expected = [record["loss"].get("pitch", np.nan) for record in steps]
    assert found.steps["loss/pitch"] == pytest.approx(np.array(expected), nan_ok=True)
    assert found.steps["lr/model.matrices"][:3] == pytest.approx([0.005, 0.01, 0.01])  # 10 % of 20 steps of warm-up
    assert found.evaluations["step"].tolist() == [8, 10, 18, 20]
    assert found.evaluations["epoch"].tolist() == [1, 1, 2, 2]
    assert found.curve["samples"].tolist() == [25, 50, 75, 100, 125]
    again = history(run.folder.path)
    for part in ("steps", "evaluations", "curve", "epochs"):
        for name, column in getattr(found, part).items():
            assert np.array_equal(column, getattr(again, part)[name], equal_nan=True), name
    windows = list(read_jsonl(run.folder.curriculum))
    assert [window["step"] for window in windows] == [4, 8, 10, 14, 18, 20]
    assert all(sum(window["counts"].values()) == 7 * window["steps"] for window in windows)
    assert [record["kind"] for record in records if record["step"] == 8] == ["step", "curve", "evaluation"]


def test_the_clock_is_read_once_a_window_and_an_epoch_in_a_file_of_its_own(
    small_run: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 steps of 7 samples in epochs of 10, windows of 4 and one of 2, with an evaluation inside each epoch."""
    run = small_run()
    found = fit(run, RunState())
    records = list(read_jsonl(run.folder.timing))
    assert [(record["kind"], record["step"]) for record in records] == [
        *(("window", 4), ("window", 8), ("window", 10), ("epoch", 10)),
        *(("window", 14), ("window", 18), ("window", 20), ("epoch", 20)),
    ]
    for epoch, windows in ((records[3], records[:3]), (records[7], records[4:7])):
        assert epoch["seconds"] == pytest.approx(sum(window["seconds"] for window in windows), abs=1e-3)
        assert epoch["samples_per_second"] == pytest.approx(70 / epoch["seconds"], rel=1e-2)
        assert list(epoch["rows_per_second"]) == ["audio", "video"]
        rows = [window["rows_per_second"]["audio"] * window["seconds"] for window in windows]
        assert epoch["rows_per_second"]["audio"] * epoch["seconds"] == pytest.approx(sum(rows), rel=1e-2)
        assert 100 < epoch["peak_memory_mib"] < 100_000
        assert "peak_memory_mib" not in windows[0]
    assert found.epochs["epoch"].tolist() == [1, 2]
    assert found.epochs["samples_per_second"].tolist() == [
        records[3]["samples_per_second"],
        records[7]["samples_per_second"],
    ]
    assert {"rows_per_second/audio", "padding/audio", "peak_memory_mib", "seconds"} <= set(found.epochs)
    said = re.findall(r"^epoch (\d): (\S+) samples/s, peak memory [\d,]+ MiB$", capsys.readouterr().out, re.M)
    assert said == [(str(number), f"{records[at]['samples_per_second']:.1f}") for number, at in ((1, 3), (2, 7))]
    assert "per_second" not in run.folder.metrics.read_text()


def test_history_needs_a_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        history(tmp_path)


def test_training_metrics_are_of_the_epochs_own_forward_passes(small_run: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    run = small_run(training={"epochs": 1, "eval_every": None})
    seen: dict[str, Any] = {}
    validate = loop.validate

    def note(run: Run, state: RunState) -> None:
        seen.update(state.log.arrays)
        validate(run, state)

    monkeypatch.setattr(loop, "validate", note)
    found = fit(run, RunState())
    assert len(seen["index"]) == 70
    rows = seen["funny/labelled"]
    values = found.evaluations
    assert values["train/funny/loss"][0] == pytest.approx(seen["funny/loss"][rows].mean(dtype=np.float64))
    labels = [run.train_streams[k].store_labels("funny")[i] for k, i in zip(seen["stream"], seen["index"], strict=True)]
    right = (seen["funny/logits"] > 0) == (np.array(labels) == 1)
    assert values["train/funny/accuracy"][0] == pytest.approx(right[rows].mean())
    per_step = [seen["funny/loss"][rows & (seen["step"] == step)] for step in range(10)]
    expected = [losses.mean(dtype=np.float64) if len(losses) else np.nan for losses in per_step]
    assert found.steps["loss/funny"] == pytest.approx(np.array(expected), nan_ok=True)


def test_progress_shows_objective_and_the_shares_of_the_window(
    small_run: Build, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (loop, validation):
        monkeypatch.setattr(module, "ProgressBar", partial(loop.ProgressBar, seconds_between_lines=0.0))
    sampler = {"name": "fixed", "shares": {"clips": 1.0, "calls": 3.0}}
    training = {"epochs": 1, "steps_per_epoch": 4, "eval_every": None, "train_predictions": True}
    fit(small_run(curriculum={"sampler": sampler}, training=training), RunState())
    said = capsys.readouterr().out
    steps = re.findall(r"^epoch 1 (\d)/4  objective \d\.\d+  calls 75% clips 25%  \S+/s  \S+ s left$", said, re.M)
    assert steps == ["1", "2", "3", "4"]
    assert re.search(r"^validation 1/\d+ ", said, re.M)
    assert re.search(r"^training samples 1/\d+ ", said, re.M)


def test_cut_texts_are_said_once(write_experiment: Write, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_experiment(
        training={"epochs": 2, "steps_per_epoch": 4, "eval_every": None}, model={"text": {"max_tokens": 5}}
    )
    train_experiment(file)
    lines = [line for line in capsys.readouterr().out.splitlines() if "cut on the right" in line]
    assert len(lines) == 1
    truncated, texts = (int(word.replace(",", "")) for word in (lines[0].split()[0], lines[0].split()[2]))
    assert 0 < truncated <= texts <= 28 + 2 * 150
    assert "longer than 5 tokens" in lines[0]
