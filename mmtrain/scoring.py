"""A run's checkpoint over a split: predictions, the table with intervals and baselines, the streams' shares."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator
from rich.console import Console

from mmtrain.build import prepare_for_evaluation
from mmtrain.config import Experiment, load_experiment
from mmtrain.data.bad_samples import bad_sample_notes, bad_sample_records
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import SPLITS, TaskKind
from mmtrain.engine.console import main_console
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.look_once import look_once
from mmtrain.engine.model_state import load_model_state
from mmtrain.engine.named_checkpoint import read_named, saved_weights
from mmtrain.engine.progress import ProgressBar
from mmtrain.engine.readings import note_reading
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.state import require_version
from mmtrain.engine.truncation import truncation_note
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.evaluation.calibration import TaskCalibration, calibrated, fit
from mmtrain.evaluation.calibration_file import CalibrationFile
from mmtrain.evaluation.evaluate import evaluate
from mmtrain.evaluation.metrics import PRIMARY
from mmtrain.evaluation.predictions import Predictions, PretextPredictions, TaskPredictions
from mmtrain.evaluation.pretext_metrics import table_metrics
from mmtrain.evaluation.table import Labels, ShareRow, TaskRow, task_rows
from mmtrain.parts import Parts, build_parts, build_streams, training_labels
from mmtrain.score_files import Score, write_calibration, write_score
from mmtrain.training import build_accelerator

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
    run = check_asked(folder, split=split, weights=weights)
    experiment = load_experiment(run.config)
    accelerator = build_accelerator(experiment)
    parts = build_parts(experiment, weights=False)
    saved_folder, step = _load(run, parts, checkpoint, weights)
    file = CalibrationFile(path=run.calibration(weights), checkpoint=saved_folder, weights=weights)
    scorer = _Scorer(experiment, parts, accelerator, file)
    console = main_console(accelerator)
    streams = build_streams(experiment, parts.stores, split)
    found = scorer.fit() if split != "val" else None
    num_reads = 0
    if split == "test":
        num_reads = look_once(accelerator, lambda: note_reading(run, checkpoint=saved_folder, weights=weights))
    predictions = scorer.predict(streams, split)
    if split == "val":
        found = scorer.fit_to(predictions)
    predictions = scorer.calibrate(predictions, found or {})
    rows = list(task_rows({item.task: item for item in predictions}, _labels(parts), chosen=chosen_metrics(predictions)))
    if console is not None:
        note = truncation_note(parts.collate.tokenizer, accelerator)
        for words in [*([note] if note else []), *bad_sample_notes(parts.stores)]:
            console.print(words, highlight=False, soft_wrap=True)
        score = Score(
            split=split if weights == "trained" else f"{split}_{weights}",
            step=step,
            predictions=predictions,
            rows=rows,
            shares=share_rows(run, parts.train_streams),
            bad=[record for record in bad_sample_records(parts.stores) if record["split"] == split],
            num_reads=num_reads,
        )
        write_score(run, console, score)
    return rows


def check_asked(folder: Path, *, split: str, weights: str = "trained") -> RunFolder:
    """The run. Errors: ConfigError where there is none, or where a word is none of those that there are."""
    run = RunFolder(folder)
    if not run.is_run():
        raise ConfigError(run.refusal())
    if split not in SPLITS:
        by_run = "; training.train_predictions: true has the run itself write those" if "train-epoch" in split else ""
        raise ConfigError(f"--split: '{split}' is none of {', '.join(SPLITS)}{by_run}")
    if weights not in ("trained", "average"):
        raise ConfigError(f"--weights: '{weights}' is none of trained, average")
    return run


def _load(run: RunFolder, parts: Parts, checkpoint: str, weights: str) -> tuple[str, int]:
    """Put a checkpoint's weights into the model: the name of its folder, and its step."""
    folder, saved = read_named(run, checkpoint)
    require_version(saved, origin=checkpoint)
    for name, store in parts.stores.items():
        if saved.state["identity"]["stores"].get(name) != store.fingerprint:
            raise CheckpointError(f"dataset '{name}': store {store.path} is not the one this run was trained on")
    try:
        tensors = saved_weights(saved, weights, origin=checkpoint)
    except ConfigError as error:
        raise ConfigError(f"--weights: {error}") from None
    load_model_state(parts.model, tensors, origin=checkpoint)
    return folder.name, int(saved.state["step"])


@dataclass(frozen=True)
class _Scorer:
    """A model over splits, and what validation chooses for it."""

    experiment: Experiment
    parts: Parts
    accelerator: Accelerator
    file: CalibrationFile

    @property
    def console(self) -> Console | None:
        return main_console(self.accelerator)

    def predict(self, streams: Sequence[Stream], name: str) -> list[Predictions]:
        with ProgressBar(self.console, name, total=1) as progress:
            return evaluate(
                prepare_for_evaluation(self.parts.model, self.accelerator),
                streams,
                objective=self.parts.objective,
                collate=self.parts.collate,
                accelerator=self.accelerator,
                batch_size=self.experiment.batch.evaluation,
                progress=progress.count,
            )

    def fit(self) -> dict[str, TaskCalibration]:
        """What was fitted before for this checkpoint, or now, on validation."""
        found = look_once(self.accelerator, self.file.read)
        if found is None:
            found = self.fit_to(self.predict(build_streams(self.experiment, self.parts.stores, "val"), "validation"))
        return found

    def fit_to(self, predictions: Sequence[Predictions]) -> dict[str, TaskCalibration]:
        """From predictions of validation, and write it."""
        tasks = [item for item in predictions if isinstance(item, TaskPredictions) and item.kind != "regression"]
        found = {item.task: fit(item) for item in tasks}
        if self.accelerator.is_main_process and found:
            write_calibration(self.file, found, {task: self.experiment.task(task).threshold for task in found})
        return found

    def calibrate(self, predictions: Sequence[Predictions], found: Mapping[str, TaskCalibration]) -> list[Predictions]:
        return [
            calibrated(item, found.get(item.task), self.experiment.task(item.task).threshold)
            if isinstance(item, TaskPredictions)
            else item
            for item in predictions
        ]


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
