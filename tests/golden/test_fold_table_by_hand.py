"""The table of a cross-validation against numbers done by hand."""

import math

import pytest

from mmtrain.evaluation.fold_table import fold_rows, fold_table, t_interval

NAN = math.nan


def test_interval_of_three_folds():
    """Mean 2, s = 1, t(0.975; 2 degrees) = 4.302653 (any table): 2 -+ 4.302653 / sqrt(3)."""
    low, high = t_interval([1.0, 2.0, 3.0])
    assert low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert all(math.isnan(bound) for bound in t_interval([1.0]))


def test_an_interval_is_cut_where_its_metric_ends():
    """0.9 and 1.0: mean 0.95, reach 12.7062 * 0.05 = 0.63531; a correlation may fall below 0, an accuracy may not."""
    folds = [{f"val/t/{name}": value for name in ("accuracy", "pearson", "unheard_of")} for value in (0.9, 1.0)]
    intervals = {row.metric: (row.low, row.high) for row in fold_rows(folds, {"t": ["a"]})}
    assert intervals["accuracy"] == (pytest.approx(0.95 - 0.63531, abs=1e-5), 1.0)
    assert intervals["pearson"] == (pytest.approx(0.95 - 0.63531, abs=1e-5), 1.0)
    assert intervals["unheard_of"] == (pytest.approx(0.95 - 0.63531, abs=1e-5), pytest.approx(0.95 + 0.63531, abs=1e-5))
    assert t_interval([0.0, 0.0, 0.3], bounds=(0.0, 1.0))[0] == 0.0


def test_rows_of_two_folds():
    """t(0.975; 1 degree) = 12.7062; two folds at 0.4 and 0.6: s = 0.1 sqrt(2), so the reach is 1.27062."""
    folds = [
        {
            "train/funny/loss": 9.0,
            "val/funny/accuracy": 0.4,
            "val/funny@a/accuracy": 0.5,
            "val/mood/mae": NAN,
            "val/loss": 1.0,
        },
        {"val/funny/accuracy": 0.6, "val/funny@a/accuracy": 0.5, "val/mood/mae": 0.25, "val/loss": 3.0},
    ]
    rows = fold_rows(folds, {"funny": ["a", "b"], "mood": ["b"]})
    assert [(row.task, row.stream, row.metric, row.mean) for row in rows] == [
        ("funny", "all", "accuracy", 0.5),
        ("funny", "a", "accuracy", 0.5),
        ("mood", "b", "mae", 0.25),
        ("all", "all", "loss", 2.0),
    ]
    assert (rows[0].low, rows[0].high) == (0.0, 1.0)  # of 0.5 -+ 1.27062 what an accuracy can be
    assert rows[3].high == pytest.approx(2.0 + 12.7062, abs=1e-4)  # a loss has no end
    assert rows[3].low == 0.0
    assert (rows[1].low, rows[1].high) == (0.5, 0.5)
    assert math.isnan(rows[2].low)
    assert rows[2].num_defined == 1
    drawn = fold_table(rows, title="x").rows
    assert drawn[0] == ("funny", "all", "accuracy", "0.500", "[0.000, 1.000]", "0.400", "0.600", "2 of 2")
    assert drawn[2] == ("mood", "b", "mae", "0.250", "[-, -]", "0.250", "0.250", "1 of 2")


def test_a_metric_that_no_fold_defines():
    rows = fold_rows([{"val/funny/auroc": NAN}, {"val/funny/auroc": NAN}], {"funny": ["a"]})
    assert fold_table(rows, title="x").rows[0][3:] == ("-", "[-, -]", "-", "-", "0 of 2")
