"""Baselines, the rows of the result tables, and how they are drawn."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from mmtrain.evaluation.baselines import baseline
from mmtrain.evaluation.metrics import is_lower_better, metrics
from mmtrain.evaluation.predictions import TaskPredictions
from mmtrain.evaluation.standards import PRIMARY
from mmtrain.evaluation.table import (
    GapRow,
    ShareRow,
    TaskRow,
    TextTable,
    gap_table,
    shares_table,
    summary_table,
    task_rows,
)

ABC = ("a", "b", "c")


def predictions(*, shift: float = 2.0) -> TaskPredictions:
    """A binary task on two streams, positives scored `shift` higher."""
    generator = np.random.default_rng(0)
    labels = np.tile([1.0, 0, 0, 0], 50)
    logits = generator.normal(size=200) + shift * labels
    return TaskPredictions(
        task="question",
        kind="binary",
        classes=(),
        ids=np.array([f"s{number}" for number in range(200)]),
        streams=np.where(np.arange(200) < 120, "fish", "films"),
        groups=np.array([f"g{number // 5}" for number in range(200)]),
        labels=labels,
        logits=logits,
        probabilities=1 / (1 + np.exp(-logits)),
        losses=np.zeros(200),
    )


def test_baselines_of_classifiers() -> None:
    def binary(metric: str) -> float:
        train, test = np.array([0.0, 0, 1]), np.array([0.0, 0, 0, 1])
        return baseline(metric, kind="binary", classes=(), train=train, test=test)

    assert binary("accuracy") == pytest.approx(3 / 4)
    assert binary("auroc") == 0.5
    assert binary("average_precision") == pytest.approx(1 / 4)
    assert binary("precision") == pytest.approx(1 / 4)
    assert binary("f1") == pytest.approx(2 * 1 / (2 * 1 + 3))  # everything called positive

    def multiclass(metric: str, train: list[float]) -> float:
        test = np.array([0.0, 1, 1, 2])
        return baseline(metric, kind="multiclass", classes=ABC, train=np.array(train), test=test)

    assert multiclass("accuracy", [0, 0, 1]) == pytest.approx(1 / 4)  # the training majority, not the test's
    assert multiclass("accuracy", [1, 1, 2]) == pytest.approx(1 / 2)
    assert multiclass("auroc", [0, 1]) == 0.5
    assert multiclass("average_precision", [0, 1]) == pytest.approx(1 / 3)
    tags = np.array([[1.0, 0, 0], [1, 1, 0]])
    found = baseline("macro_average_precision", kind="multilabel", classes=ABC, train=tags, test=tags)
    assert found == pytest.approx(1 / 2)  # the second class alone has both kinds


def test_baselines_of_regression() -> None:
    def regression(metric: str) -> float:
        train, test = np.array([0.0, 0, 0, 4]), np.array([0.0, 2])
        return baseline(metric, kind="regression", classes=(), train=train, test=test)

    assert regression("mae") == pytest.approx(1)  # the median, 0
    assert regression("rmse") == pytest.approx(1)  # the mean, 1
    assert regression("pearson") == 0
    assert regression("spearman") == 0


def test_baselines_that_cannot_be() -> None:
    one = np.ones(3)
    assert math.isnan(baseline("auroc", kind="binary", classes=(), train=one, test=one))
    assert math.isnan(baseline("pearson", kind="regression", classes=(), train=one, test=one))
    assert math.isnan(baseline("accuracy", kind="binary", classes=(), train=np.empty(0), test=one))
    assert math.isnan(baseline("accuracy", kind="binary", classes=(), train=one, test=np.empty(0)))


def test_one_row_for_all_streams_and_one_each() -> None:
    train = {"question": {"fish": np.array([0.0, 1]), "films": np.array([0.0, 0, 1])}}
    rows = list(task_rows({"question": predictions()}, train, num_resamples=200))
    assert [(row.stream, row.num_samples, row.num_groups) for row in rows] == [
        ("all", 200, 40),
        ("films", 80, 16),
        ("fish", 120, 24),
    ]
    for row in rows:
        assert row.metric == PRIMARY["binary"] == "average_precision"
        assert row.low < row.value < row.high
        assert row.baseline == 0.25
        assert row.beats_baseline
    assert rows[0].value == dict(metrics(predictions()))["average_precision"]


def test_a_group_name_that_two_stores_share_is_two_groups() -> None:
    item = predictions()
    shared = replace(item, groups=np.where(np.arange(200) < 195, item.groups, "g0"))
    streams = np.where(np.arange(200) < 195, "fish", "films")
    train = {"question": {"fish": np.array([0.0, 1]), "films": np.array([0.0, 1])}}
    rows = list(task_rows({"question": replace(shared, streams=streams)}, train, num_resamples=20))
    assert [(row.stream, row.num_groups) for row in rows] == [("all", 40), ("films", 1), ("fish", 39)]


def test_noise_does_not_beat_the_baseline() -> None:
    train = {"question": {"fish": np.array([0.0, 1])}}
    for row in task_rows({"question": predictions(shift=0)}, train, chosen={"question": ("auroc", "f1")}, num_resamples=200):
        assert not row.beats_baseline, row


def row(**changes: object) -> TaskRow:
    fields = {"task": "mood", "stream": "tweets", "metric": "mae", "value": 0.5, "low": 0.4, "high": 0.6}
    return TaskRow(**{**fields, "baseline": 0.7, "num_samples": 90, "num_groups": 10, **changes})


def test_lower_errors_are_better() -> None:
    assert is_lower_better("mae")
    assert row().beats_baseline
    assert not row(num_groups=9).beats_baseline
    assert not row(high=0.8).beats_baseline
    assert not row(metric="accuracy").beats_baseline
    assert not row(high=math.nan).beats_baseline


def test_tables_as_text() -> None:
    text = summary_table([row(), row(low=math.nan, high=math.nan)]).markdown()
    assert text.splitlines() == [
        "## Test",
        "",
        "| task | stream | metric | value |  95 % interval | baseline | samples |  groups |",
        "| ---- | ------ | ------ | ----: | -------------: | -------: | ------: | ------: |",
        "| mood | tweets | mae    | 0.500 | [0.400, 0.600] |  0.700 * |      90 | few: 10 |",
        "| mood | tweets | mae    | 0.500 |         [-, -] |  0.700   |      90 | few: 10 |",
    ]
    shares = shares_table([ShareRow("tweets", 4200, 0.25)]).markdown()
    assert "| tweets |    4200 |            25.0% |" in shares
    gap = GapRow(task="mood", metric="pearson", train_loss=0.5, val_loss=0.75, train_value=0.9, val_value=math.nan)
    assert "| mood |      0.500 |    0.750 | pearson | 0.900 |   - |" in gap_table([gap]).markdown()


def test_the_rule_of_a_column_of_dashes_has_a_dash_beside_its_colon() -> None:
    """A lone colon is no rule, and readers of Markdown would take the table for a paragraph."""
    table = TextTable("T", ("n", "p"), (("a", "-"),), 1)
    assert table.markdown().splitlines()[2:] == ["| n  |  p |", "| -- | -: |", "| a  |  - |"]


def test_tables_on_a_terminal() -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(summary_table([row()]).rich())
    assert "[0.400, 0.600]" in console.export_text()


def test_an_empty_table_can_be_drawn() -> None:
    assert "| task |" in summary_table([]).markdown()
    assert summary_table([]).rich().row_count == 0
