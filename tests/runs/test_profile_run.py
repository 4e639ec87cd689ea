"""A profiled run has the bits of a plain one, and leaves a table and a trace of steps alone, or says why there is none."""

import gzip
import json
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lives import Write, cut, live, live_together, results
from torch.profiler import ProfilerActivity

from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.profiling import trace
from mmtrain.engine.profiling.profile import Profile
from mmtrain.engine.profiling.trace import Trace
from mmtrain.training import train_experiment

CPU = torch.device("cpu")


def table(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "profile" / "table.json").read_text())
    return found


def marks(file: Path) -> Counter[str]:
    """How often each mark stands in a trace."""
    with gzip.open(file) as opened:
        events = json.load(opened)["traceEvents"]
    return Counter(event["name"].partition("#")[0] for event in events if event.get("cat") == "user_annotation")


def test_a_profiled_run_has_the_bits_of_a_plain_one(
    write_experiment: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps 6 and 7 are measured. Evaluations behind 8 and 10 end a trace that shows nothing yet: 13 to 15 are traced."""
    file, runs = write_experiment(), tmp_path / "runs"
    train_experiment(file, ["name=plain"])
    assert "Where a step's time goes" not in capsys.readouterr().out
    assert not (runs / "plain" / "profile").exists()
    train_experiment(file, ["name=own"], profile_steps=2)
    said = capsys.readouterr().out
    assert results(runs / "own") == results(runs / "plain")
    found = table(runs / "own")
    phases = found["phases"]
    assert list(phases) == ["data", "forward", "backward", "optimizer", "loop", "plan", "report", "evaluation", "checkpoint"]
    assert found["measured_steps"] == 2
    assert {phases[name]["steps"] for name in ("data", "forward", "backward", "optimizer", "loop")} == {2}
    assert (phases["evaluation"]["times"], phases["evaluation"]["steps"]) == (4, 20)
    # of those at 3, 6, 8, 9, 10, 12, 15, 18 and 20, two (which stand for 1 and 2 steps) come while it traces
    assert (phases["checkpoint"]["times"], phases["checkpoint"]["steps"]) == (7, 17)
    assert all(entry["ms_per_step"] > 0 for entry in phases.values())
    assert 100 < found["peak_memory_mib"] < 100_000
    seen = marks(runs / "own" / "profile" / "trace.json.gz")
    assert {name: seen[name] for name in ("optimizer", "backward", "forward", "data", "evaluation")} == {
        "optimizer": 3,
        "backward": 3,
        "forward": 9,  # micro-batches
        "data": 4,  # and the end of the window
        "evaluation": 0,
    }
    assert said.count("Where a step's time goes on cpu: 2 steps behind 5 of warm-up") == 1
    assert f"profile: trace of 3 steps for https://ui.perfetto.dev: {runs}/own/profile/trace.json.gz" in said


def test_a_run_too_short_to_be_measured_says_so(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, steps in ((0, 4), (1, 0)):  # and the finished run, resumed
        train_experiment(fields, resume=bool(number), profile_steps=20)
        assert f"profile: nothing was measured. {steps} steps were trained, and the first 5" in capsys.readouterr().out
        assert not (fields.parent / "runs" / "run" / "profile").exists()


def finish(profile: Profile, steps: int) -> None:
    for _ in range(steps):
        with profile.span("optimizer"):
            torch.ones(2).sum()
        profile.finish_step()


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (7, "there is no trace: the run ended before it"),
        (8, "there is no trace: the run ended before it"),
        (9, "trace of 1 step for"),
        (11, "trace of 3 steps for"),
    ],
)
def test_a_run_that_ends_early_shows_what_there_is(tmp_path: Path, steps: int, expected: str) -> None:
    said: list[str] = []
    own = Profile(tmp_path, steps=2, device=CPU, say=said.append)
    finish(own, steps)
    own.close()
    assert len(said) == 1
    assert said[0].startswith("Where a step's time goes on cpu: 2 steps behind 5")
    assert f"\nprofile: {expected}" in said[0]
    assert (tmp_path / "trace.json.gz").exists() == expected.startswith("trace")
    assert json.loads((tmp_path / "table.json").read_text())["measured_steps"] == 2
    assert (tmp_path / "table.md").read_text().startswith("Where a step's time goes")


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said: list[str] = []
    own = Profile(tmp_path / "file" / "profile", steps=2, device=CPU, say=said.append)
    finish(own, 20)
    own.close()
    assert said[0] == f"profile: {tmp_path}/file/profile cannot be written (Not a directory)"
    assert "profile: there is no trace: " in said[1]
    assert f"{tmp_path}/file/profile/trace.json.gz cannot be written" in said[1]


def test_beside_another_profiler_there_is_no_trace(tmp_path: Path) -> None:
    said: list[str] = []
    own = Profile(tmp_path, steps=2, device=CPU, say=said.append)
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]):
        finish(own, 12)
    assert "\nprofile: there is no trace: another profiler is at work in this process" in said[0]
    assert not (tmp_path / "trace.json.gz").exists()


def test_a_torch_without_kineto_has_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "kineto_available", lambda: False)
    own = Trace(tmp_path / "trace.json.gz", CPU)
    own.begin()
    assert (own.said, own.is_under_way) == ("there is no trace: this build of torch has no Kineto", False)


def test_a_trace_that_shows_no_step_yet_may_begin_once_more(tmp_path: Path) -> None:
    own = Trace(tmp_path / "trace.json.gz", CPU)
    own.begin()
    own.finish_step()  # it warms up
    own.end()
    assert (own.said, own.is_under_way, list(tmp_path.iterdir())) == ("", False, [])
    own.begin()
    for _ in range(4):
        assert own.is_under_way
        own.finish_step()
    assert not own.is_under_way
    assert own.said.startswith("trace of 3 steps")
    assert marks(tmp_path / "trace.json.gz")["ProfilerStep"] == 3


@pytest.mark.slow
def test_a_run_resumed_under_a_profile_ends_as_the_whole_one(write_experiment: Write, tmp_path: Path) -> None:
    file = str(write_experiment())
    assert live(["train", "--config", file, "name=whole"], cwd=tmp_path).code == 0
    killed = live(["train", "--config", file], cwd=tmp_path, patch=partial(cut, at=4, how=signal.SIGKILL))
    assert killed.code == -signal.SIGKILL
    life = live(["train", "--config", file, "--resume", "--profile", "--profile-steps", "3"], cwd=tmp_path)
    assert (life.code, life.err) == (0, "")
    assert results(tmp_path / "runs" / "run") == results(tmp_path / "runs" / "whole")
    assert table(tmp_path / "runs" / "run")["measured_steps"] == 3
    phases = table(tmp_path / "runs" / "run")["phases"]
    assert (phases["evaluation"]["times"], phases["evaluation"]["steps"]) == (4, 20)  # the first stands for steps 1 to 8


@pytest.mark.slow
def test_of_two_processes_the_first_measures_and_the_bits_stay(write_experiment: Write, tmp_path: Path) -> None:
    file = str(write_experiment())
    for name, words in (("plain", []), ("own", ["--profile", "--profile-steps", "2"])):
        lives = live_together(["train", "--config", file, f"name={name}", *words], cwd=tmp_path, world=2)
        assert [(life.code, life.err) for life in lives] == [(0, ""), (0, "")]
        assert lives[1].out == ""
    assert results(tmp_path / "runs" / "own") == results(tmp_path / "runs" / "plain")
    assert table(tmp_path / "runs" / "own")["measured_steps"] == 2
    epochs = [record for record in read_jsonl(tmp_path / "runs" / "own" / "timing.jsonl") if record["kind"] == "epoch"]
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert "MiB (the largest of 2 processes)" in lives[0].out
