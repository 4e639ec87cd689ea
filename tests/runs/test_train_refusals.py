"""Runs that are refused: what differs is named, and nothing that was there is lost."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from lives import weights

from mmtrain.engine.run import Run
from mmtrain.errors import CheckpointError, ConfigError, DataError
from mmtrain.scoring import score_run
from mmtrain.training import train_experiment

Build = Callable[..., Run]


@pytest.fixture
def done(fields: Path) -> Path:
    """The file of an experiment that has run."""
    train_experiment(fields)
    return fields


def resume(file: Path, *overrides: str) -> str:
    with pytest.raises(CheckpointError) as error:
        train_experiment(file, overrides, resume=True)
    return str(error.value)


def test_another_config_is_refused_with_what_differs(done: Path) -> None:
    message = resume(done, "batch.size=8", "batch.micro=2", "model.dim=16", "seed=4")
    assert message.startswith("cannot resume, the run was made with other settings:\n")
    for line in (
        "config.batch.size: was 7, is 8",
        "config.batch.micro: was 3, is 2",
        "config.model.dim: was 8, is 16",
        "config.seed: was 3, is 4",
    ):
        assert line in message
    train_experiment(done, ["batch.prefetch=0", "tracking.project=other"], resume=True)  # free to change


def test_a_refused_resume_leaves_the_run_as_it_was(done: Path) -> None:
    run = done.parent / "runs" / "run"
    (run / "PREEMPTED").touch()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert "config.streams" in resume(done, "streams.clips.tasks=[mood]")
    assert "config.seed" in resume(done, "seed=4")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    train_experiment(done, resume=True)
    assert not (run / "PREEMPTED").exists()
    assert len(json.loads((run / "environment.json").read_text())) == 2


def test_a_run_without_a_checkpoint_begins_as_it_is_now_described(done: Path) -> None:
    """Stopped before its first checkpoint, and then changed: its folder says what it was trained with."""
    run = done.parent / "runs" / "run"
    shutil.rmtree(run / "checkpoints")
    (run / "initial.json").write_text('{"source": {"run": "other"}}')  # it was to begin with other weights than its own
    train_experiment(done, ["model.dim=16", "training.epochs=1"], resume=True)
    values = yaml.safe_load((run / "config.yaml").read_text())
    assert (values["model"]["dim"], values["training"]["epochs"]) == (16, 1)
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    assert state["identity"]["initial"] is None
    assert not (run / "initial.json").exists()
    assert len(json.loads((run / "environment.json").read_text())) == 2
    score_run(run, split="val")  # builds the model from the config that stands there


def test_other_code_is_said_and_recorded(
    done: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmtrain.engine import environment

    train_experiment(done, resume=True)
    assert "warning: the code" not in capsys.readouterr().out
    monkeypatch.setattr(environment, "package_version", lambda _: "9.9")
    train_experiment(done, resume=True)
    words = "warning: the code is not that of the run's last start: made by mmtrain"
    assert words in " ".join(capsys.readouterr().out.split())
    train_experiment(done, resume=True)
    assert words not in " ".join(capsys.readouterr().out.split())


def test_other_data_are_refused(done: Path, tmp_path: Path) -> None:
    from data_prep.synth import synthesize

    values = yaml.safe_load(done.read_text())
    store = synthesize(tmp_path / "own", name="own", samples=60, modalities={"audio": 6}, seed=5)
    values["datasets"] = {"own": {"store": str(store)}}
    values["streams"] = {"own": {"dataset": "own", "tasks": ["funny"]}}
    done.write_text(yaml.safe_dump(values))
    train_experiment(done, ["name=mine"])
    synthesize(store, name="own", samples=60, modalities={"audio": 6}, seed=6, overwrite=True)
    assert "stores.own: was" in resume(done, "name=mine")


def test_other_classes_and_other_widths_are_refused(done: Path, tmp_path: Path) -> None:
    """A store that was made again with its labels or features renamed, but under the same path."""
    from data_prep.synth import synthesize

    values = yaml.safe_load(done.read_text())
    store = synthesize(tmp_path / "own", name="own", samples=60, modalities={"audio": 6}, seed=5)
    values["datasets"] = {"own": {"store": str(store)}}
    values["streams"] = {"own": {"dataset": "own", "tasks": ["funny"]}}
    done.write_text(yaml.safe_dump(values))
    train_experiment(done, ["name=mine"])
    record = store / "dataset.json"
    for change in ({"tasks": {"funny": {"classes": ["yes", "no"]}}}, {"modalities": {"audio": {"extractor": "other@2"}}}):
        kept, schema = record.read_text(), json.loads(record.read_text())
        for part, items in change.items():
            for name, entry in items.items():
                schema[part][name] |= entry
        record.write_text(json.dumps(schema))
        assert "stores.own: was" in resume(done, "name=mine")
        record.write_text(kept)
    shutil.rmtree(store)
    synthesize(store, name="own", samples=60, modalities={"audio": 7}, seed=5)
    assert "stores.own: was" in resume(done, "name=mine")


def test_a_state_of_another_version_is_refused(done: Path) -> None:
    from mmtrain.engine.checkpoint import _record

    for folder in (done.parent / "runs/run/checkpoints").glob("step-*"):
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps(state | {"version": 1}))
        files = {file.name: _record(file) for file in folder.iterdir() if file.name != "manifest.json"}
        (folder / "manifest.json").write_text(json.dumps(files))
    assert "step-00000004: written in state version 1, this code reads version" in resume(done)


def test_another_architecture_is_refused_with_both_shapes(small_run: Build) -> None:
    from mmtrain.engine.model_state import load_model_state

    run = small_run()
    tensors = dict(run.model.state_dict())
    name = next(name for name, value in tensors.items() if value.ndim == 2)
    shape = tuple(tensors[name].shape)
    tensors[name] = tensors[name][:1]
    extra = tensors.pop(next(iter(set(tensors) - {name})))
    tensors["other.weight"] = extra
    with pytest.raises(CheckpointError) as error:
        load_model_state(run.model, tensors, origin="step-00000003")
    said = str(error.value)
    assert said.startswith("step-00000003 is of another architecture:")
    assert f"{name}: the checkpoint has (1, {shape[1]}), the model {shape}" in said
    assert "other.weight: only in the checkpoint" in said
    assert ": only in the model" in said


def test_a_damaged_newest_checkpoint_is_passed_over_by_name(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = done.parent / "runs/run/checkpoints/step-00000004"
    expected, metrics = weights(done, "run"), (done.parent / "runs/run/metrics.jsonl").read_bytes()
    (folder / "optimizer.safetensors").write_bytes(b"")
    capsys.readouterr()
    train_experiment(done, resume=True)
    said = capsys.readouterr().out
    assert "step-00000004: optimizer.safetensors is 0 bytes long, not" in said.replace("\n", "")
    assert "step-00000002 at step 2" in said.replace("\n", "")
    assert weights(done, "run") == expected
    assert (done.parent / "runs/run/metrics.jsonl").read_bytes() == metrics
    for step in folder.parent.glob("step-*"):
        (step / "model.safetensors").write_bytes(b"")
    assert "no checkpoint of this run is whole" in resume(done)


def test_overwriting_with_a_config_that_cannot_be_built_loses_nothing(done: Path) -> None:
    run = done.parent / "runs" / "run"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(DataError):
        train_experiment(done, ["datasets.clips.store=/nowhere"], overwrite=True)
    with pytest.raises(ConfigError):
        train_experiment(done, ["selection.metric=val/funny/lossy"], overwrite=True)
    with pytest.raises(ConfigError, match="exists already"):
        train_experiment(done)
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    train_experiment(done, ["seed=9"], overwrite=True)
    assert yaml.safe_load((run / "config.yaml").read_text())["seed"] == 9
    assert len(json.loads((run / "environment.json").read_text())) == 1


def test_a_metric_that_no_validation_sample_can_give_is_refused(fields: Path, tmp_path: Path) -> None:
    from data_prep.synth import synthesize

    tasks = {"funny": "binary", "rare": "binary"}
    store = synthesize(tmp_path / "own", name="own", samples=60, modalities={"audio": 6}, tasks=tasks, unlabelled=0.0)
    values = yaml.safe_load(fields.read_text())
    values["datasets"] = {"own": {"store": str(store)}}
    values["streams"] = {"own": {"dataset": "own", "tasks": ["funny", "rare"]}}
    fields.write_text(yaml.safe_dump(values))
    from mmtrain.data.dataset import Stream

    labelled = Stream.labelled

    def without(self: Stream, task: str) -> Any:
        return labelled(self, task) & (task != "rare" or self.split != "val")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stream, "labelled", without)
        with pytest.raises(ConfigError, match="no validation sample carries a label of 'rare'"):
            train_experiment(fields, ["selection.metric=val/rare/auroc"])
    assert not (tmp_path / "runs").exists()
