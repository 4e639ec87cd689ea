"""Two stores that share a task, one of which has no label of it in a split."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.errors import ConfigError, DataError
from mmtrain.simulation import simulate_experiment
from mmtrain.training import train_experiment

SPLITS = ("train", "train", "val", "test")


def sparse(fields: Path, folder: Path, *, unlabelled: str) -> Path:
    """The experiment `fields` over the stores `full` and `bare`; `bare` has no label of `funny` in one split."""
    tasks = {"funny": TaskSchema(kind="binary"), "mood": TaskSchema(kind="regression")}
    for name in ("full", "bare"):
        with StoreWriter(folder / name, name=name, modalities={"audio": FeatureSpec(dim=3)}, tasks=tasks) as writer:
            for index in range(40):
                split = SPLITS[index % 4]
                labels = {"mood": index % 7} | ({} if (name, split) == ("bare", unlabelled) else {"funny": index // 4 % 2})
                rows = np.full((1 + index % 3, 3), index / 40)
                writer.add(id=str(index), split=split, group=str(index), features={"audio": rows}, labels=labels)
    values = yaml.safe_load(fields.read_text())
    values["datasets"] = {name: {"store": str(folder / name)} for name in ("full", "bare")}
    values["streams"] = {name: {"dataset": name, "tasks": ["funny", "mood"]} for name in ("full", "bare")}
    fields.write_text(yaml.safe_dump(values))
    return fields


def test_a_stream_without_training_labels_needs_no_reference(fields: Path, tmp_path: Path) -> None:
    file = sparse(fields, tmp_path, unlabelled="train")
    found = train_experiment(file, ["curriculum.sampler={name: dynamic_difficulty, reference: chance}"])
    assert np.isfinite(found.evaluations["val/funny@bare/loss"]).all()


def test_a_task_without_any_training_label_is_refused_by_its_streams(fields: Path, tmp_path: Path) -> None:
    file = sparse(fields, tmp_path, unlabelled="train")
    values = yaml.safe_load(file.read_text())
    del values["datasets"]["full"], values["streams"]["full"]
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(DataError) as caught:
        train_experiment(file)
    said = str(caught.value)
    assert said.startswith("task 'funny': no training sample carries a label in streams.")
    assert said.endswith(f"bare (store 'bare', {tmp_path / 'bare'}); take it out of streams.<name>.tasks, or label some")


def test_one_stream_with_validation_labels_has_no_metric_apart(fields: Path, tmp_path: Path) -> None:
    file = sparse(fields, tmp_path, unlabelled="val")
    said = r"selection\.metric: no metric 'val/funny@full/auroc'; did you mean 'val/funny/auroc'"
    with pytest.raises(ConfigError, match=said):
        train_experiment(file, ["selection.metric=val/funny@full/auroc"])
    found = train_experiment(file, ["selection.metric=val/mood@full/mae"])
    assert "val/funny/auroc" in found.evaluations
    assert "val/funny@full/auroc" not in found.evaluations


def test_what_trains_can_be_simulated(fields: Path, tmp_path: Path) -> None:
    file = sparse(fields, tmp_path, unlabelled="train")
    assert simulate_experiment(file, [], out=tmp_path / "curriculum.png").steps[-1] == 4
