"""Metrics of a run from the predictions that it left: no model is run, and no store is read."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmtrain.engine.console import stdout_console
from mmtrain.engine.readings import note_reading, times
from mmtrain.engine.run_folder import scored_name
from mmtrain.errors import ConfigError
from mmtrain.evaluation.metrics import loss_statistics
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import Predictions, with_losses
from mmtrain.evaluation.table import TaskRow, TextTable, loss_table, summary_table, task_rows
from mmtrain.score_files import legend
from mmtrain.scoring import chosen_metrics
from mmtrain.trained import check_asked


def rescore_run(folder: Path, *, split: str, weights: str = "trained", metrics: Sequence[str] = ()) -> list[TaskRow]:
    """Print metrics of predictions/<split>.parquet with their intervals, and every task's losses; nothing is written, but
    of `test` a line of test_reads.jsonl. There is no baseline: the labels of training are in the stores.

    `metrics`: `task/name` each; none: those of every task's table.
    Errors: ConfigError where there is no such run, split, task or metric, DataError where it left no predictions.
    """
    run = check_asked(folder, split=split, weights=weights)
    name = scored_name(split, weights)
    predictions = {task: with_losses(item) for task, item in read_predictions(run.predictions(name)).items()}
    chosen = _chosen(predictions, metrics)
    shown = {task: item for task, item in predictions.items() if task in chosen}
    num_reads = note_reading(run, checkpoint="predictions", weights=weights) if split == "test" else 0
    rows = list(task_rows(shown, {}, chosen=chosen))
    console = stdout_console()
    tables: list[TextTable] = [
        summary_table(rows, title=f"{run.path.name}: {name} split, from its predictions"),
        loss_table({task: dict(loss_statistics(item.losses)) for task, item in shown.items()}),
    ]
    for table in tables:
        console.print(table.rich())
    for line in [*legend(rows, ())[1:], *([times(num_reads)] if num_reads else [])]:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    return rows


def _chosen(predictions: Mapping[str, Predictions], metrics: Sequence[str]) -> dict[str, Sequence[str]]:
    """Names by task. Errors: ConfigError."""
    if not metrics:
        return chosen_metrics(list(predictions.values()))
    chosen: dict[str, list[str]] = {}
    for metric in metrics:
        task, _, name = metric.partition("/")
        if task not in predictions or not name:
            raise ConfigError(f"--metric: '{metric}' is no <task>/<metric> of the tasks {', '.join(predictions)}")
        chosen.setdefault(task, []).append(name)
    return dict(chosen)
