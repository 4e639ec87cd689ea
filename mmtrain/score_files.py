"""What `mmtrain evaluate` writes and prints: predictions, a table, a JSON file of everything, and calibration.json."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.console import Console

from mmtrain.engine.jsonl import plain
from mmtrain.engine.readings import times
from mmtrain.engine.run_folder import RunFolder, write_whole
from mmtrain.evaluation.calibration import TaskCalibration
from mmtrain.evaluation.calibration_file import CalibrationFile
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions
from mmtrain.evaluation.reliability import calibration
from mmtrain.evaluation.split_metrics import split_metrics
from mmtrain.evaluation.standards import FEW_GROUPS, FEWEST_GROUPS
from mmtrain.evaluation.table import ShareRow, TaskRow, calibration_table, shares_table, summary_table

_LEGEND = "* the whole 95 % interval (bootstrap over groups) is better than the baseline: the constant learned in training"
_CHANCE = "; of a pretext task: rankings at random among the samples of the split"


@dataclass(frozen=True, kw_only=True)
class Score:
    """One evaluation of a run."""

    split: str  # of another set of weights: <split>_average
    step: int
    predictions: Sequence[Predictions]
    rows: Sequence[TaskRow]
    shares: Sequence[ShareRow]
    bad: Sequence[Mapping[str, str]]  # samples left out
    num_reads: int  # of the test split, this one counted; 0 for another


def write_calibration(file: CalibrationFile, found: Mapping[str, TaskCalibration], rules: Mapping[str, str]) -> None:
    """`rules`: by task, the threshold that its decisions go by."""
    write_whole(file.path, json.dumps(file.content(found, rules), indent=1, allow_nan=False) + "\n")


def write_score(run: RunFolder, console: Console, score: Score) -> None:
    """predictions/<split>.parquet, evaluation/<split>.{md,json}, and the tables on the console."""
    write_predictions(run.predictions(score.split), score.predictions)
    tasks = [item for item in score.predictions if isinstance(item, TaskPredictions) and item.kind != "regression"]
    found = {item.task: calibration(item) for item in tasks}
    tables = [
        summary_table(score.rows, title=f"{run.path.name}: {score.split} split, checkpoint of step {score.step}"),
        *([calibration_table(tasks, found)] if found else []),
        shares_table(score.shares),
    ]
    folder = run.path / "evaluation"
    folder.mkdir(exist_ok=True)
    lines = legend(score.rows, score.predictions)
    lines += [times(score.num_reads)] if score.num_reads else []
    text = "\n".join([*(table.markdown() for table in tables), *(f"{line}\n" for line in lines)])
    write_whole(folder / f"{score.split}.md", text)
    values = {
        "split": score.split,
        "step": score.step,
        "metrics": split_metrics(score.split, score.predictions),
        "rows": [asdict(row) for row in score.rows],
        "calibration": {task: asdict(item) for task, item in found.items()},
        "shares": [asdict(share) for share in score.shares],
        "bad_samples": score.bad,
    }
    values |= {"test_reads": score.num_reads} if score.num_reads else {}
    write_whole(folder / f"{score.split}.json", json.dumps(plain(values), indent=1, allow_nan=False))
    for table in tables:
        console.print(table.rich())
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    files = (run.predictions(score.split), *(f"{folder / score.split}.{suffix}" for suffix in ("md", "json")))
    console.print(f"written: {', '.join(map(str, files))}", highlight=False, soft_wrap=True)


def legend(rows: Sequence[TaskRow], predictions: Sequence[Predictions]) -> list[str]:
    """What the marks of a table say."""
    lines = [_LEGEND + (_CHANCE if any(isinstance(item, PretextPredictions) for item in predictions) else "")]
    if any(row.has_few_groups for row in rows):
        lines.append(
            f"few: an interval over fewer than {FEW_GROUPS} groups; what it says rests on these few, and of fewer than "
            f"{FEWEST_GROUPS} there is no *"
        )
    if any(math.isnan(row.low) for row in rows):
        lines.append("-: not defined on these samples, as a ranking is where all have one label")
    return lines
