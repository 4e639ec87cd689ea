"""The log of training samples: flushes join to one, and what is asked for of it costs no more than it holds."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from mmtrain.engine.gradient_norms import GradientNorms
from mmtrain.engine.sample_log import SampleLog, StepValues, sample_means

ALONE = SimpleNamespace(num_processes=1, process_index=0)


def values(step: int) -> StepValues:
    """A step of two micro-batches, of 2 and 1 samples, whose index is ten times the step and on."""
    micros = [
        {
            "stream": torch.zeros(len(index), dtype=torch.int64),
            "index": torch.tensor(index),
            "a/loss": torch.tensor(index, dtype=torch.float32),
            "a/labelled": torch.ones(len(index), dtype=torch.bool),
        }
        for index in ([10 * step, 10 * step + 1], [10 * step + 2])
    ]
    return StepValues(step, torch.zeros(()), {}, GradientNorms({"all": 1.0}), {}, micros)


def test_batch_terms_stand_beside_the_objective() -> None:
    log = SampleLog()
    for step in range(2):
        plain = values(step)
        log.add(replace(plain, objective=torch.tensor(3.0), aux={"a": torch.tensor(0.5 + step), "b": torch.tensor(2.0)}))
    records = log.flush(ALONE)
    assert [(record["objective"], record["aux"]) for record in records] == [(3, {"a": 0.5, "b": 2}), (3, {"a": 1.5, "b": 2})]


def test_flushes_join_and_begin_anywhere() -> None:
    log = SampleLog()
    assert log.flush(ALONE) == []
    assert log.arrays == log.since(0) == {}
    for steps in ([0, 1], [2], [3, 4]):
        for step in steps:
            log.add(values(step))
        records = log.flush(ALONE)
        assert [(record["step"], record["loss"]["a"]) for record in records] == [(s + 1, 10 * s + 1) for s in steps]
    assert log.since(3)["index"].tolist() == [30, 31, 32, 40, 41, 42]
    assert log.since(1)["index"].tolist() == [10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 41, 42]
    assert log.since(5) == {}
    assert log.arrays["step"].tolist() == np.repeat(range(5), 3).tolist()
    assert log.since(4)["index"].tolist() == [40, 41, 42]
    resumed = SampleLog(dict(sorted(log.arrays.items())))
    resumed.add(values(5))
    resumed.flush(ALONE)
    assert resumed.since(4)["index"].tolist() == [40, 41, 42, 50, 51, 52]
    assert list(resumed.arrays) == list(log.arrays)
    log.clear()
    assert log.arrays == {}


def test_a_samples_loss_is_the_mean_over_its_labelled_tasks() -> None:
    arrays = {
        "stream": np.array([0, 1, 0, 1]),
        "a/loss": np.array([1.0, 3.0, np.nan, 7.0], np.float32),
        "a/labelled": np.array([True, True, False, False]),
        "b/loss": np.array([2.0, 0.0, 0.5, 9.0], np.float32),
        "b/labelled": np.array([True, False, True, False]),
    }
    means = sample_means(arrays)
    assert means.dtype == np.float32
    assert np.array_equal(means, [1.5, 3.0, 0.5, np.nan], equal_nan=True)


def test_samples_that_were_passed_in_another_order_are_put_back() -> None:
    """Three samples of each step, passed as the third, the first and the second of the batch."""
    log = SampleLog()
    log.add(replace(values(0), order=np.array([2, 0, 1])))
    log.add(values(1))
    log.flush(ALONE)
    assert log.arrays["index"].tolist() == [1, 2, 0, 10, 11, 12]
