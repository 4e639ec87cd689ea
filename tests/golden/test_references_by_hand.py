"""A reference run's predictions become the losses that DoReMi compares with: means by stream and task, done by hand."""

from math import exp
from pathlib import Path

import numpy as np
import pytest

from mmtrain.config import Experiment
from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import StreamSpec
from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError, DataError
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.references import reference_note, with_references

SPECS = [StreamSpec(name="a", size=3, tasks=("x", "y")), StreamSpec(name="b", size=2, tasks=("x",))]


def losses_of(task, **by_stream):
    """Predictions whose losses are these, by stream."""
    streams = [name for name, losses in by_stream.items() for _ in losses]
    losses = np.array([loss for values in by_stream.values() for loss in values])
    zeros, names = np.zeros(len(losses)), [f"s{number}" for number in range(len(losses))]
    fields = {"ids": names, "streams": streams, "groups": names, "labels": zeros, "logits": zeros, "probabilities": zeros}
    return TaskPredictions(task=task, kind="regression", classes=(), losses=losses, **fields)


@pytest.fixture
def reference(tmp_path):
    """A run folder with the predictions of two epochs; the stream c is one that nothing asks for."""
    folder = RunFolder(tmp_path / "runs" / "uniform")
    folder.begin(config="name: uniform\n", environment="[]")
    for epoch, scale in ((2, 10.0), (10, 1.0)):
        x = losses_of("x", a=[scale * loss for loss in (1.0, 2.0, 6.0)], b=[0.25, 0.5], c=[7.0])
        write_predictions(folder.train_predictions(epoch), [x, losses_of("y", a=[1.0, 1.0, 0.0])])
    return folder


def experiment(tmp_path, **sampler):
    values = {
        "name": "doremi",
        "runs": str(tmp_path / "runs"),
        "datasets": {"d": {"store": "d"}},
        "streams": {"a": {"dataset": "d", "tasks": ["x", "y"]}},
        "model": {"sequences": {"audio": {"name": "linear"}}},
        "curriculum": {"sampler": {"name": "doremi", **sampler}},
    }
    return Experiment.model_validate(values)


def resolved(tmp_path, **sampler):
    return with_references(experiment(tmp_path, **sampler), SPECS).curriculum.sampler


def test_the_newest_epoch_gives_the_mean_losses(reference, tmp_path):
    """a: (1 + 2 + 6) / 3 and 2 / 3, b: 0.375; an excess of 0.5 for a and 0.125 for b, eta 2, c 0."""
    before = experiment(tmp_path, reference=str(reference.path), rate=2.0, smoothing=1e-9)
    after = with_references(before, SPECS)
    sampler = after.curriculum.sampler
    assert sampler.reference_losses == {"a": {"x": 3.0, "y": 0.666667}, "b": {"x": 0.375}}
    assert (sampler.rate, sampler.smoothing, sampler.reference) == (2.0, 1e-9, None)
    assert after.curriculum.model_copy(update={"sampler": before.curriculum.sampler}) == before.curriculum
    doremi = sampler.build(Setting(streams=SPECS, tasks=("x", "y")))
    doremi.observe(WindowReport(step=1, losses={"a": {"x": 3.5, "y": 1.166667}, "b": {"x": 0.5}}, counts={"a": 5, "b": 5}))
    shares = doremi.decide(1)(1, ("a", "b"))
    assert shares["a"] == pytest.approx(exp(2 * 0.5) / (exp(2 * 0.5) + exp(2 * 0.125)), rel=1e-5)
    said = reference_note(before, after)
    assert said == (
        f"curriculum.sampler.reference: {reference.path} gives reference_losses: "
        "{a: {x: 3.0, y: 0.666667}, b: {x: 0.375}}"
    )


def test_an_epoch_may_be_named_and_numbers_written(reference, tmp_path):
    sampler = resolved(tmp_path, reference=str(reference.path), reference_epoch=2)
    assert sampler.reference_losses == {"a": {"x": 30.0, "y": 0.666667}, "b": {"x": 0.375}}
    written = experiment(tmp_path, reference_losses={"a": {"x": 1.0}})
    assert with_references(written, SPECS) is written


def test_messages(reference, tmp_path):
    folder = str(reference.path)
    with pytest.raises(ConfigError, match=r"sampler.reference: \S+nowhere is not a run folder .*train that run first, with"):
        resolved(tmp_path, reference=str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"reference_epoch: \S+ has no train-epoch-0003.parquet; it has .* epoch 2, 10"):
        resolved(tmp_path, reference=folder, reference_epoch=3)
    with pytest.raises(ConfigError, match=r"doremi is this run itself; name an earlier one"):
        resolved(tmp_path, reference=str(tmp_path / "runs" / "other" / ".." / "doremi"))
    specs = [*SPECS, StreamSpec(name="b2", size=1, tasks=("x",))]
    with pytest.raises(DataError, match=r"no sample of stream 'b2' with task 'x'; it has a/x, a/y, b/x, c/x. Name a"):
        with_references(experiment(tmp_path, reference=folder), specs)
    with pytest.raises(DataError, match=r"no sample of stream 'a' with task 'z'"):
        with_references(experiment(tmp_path, reference=folder), [StreamSpec(name="a", size=1, tasks=("z",))])
    write_predictions(reference.train_predictions(11), [losses_of("x", a=[1.0, float("inf")])])
    with pytest.raises(DataError, match=r"train-epoch-0011.parquet: the mean loss of task 'x' in stream 'a' is inf"):
        resolved(tmp_path, reference=folder)
    for file in Path(folder, "predictions").iterdir():
        file.unlink()
    with pytest.raises(ConfigError, match=r"has no predictions/train-epoch-\*.parquet; train it with training.train_pred"):
        resolved(tmp_path, reference=folder)
