"""A run's checkpoint over a split: predictions, the table with intervals and baselines, the streams' shares."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from mmtrain.build import prepare_for_evaluation
from mmtrain.config import load_experiment
from mmtrain.data.bad_samples import bad_sample_notes, bad_sample_records
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import SPLITS, TaskKind
from mmtrain.engine.console import main_console
from mmtrain.engine.jsonl import plain, read_jsonl
from mmtrain.engine.model_state import load_model_state
from mmtrain.engine.named_checkpoint import read_named, saved_weights
from mmtrain.engine.progress import ProgressBar
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.state import require_version
from mmtrain.engine.truncation import truncation_note
from mmtrain.errors import CheckpointError, ConfigError
from mmtrain.evaluation.evaluate import evaluate
from mmtrain.evaluation.metrics import PRIMARY
from mmtrain.evaluation.prediction_file import write_predictions
from mmtrain.evaluation.predictions import Predictions, PretextPredictions
from mmtrain.evaluation.pretext_metrics import table_metrics
from mmtrain.evaluation.split_metrics import split_metrics
from mmtrain.evaluation.table import ShareRow, TaskRow, shares_table, summary_table, task_rows
from mmtrain.parts import build_parts, build_streams, training_labels
from mmtrain.text_cache import use_cached_texts
from mmtrain.training import build_accelerator

# what a table shows of each kind of task beside the metric that stands for it
_SECOND: dict[TaskKind, str] = {"binary": "auroc", "multiclass": "macro_f1", "multilabel": "macro_f1", "regression": "mae"}

_LEGEND = "* the whole 95 % interval (bootstrap over groups) is better than the baseline: the constant learned in training"
_CHANCE = "; of a pretext task: rankings at random among the samples of the split"


def score_run(folder: Path, *, split: str, checkpoint: str = "best", weights: str = "trained") -> list[TaskRow]:
    """Evaluate and write predictions/<split>.parquet and evaluation/<split>.{json,md}; returns the table's rows.

    `weights`: `trained`, or `average`, the files of which are named <split>_average.
    Errors: ConfigError where there is no such run or split, CheckpointError where the checkpoint is damaged or the
    stores have changed since.
    """
    run = RunFolder(folder)
    if not run.is_run():
        raise ConfigError(run.refusal())
    if split not in SPLITS:
        by_run = "; training.train_predictions: true has the run itself write those" if "train-epoch" in split else ""
        raise ConfigError(f"--split: '{split}' is none of {', '.join(SPLITS)}{by_run}")
    if weights not in ("trained", "average"):
        raise ConfigError(f"--weights: '{weights}' is none of trained, average")
    experiment = load_experiment(run.config)
    accelerator = build_accelerator(experiment)
    parts = build_parts(experiment, weights=False)
    _, saved = read_named(run, checkpoint)
    require_version(saved, origin=checkpoint)
    for name, store in parts.stores.items():
        if saved.state["identity"]["stores"].get(name) != store.fingerprint:
            raise CheckpointError(f"dataset '{name}': store {store.path} is not the one this run was trained on")
    try:
        tensors = saved_weights(saved, weights, origin=checkpoint)
    except ConfigError as error:
        raise ConfigError(f"--weights: {error}") from None
    load_model_state(parts.model, tensors, origin=checkpoint)
    console = main_console(accelerator)
    streams = build_streams(experiment, parts.stores, split)
    model = prepare_for_evaluation(parts.model, accelerator)
    cache_notes = use_cached_texts(
        experiment, accelerator, model=parts.model, streams=streams, collate=parts.collate, console=console
    )
    with ProgressBar(console, split, total=1) as progress:
        predictions = evaluate(
            model,
            streams,
            objective=parts.objective,
            collate=parts.collate,
            accelerator=accelerator,
            batch_size=experiment.batch.evaluation,
            progress=progress.count,
        )
    note = truncation_note(parts.collate.tokenizer, accelerator)
    rows = _rows(predictions, parts.train_streams)
    bad = [record for record in bad_sample_records(parts.stores) if record["split"] == split]
    if console is not None:
        for words in [*cache_notes, *([note] if note else []), *bad_sample_notes(parts.stores)]:
            console.print(words, highlight=False, soft_wrap=True)
        shares = share_rows(run, parts.train_streams)
        step = int(saved.state["step"])
        name = split if weights == "trained" else f"{split}_{weights}"
        _write(run, console, split=name, step=step, predictions=predictions, rows=rows, shares=shares, bad=bad)
    return rows


def _rows(predictions: Sequence[Predictions], train_streams: Sequence[Stream]) -> list[TaskRow]:
    labels = {
        item.task: {
            stream.name: training_labels(item.task, [stream]) for stream in train_streams if item.task in stream.tasks
        }
        for item in predictions
        if not isinstance(item, PretextPredictions)
    }
    chosen = {
        item.task: table_metrics(item) if isinstance(item, PretextPredictions) else (PRIMARY[item.kind], _SECOND[item.kind])
        for item in predictions
    }
    return list(task_rows({item.task: item for item in predictions}, labels, chosen=chosen))


def share_rows(run: RunFolder, train_streams: Sequence[Stream]) -> list[ShareRow]:
    """What each stream had of the samples drawn so far, from curriculum.jsonl."""
    counts: dict[str, int] = {stream.name: 0 for stream in train_streams}
    for record in read_jsonl(run.curriculum):
        for name, count in record["counts"].items():
            counts[name] += count
    total = max(sum(counts.values()), 1)
    return [ShareRow(stream.name, len(stream), counts[stream.name] / total) for stream in train_streams]


def _write(
    run: RunFolder,
    console: Console,
    *,
    split: str,
    step: int,
    predictions: Sequence[Predictions],
    rows: Sequence[TaskRow],
    shares: Sequence[ShareRow],
    bad: Sequence[Mapping[str, str]],
) -> None:
    write_predictions(run.predictions(split), predictions)
    tables = [summary_table(rows, title=f"{run.path.name}: {split} split, checkpoint of step {step}"), shares_table(shares)]
    folder = run.path / "evaluation"
    folder.mkdir(exist_ok=True)
    legend = _LEGEND + (_CHANCE if any(isinstance(item, PretextPredictions) for item in predictions) else "")
    text = "\n".join([*(table.markdown() for table in tables), legend, ""])
    (folder / f"{split}.md").write_text(text, encoding="utf-8")
    values = {
        "split": split,
        "step": step,
        "metrics": split_metrics(split, predictions),
        "rows": [asdict(row) for row in rows],
        "shares": [asdict(share) for share in shares],
        "bad_samples": bad,
    }
    (folder / f"{split}.json").write_text(json.dumps(plain(values), indent=1, allow_nan=False), encoding="utf-8")
    for table in tables:
        console.print(table.rich())
    console.print(legend, highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"written: {run.predictions(split)}, {folder / split}.md, {folder / split}.json", highlight=False, soft_wrap=True
    )
