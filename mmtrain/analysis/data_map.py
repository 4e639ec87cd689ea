"""`mmtrain datamap RUN`: which training samples a run found easy, hard or ambiguous, and which it forgot."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from mmtrain.engine.run_folder import RunFolder
from mmtrain.errors import ConfigError, DataError
from mmtrain.evaluation.data_map import TaskMap, is_mapped, map_tasks
from mmtrain.evaluation.data_map_file import write_data_map
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import Predictions
from mmtrain.evaluation.table import TextTable, digits

_HOW = "training.train_predictions: true has a run write predictions/train-epoch-*.parquet"


def map_run(folder: Path, *, console: Console) -> list[TaskMap]:
    """Write evaluation/data_map.parquet from predictions/train-epoch-*.parquet, and print what it sums up to.

    Errors: ConfigError where it is no run or has fewer than two such files; DataError where they are damaged or no task of
    theirs has a probability.
    """
    run = RunFolder(folder)
    if not run.is_run():
        raise ConfigError(run.refusal())
    epochs = run.epochs_predicted()
    if len(epochs) < 2:
        raise ConfigError(f"{folder} has training predictions of {len(epochs)} epochs, a data map needs two or more; {_HOW}")
    left_out: set[str] = set()

    def read() -> Iterator[tuple[int, Mapping[str, Predictions]]]:
        for epoch in epochs:
            found = read_predictions(run.train_predictions(epoch))
            left_out.update(task for task, item in found.items() if not is_mapped(item))
            yield epoch, found

    maps = map_tasks(read())
    if not maps:
        raise DataError(
            f"{folder}: none of the tasks {', '.join(sorted(left_out))} has a probability of a true label, for regression "
            "and pretext tasks have none; their losses are in predictions/train-epoch-*.parquet"
        )
    file = run.path / "evaluation" / "data_map.parquet"
    write_data_map(file, maps)
    console.print(_table(maps, epochs).rich())
    if left_out:
        console.print(
            f"left out, since they have no probability of a true label: {', '.join(sorted(left_out))}", markup=False
        )
    console.print(f"written: {file}", highlight=False, soft_wrap=True, markup=False)
    return maps


def _table(maps: Sequence[TaskMap], epochs: Sequence[int]) -> TextTable:
    header = ("task", "stream", "samples", "confidence", "variability", "correctness", "never learned", "forgotten")
    drawn = []
    for item in maps:
        for stream in np.unique(item.streams):
            own = item.streams == stream
            means = (float(values[own].mean()) for values in (item.confidence, item.variability, item.correctness))
            never, forgotten = (item.first_learned[own] == 0).sum(), (item.forgetting_events[own] > 0).sum()
            drawn.append((item.task, str(stream), str(own.sum()), *map(digits, means), str(never), str(forgotten)))
    return TextTable(f"Data map over the epochs {', '.join(map(str, epochs))}", header, tuple(drawn), 2)
