"""W&B and TensorBoard: they get every step, and nothing they do stops or changes a run."""

import os
import signal
import socket
import sys
import threading
import time
import types
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from lives import live, weights

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
    words = ["tracking.wandb=offline", "tracking.group=mine", "tracking.tags=[fusion=sum]"]
    found = train_experiment(fields, words)
    assert settings["mode"] == "offline"
    assert (settings["group"], settings["tags"]) == ("mine", ["fusion=sum"])
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


@contextmanager
def server(kind: str) -> Iterator[int]:
    """A port of this machine that is closed, or one that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = int(listener.getsockname()[1])
        if kind == "slow":
            listener.listen(16)
            yield port
    if kind == "closed":
        yield port


def online(port: int) -> None:
    """The real library, told to log in at that port."""
    os.environ.pop("WANDB_MODE", None)
    os.environ |= {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "0" * 40}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["closed", "slow"])
def test_the_real_wandb_without_its_server_stops_nothing(fields: Path, kind: str) -> None:
    pytest.importorskip("wandb")
    assert live(["train", "--config", str(fields), "name=plain"], cwd=fields.parent).code == 0
    began = time.monotonic()
    with server(kind) as port:
        arguments = ["train", "--config", str(fields), "tracking.wandb=online"]
        life = live(arguments, cwd=fields.parent, patch=partial(online, port), timeout=100)
    assert life.code == 0, life
    assert time.monotonic() - began < 90
    assert life.out.count("W&B failed and is left out from here on") == 1, life.out
    assert weights(fields, "run") == weights(fields, "plain")
    logs = [(fields.parent / "runs" / name / "metrics.jsonl").read_bytes() for name in ("run", "plain")]
    assert logs[0] == logs[1]


@pytest.mark.parametrize("fault", ["log", "finish", "full"])
def test_wandb_that_fails_later_is_left_out(
    fields: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    class Faulty(RecordingRun):
        def log(self, scalars: dict[str, float], *, step: int) -> None:
            if fault != "finish" and step == 2:
                raise OSError(28, "No space left on device") if fault == "full" else KeyError("log")
            super().log(scalars, step=step)

        def finish(self) -> None:
            if fault == "finish":
                raise RuntimeError("no answer")

    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(init=lambda **_: Faulty()))
    found = train_experiment(fields, ["tracking.wandb=online"])
    assert found.steps["step"].tolist() == [1, 2, 3, 4]
    assert capsys.readouterr().out.count("W&B failed and is left out from here on") == 1


def test_tensorboard_gets_the_same_numbers(fields: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboard")
    found = train_experiment(fields, ["tracking.tensorboard=true"])
    assert "failed" not in capsys.readouterr().out
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(fields.parent / "runs/run/tensorboard")).Reload()
    norms = events.Scalars("grad_norm")
    assert [event.step for event in norms] == [1, 2, 3, 4]
    assert [event.value for event in norms] == pytest.approx(found.steps["grad_norm"], rel=1e-6)


def hparams_of(run: Path) -> tuple[dict[str, object], list[str], float]:
    """What TensorBoard's HParams page has of a run: its columns, the names of its metrics, and the number of the first."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    events = EventAccumulator(str(run / "tensorboard")).Reload()
    contents = events.PluginTagToContent("hparams")
    data = {name: HParamsPluginData.FromString(content) for name, content in contents.items()}
    started = data["_hparams_/session_start_info"].session_start_info.hparams
    columns = {name: getattr(value, value.WhichOneof("kind")) for name, value in started.items()}
    metrics = [info.name.tag for info in data["_hparams_/experiment"].experiment.metric_infos]
    return columns, metrics, events.Scalars(metrics[0])[-1].value


def test_tensorboard_compares_runs_by_their_tags_or_by_every_setting(fields: Path) -> None:
    pytest.importorskip("tensorboard")
    words = ["tracking.tensorboard=true", "training.eval_every=2", "curriculum.window=2", "training.steps_per_epoch=4"]
    found = train_experiment(fields, words)
    columns, metrics, value = hparams_of(fields.parent / "runs" / "run")
    assert (columns["batch.size"], columns["training.optimizer.name"]) == (7.0, "adamw")
    assert metrics == ["best/val/loss"]
    assert value == pytest.approx(max(found.evaluations["val/loss"]), rel=1e-6)  # mode: max
    train_experiment(fields, [*words, "name=tagged", "tracking.tags=[fusion=sum, mine]"])
    assert hparams_of(fields.parent / "runs" / "tagged")[0] == {"fusion": "sum", "seed": 3.0}


def test_tensorboard_has_each_step_of_a_killed_run_once(fields: Path) -> None:
    """Saved at step 2, killed after step 3 was written: resumed, step 3 comes again."""
    pytest.importorskip("tensorboard")
    arguments = ["train", "--config", str(fields), "tracking.tensorboard=true"]
    assert live(arguments, cwd=fields.parent, patch=write_all_and_die).code == -signal.SIGKILL
    assert live([*arguments, "--resume"], cwd=fields.parent).code == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = fields.parent / "runs/run/tensorboard"
    assert [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("objective")] == [1, 2, 3, 4]
    first = EventAccumulator(str(min(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns))).Reload()
    assert [event.step for event in first.Scalars("objective")] == [1, 2, 3], "or this tests nothing"


def test_tensorboard_has_each_step_of_a_run_that_went_back_once(tmp_path: Path) -> None:
    """An evaluation at the step of a record is no way back; the step of the last record again is one."""
    pytest.importorskip("tensorboard")
    from rich.console import Console
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from mmtrain.engine.tracking.tensorboard import TensorBoardTracker

    tracker = TensorBoardTracker(folder=tmp_path / "events", console=Console())
    for step in (1, 2, 3, 3, 4, 2, 3, 4, 5):
        tracker.log({"objective": float(step)}, step=step)
        if step == 2:
            tracker.log({"val/loss": 1.0}, step=step)
    tracker.close()
    assert len(list((tmp_path / "events").iterdir())) == 3, "one a way back, and the first"
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [event.step for event in events.Scalars("objective")] == [1, 2, 3, 4, 5]
    assert [event.step for event in events.Scalars("val/loss")] == [2]


def write_all_and_die() -> None:
    """Die after the third step, when the records of three are written out."""
    from mmtrain.engine import loop
    from mmtrain.engine.saving import record_steps

    count = loop.count_outcome

    def dying(run: Any, state: Any, values: Any, *, updated: bool) -> None:
        count(run, state, values, updated=updated)
        if state.step == 3:
            record_steps(run, state)
            run.close()
            os.kill(os.getpid(), signal.SIGKILL)

    loop.count_outcome = dying
