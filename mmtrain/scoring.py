"""A run's checkpoint over a split: predictions, the table with intervals and baselines, the streams' shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmtrain.data.bad_samples import bad_sample_notes, bad_sample_records
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import TaskKind
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.look_once import look_once
from mmtrain.engine.progress import ProgressBar
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.truncation import truncation_note
from mmtrain.evaluation.calibration import TaskCalibration, ThresholdRule, bound_notes, calibrated, fit
from mmtrain.evaluation.calibration_file import CalibrationFile
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions
from mmtrain.evaluation.pretext_metrics import table_metrics
from mmtrain.evaluation.standards import PRIMARY
from mmtrain.evaluation.table import Labels, ShareRow, TaskRow, task_rows
from mmtrain.parts import Parts, build_streams
from mmtrain.run_objective import training_labels
from mmtrain.score_files import Score, write_calibration, write_score
from mmtrain.trained import Trained, load_trained

# what a table shows of each kind of task beside the metric that stands for it
_SECOND: dict[TaskKind, str] = {"binary": "auroc", "multiclass": "macro_f1", "multilabel": "macro_f1", "regression": "mae"}


def score_run(folder: Path, *, split: str, checkpoint: str = "best", weights: str = "trained") -> list[TaskRow]:
    """Evaluate and write predictions/<split>.parquet and evaluation/<split>.{json,md}; returns the table's rows.

    Temperatures and thresholds are fitted on validation alone: `val` writes them to calibration.json, another split takes
    them from there, or evaluates validation first. `test` appends to test_reads.jsonl.
    `weights`: `trained`, or `average`, the files of which are named <split>_average.
    Errors: ConfigError where there is no such run or split, CheckpointError where the checkpoint is damaged or the
    stores have changed since.
    """
    trained = load_trained(folder, split=split, checkpoint=checkpoint, weights=weights, cached=True)
    parts, console = trained.parts, trained.console
    file = CalibrationFile(path=trained.run.calibration(weights), checkpoint=trained.checkpoint, weights=weights)
    scorer = _Scorer(trained, file)
    found = scorer.fit() if split != "val" else None
    predictions = scorer.predict(trained.streams, split)
    if split == "val":
        found = scorer.fit_to(predictions)
    predictions = scorer.calibrate(predictions, found or {})
    rows = list(task_rows({item.task: item for item in predictions}, _labels(parts), chosen=chosen_metrics(predictions)))
    if console is not None:
        note = truncation_note(parts.collate.tokenizer, trained.accelerator)
        for words in [*trained.notes, *bound_notes(found or {}), *([note] if note else []), *bad_sample_notes(parts.stores)]:
            console.print(words, highlight=False, soft_wrap=True)
        score = Score(
            split=trained.name,
            step=trained.step,
            predictions=predictions,
            rows=rows,
            shares=share_rows(trained.run, parts.train_streams),
            bad=[record for record in bad_sample_records(parts.stores) if record["split"] == split],
            num_reads=trained.num_reads,
        )
        write_score(trained.run, console, score)
    return rows


@dataclass(frozen=True)
class _Scorer:
    """A model over splits, and what validation chooses for it."""

    trained: Trained
    file: CalibrationFile

    def predict(self, streams: Sequence[Stream], name: str) -> list[Predictions]:
        with ProgressBar(self.trained.console, name, total=1) as progress:
            return self.trained.predict(streams, progress=progress.count)

    def fit(self) -> dict[str, TaskCalibration]:
        """What was fitted before for this checkpoint, or now, on validation."""
        found = look_once(self.trained.accelerator, self.file.read)
        if found is None:
            streams = build_streams(self.trained.experiment, self.trained.parts.stores, "val")
            found = self.fit_to(self.predict(streams, "validation"))
        return found

    def fit_to(self, predictions: Sequence[Predictions]) -> dict[str, TaskCalibration]:
        """From predictions of validation, and write it."""
        tasks = [item for item in predictions if isinstance(item, TaskPredictions) and item.kind != "regression"]
        found = {item.task: fit(item) for item in tasks}
        if self.trained.console is not None and found:
            write_calibration(self.file, found, {task: self._rule(task) for task in found})
        return found

    def calibrate(self, predictions: Sequence[Predictions], found: Mapping[str, TaskCalibration]) -> list[Predictions]:
        return [
            calibrated(item, found.get(item.task), self._rule(item.task)) if isinstance(item, TaskPredictions) else item
            for item in predictions
        ]

    def _rule(self, task: str) -> ThresholdRule:
        return self.trained.experiment.task(task).threshold


def _labels(parts: Parts) -> dict[str, dict[str, Labels]]:
    """Of the training samples, by task and stream."""
    return {
        task: {stream.name: training_labels(task, [stream]) for stream in parts.train_streams if task in stream.tasks}
        for task in parts.tasks
    }


def chosen_metrics(predictions: Sequence[Predictions]) -> dict[str, Sequence[str]]:
    """The metrics of every task that a table shows."""
    return {
        item.task: table_metrics(item) if isinstance(item, PretextPredictions) else (PRIMARY[item.kind], _SECOND[item.kind])
        for item in predictions
    }


def share_rows(run: RunFolder, train_streams: Sequence[Stream]) -> list[ShareRow]:
    """What each stream had of the samples drawn so far, from curriculum.jsonl."""
    counts: dict[str, int] = {stream.name: 0 for stream in train_streams}
    for record in read_jsonl(run.curriculum):
        for name, count in record["counts"].items():
            counts[name] += count
    total = max(sum(counts.values()), 1)
    return [ShareRow(stream.name, len(stream), counts[stream.name] / total) for stream in train_streams]
