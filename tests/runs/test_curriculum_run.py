"""Samplers and schedules in a real run: what is not active is not learned, and a wrong metric is refused at the start."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mmtrain.engine.ending import ending_notes
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.loop import fit
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.errors import ConfigError

Build = Callable[..., Run]
SHORT = {"epochs": 1, "steps_per_epoch": 8, "eval_every": None, "checkpoint_every": None}


def test_a_task_that_is_not_active_is_not_learned(small_run: Build) -> None:
    """First mood alone, then funny alone: `calls` has no mood, and `clips` carries labels of both all the time."""
    schedule = {
        "name": "staged",
        "unit": "epochs",
        "phases": [{"tasks": ["mood"], "end": 0.5}, {"tasks": ["funny"], "start": 0.5}],
    }
    training = SHORT | {"optimizer": {"lr": 0.01, "weight_decay": 0.0}}
    run = small_run(curriculum={"window": 4, "schedule": schedule}, training=training)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    fit(run, RunState())
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    heads = {task: any(f"{task}" in name for name in changed) for task in ("funny", "mood", "pitch")}
    assert heads == {"funny": True, "mood": True, "pitch": False}
    first, second = read_jsonl(run.folder.path / "curriculum.jsonl")
    assert (first["active"], first["counts"]) == ({"mood": 4}, {"clips": 28, "calls": 0})
    assert second["active"] == {"funny": 4}
    assert min(second["counts"].values()) > 0
    assert first["weights"] == {"funny": 0.0, "mood": 1.0, "pitch": 0.0}
    assert second["weights"] == {"funny": 1.0, "mood": 0.0, "pitch": 0.0}
    assert first["conflicts"] is second["conflicts"] is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"schedule": {"name": "stop_and_go", "metric": "f1x"}}, r"curriculum.schedule.metric: no metric 'val/funny/f1x'"),
        (
            {"sampler": {"name": "validation_driven", "targets": {"clips": {"metric": "val/moood/loss", "target": 1}}}},
            r"curriculum.sampler.targets.clips.metric: no metric 'val/moood/loss'",
        ),
    ],
)
def test_a_metric_that_no_evaluation_gives_is_refused_before_training(
    small_run: Build, section: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small_run(curriculum=section)


def test_a_plateau_of_a_metric_that_no_evaluation_gives_is_refused(small_run: Build) -> None:
    with pytest.raises(ConfigError, match=r"training.schedule.metric: no metric 'val/funny/f1x'"):
        small_run(training={"schedule": {"name": "reduce_on_plateau", "metric": "val/funny/f1x"}})


def test_a_target_may_be_the_metric_of_one_stream(small_run: Build) -> None:
    targets = {"clips": {"metric": "val/funny@clips/loss", "target": 0.1, "mode": "min"}}
    targets["calls"] = {"metric": "val/pitch/loss", "target": 0.1, "mode": "min"}
    run = small_run(curriculum={"sampler": {"name": "validation_driven", "targets": targets}}, training=SHORT)
    fit(run, RunState())
    assert sum(run.curriculum.state_dict()["sampler"]["gaps"].values()) > 0
    with pytest.raises(ConfigError, match="no metric 'val/pitch@calls/loss'"):  # calls alone has pitch
        small_run(curriculum={"sampler": {"name": "validation_driven", "targets": {"clips": targets["clips"]} | {
            "calls": targets["calls"] | {"metric": "val/pitch@calls/loss"}}}})  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        (
            {"curriculum": {"exhausted": "stop"}, "training": {"steps_per_epoch": 30}},
            [r"^the run ended at step \d+ of 60: the streams cannot fill another batch \(curriculum.exhausted\)$"],
        ),
        (
            {"selection": {"metric": "val/funny/accuracy", "mode": "max", "patience": 1}, "training": {"epochs": 40}},
            [r"^the run ended at step \d+ of 400: no gain in 1 evaluations \(selection.patience\)$"],
        ),
        (
            {"curriculum": {"schedule": {"name": "staged", "phases": [{"tasks": ["mood"]}]}}},
            ["^warning: never trained: tasks funny, pitch$", "^warning: never drawn from: stream calls$"],
        ),
    ],
    ids=["as planned", "used up", "no gain", "left out"],
)
def test_what_a_run_left_undone_is_said(small_run: Build, changes: dict[str, Any], expected: list[str]) -> None:
    run, state = small_run(**changes), RunState()
    fit(run, state)
    notes = list(ending_notes(run, state))
    assert len(notes) == len(expected), notes
    assert all(re.match(pattern, note) for pattern, note in zip(expected, notes, strict=True)), notes
