"""Two real runs: the first leaves its training losses, the second's shares grow where it is behind them."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lives import Write

from mmtrain.cli import main
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.state import RunState
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.training import train_experiment

Build = Callable[..., Run]
SHORT = {"epochs": 2, "steps_per_epoch": 8, "eval_every": None, "checkpoint_every": 4}


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    return capsys.readouterr().out


@pytest.fixture
def reference(small_run: Build) -> RunFolder:
    """A run of two epochs with uniform shares."""
    run = small_run(curriculum={"sampler": {"name": "uniform"}}, training=SHORT | {"train_predictions": True})
    fit(run, RunState())
    return run.folder


def test_the_second_run_hears_the_first_ones_losses(
    reference: RunFolder, small_run: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    run = small_run(
        curriculum={"sampler": {"name": "doremi", "reference": str(reference.path), "rate": 5.0}}, training=SHORT
    )
    saved = read_predictions(reference.train_predictions(2))
    means = {
        stream.name: {
            task: float(saved[task].losses[saved[task].streams == stream.name].astype("float64").mean())
            for task in stream.tasks
        }
        for stream in run.train_streams
    }
    config: Any = run.identity["config"]
    told_losses = config["curriculum"]["sampler"]["reference_losses"]
    for stream, tasks in means.items():
        assert told_losses[stream] == pytest.approx(tasks, rel=1e-5)
    assert f"{reference.path} gives reference_losses: {{calls: {{funny: " in " ".join(capsys.readouterr().out.split())
    fit(run, RunState())
    first, second, *_ = read_jsonl(run.folder.curriculum)
    assert first["shares"] == {"clips": 0.5, "calls": 0.5}
    behind = {
        stream: max(sum(loss - means[stream][task] for task, loss in tasks.items()) / len(tasks), 0.0)
        for stream, tasks in first["losses"].items()
    }
    assert (second["shares"]["clips"] > 0.5) == (behind["clips"] > behind["calls"])
    assert second["shares"]["clips"] != 0.5


def test_a_changed_reference_is_refused_and_the_same_numbers_from_elsewhere_are_not(
    reference: RunFolder, small_run: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sampler = {"name": "doremi", "reference": str(reference.path)}
    run = small_run(curriculum={"sampler": sampler}, training=SHORT)
    fit(run, RunState())
    run.close()
    file = tmp_path / f"{run.folder.path.name}.yaml"
    # the reference run goes on: its newest epoch is another
    shutil.copy(reference.train_predictions(1), reference.train_predictions(3))
    said = r"curriculum\.sampler\.reference_losses\.clips\.funny: was [0-9.]+, is [0-9.]+"
    with pytest.raises(CheckpointError, match=said):
        train_experiment(file, resume=True)
    train_experiment(file, ["curriculum.sampler.reference_epoch=2"], resume=True)
    capsys.readouterr()
    moved = reference.path.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"sampler.reference: \S+ is not a run folder"):
        train_experiment(file, resume=True)
    train_experiment(file, [f"curriculum.sampler={{name: doremi, reference: {moved}, reference_epoch: 2}}"], resume=True)
    lines = " ".join(capsys.readouterr().out.split())
    numbers = lines.partition("gives reference_losses: ")[2].partition("}}")[0] + "}}"
    null = [f"curriculum.sampler.{key}=null" for key in ("reference", "reference_epoch")]
    train_experiment(file, [*null, f"curriculum.sampler.reference_losses={numbers}"], resume=True)


def test_simulate_reads_it_too(
    reference: RunFolder, write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_experiment(curriculum={"sampler": {"name": "doremi", "reference": str(reference.path), "rate": 9.0}})
    said = told(["curriculum", "simulate", str(file), "--out", str(tmp_path / "out.png")], capsys)
    assert "clips: 70 samples" not in said, "shares that the losses moved"
    assert (tmp_path / "out.png").is_file()
    with pytest.raises(SystemExit) as end:
        main(["curriculum", "simulate", str(file), "curriculum.sampler.reference=nowhere"])
    assert end.value.code == 2
    assert "curriculum.sampler.reference: nowhere is not a run folder" in capsys.readouterr().err
