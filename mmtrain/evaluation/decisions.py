"""Which of two runs is right where the other is wrong: McNemar's test and its odds ratio."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmtrain.evaluation.metrics import predicted_classes
from mmtrain.evaluation.predictions import Predictions, TaskPredictions

_NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """Of the samples of a task. `odds_ratio`: (only_run + 1/2) / (only_baseline + 1/2), above 1 where the run is right more
    often; `p_mcnemar`: NaN where samples share groups, since the test takes them as independent.
    """

    only_run: int  # samples that the run alone gets right
    only_baseline: int
    odds_ratio: float
    p_mcnemar: float


def decisions(run: Predictions, baseline: Predictions) -> Decisions | None:
    """Of two runs on the same samples; a multilabel sample is right where all its classes are. None without classes."""
    pair = [item for item in (run, baseline) if isinstance(item, TaskPredictions) and item.kind != "regression"]
    if len(pair) < 2:
        return None
    one, other = (_is_right(item) for item in pair)
    only_run, only_baseline = int((one & ~other).sum()), int((other & ~one).sum())
    is_independent = len(np.unique(run.sources)) == len(run)
    return Decisions(
        only_run=only_run,
        only_baseline=only_baseline,
        odds_ratio=(only_run + 0.5) / (only_baseline + 0.5),
        p_mcnemar=_mcnemar(only_run, only_baseline) if is_independent else _NAN,
    )


def _is_right(item: TaskPredictions) -> npt.NDArray[np.bool_]:
    labels = item.labels.reshape(len(item), -1)
    right: npt.NDArray[np.bool_] = (predicted_classes(item).numpy().reshape(labels.shape) == labels).all(axis=1)
    return right


def _mcnemar(only_run: int, only_baseline: int) -> float:
    """The exact test; 1 where the two never differ."""
    from statsmodels.stats.contingency_tables import mcnemar

    if not only_run + only_baseline:
        return 1.0
    return float(mcnemar([[0, only_run], [only_baseline, 0]], exact=True).pvalue)
