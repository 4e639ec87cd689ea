"""What a matrix reads of predictions is what the run's log measured, whatever was evaluated since."""

from pathlib import Path

import numpy as np

from mmtrain.ablation import rows
from mmtrain.evaluation.calibration import TaskCalibration, calibrated
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import TaskPredictions


def test_the_interval_of_a_value_ends_where_its_metric_does() -> None:
    shares, losses = (rows._over_seeds([0.8, 0.9, 1.0], f"val/t/{name}") for name in ("accuracy", "loss"))
    assert shares is not None
    assert losses is not None
    assert shares.high == 1.0 < losses.high
    assert shares.low == losses.low


def test_a_threshold_of_validation_makes_no_difference_between_variants(tmp_path: Path) -> None:
    """Probabilities .6 and .7 of positives: all right at a half, all wrong at .8."""
    probabilities = np.array([0.6, 0.7, 0.6, 0.7])
    item = TaskPredictions(
        task="t",
        kind="binary",
        classes=(),
        ids=np.array(["a", "b", "c", "d"]),
        streams=np.array(["s"] * 4),
        groups=np.array(["g", "g", "h", "h"]),
        labels=np.ones(4),
        logits=np.log(probabilities / (1 - probabilities)),
        probabilities=probabilities,
        losses=-np.log(probabilities),
    )
    evaluated = calibrated(item, TaskCalibration(temperature=2.0, thresholds={"best_f1": 0.8}), "best_f1")
    assert not evaluated.is_called.any()
    for name, found in (("trained", item), ("evaluated", evaluated)):
        file = tmp_path / f"{name}.parquet"
        write_predictions(file, [found])
        assert rows._resampled(((file, 1),), "t/accuracy").value == 1.0
