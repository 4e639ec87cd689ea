"""W&B and TensorBoard: they get every step, and nothing they do stops or changes a run."""

import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest
from lives import weights

from mmtrain.engine.history import history
from mmtrain.training import train_experiment


def fake_wandb(**parts: Any) -> types.ModuleType:
    module = types.ModuleType("wandb")
    module.__dict__.update({"Settings": lambda **_: None} | parts)
    return module


class RecordingRun:
    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = False

    def log(self, scalars: dict[str, float], *, step: int) -> None:
        self.logged.append((step, scalars))

    def finish(self) -> None:
        self.finished = True


def test_wandb_that_records_gets_every_step(
    fields: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RecordingRun()
    settings: dict[str, Any] = {}
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(init=lambda **words: settings.update(words) or run))
    found = train_experiment(fields, ["tracking.wandb=offline"])
    assert settings["mode"] == "offline"
    assert settings["config"]["batch"]["size"] == 7
    assert [step for step, _ in run.logged] == [1, 2, 3, 4, 4]
    assert [scalars["grad_norm"] for _, scalars in run.logged[:4]] == found.steps["grad_norm"].tolist()
    assert run.logged[4][1]["val/loss"] == found.evaluations["val/loss"][0]
    assert run.finished
    assert "failed" not in capsys.readouterr().out


def test_wandb_goes_on_with_a_resumed_run_and_not_with_a_replaced_one(fields: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str] = []
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(init=lambda **words: ids.append(words["id"]) or RecordingRun()))
    for words in ({}, {"resume": True}, {"overwrite": True}):
        train_experiment(fields, ["tracking.wandb=offline"], **words)
    assert ids[0] == ids[1] != ids[2]


def refuse(**_: Any) -> None:
    raise OSError("no route to host")


def test_wandb_that_fails_changes_nothing(
    fields: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mmtrain.engine.tracking import background

    release = threading.Event()
    modules = {"raises": fake_wandb(init=refuse), "absent": None, "silent": fake_wandb(init=lambda **_: release.wait())}
    monkeypatch.setattr(background.Background.__init__, "__kwdefaults__", {"patience": 0.1, "capacity": 10_000})
    train_experiment(fields, ["name=plain"])
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, "wandb", module)
        capsys.readouterr()
        train_experiment(fields, [f"name={name}", "tracking.wandb=online"])
        said = capsys.readouterr().out
        assert said.count("W&B failed and is left out from here on") == 1, said
        assert weights(fields, name) == weights(fields, "plain")
        assert history(fields.parent / "runs" / name).steps["step"].tolist() == [1, 2, 3, 4]
    release.set()


def test_tensorboard_gets_the_same_numbers(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    found = train_experiment(fields, ["tracking.tensorboard=true"])
    assert "failed" not in capsys.readouterr().out
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(fields.parent / "runs/run/tensorboard")).Reload()
    norms = events.Scalars("grad_norm")
    assert [event.step for event in norms] == [1, 2, 3, 4]
    assert [event.value for event in norms] == pytest.approx(found.steps["grad_norm"], rel=1e-6)
