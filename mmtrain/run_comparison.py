"""`mmtrain compare`: runs beside a baseline run, on the samples that they all predicted."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmtrain.engine.console import lasting_console, stdout_console
from mmtrain.engine.jsonl import plain
from mmtrain.engine.readings import readings, times
from mmtrain.engine.run_folder import RunFolder, write_whole
from mmtrain.errors import ConfigError, DataError
from mmtrain.evaluation.comparing import LEVEL, ComparedMetric, RunComparison, compare_runs
from mmtrain.evaluation.comparison import ByTask, Estimate
from mmtrain.evaluation.prediction_file import read_predictions
from mmtrain.evaluation.predictions import PretextPredictions
from mmtrain.evaluation.pretext_metrics import primary_metric
from mmtrain.evaluation.standards import FEW_GROUPS
from mmtrain.evaluation.table import TextTable, digits
from mmtrain.report import require_report
from mmtrain.trained import check_asked


def compare_folders(
    folders: Sequence[Path],
    *,
    split: str,
    baseline: Path | None = None,
    metrics: Sequence[str] = (),
    out: Path | None = None,
) -> RunComparison:
    """Compare runs by their predictions/<split>.parquet, print the table, and write it to `out` as JSON, or as a page with
    the JSON beside it.

    `baseline`: one of the runs; None: the first. `metrics`: `task/name` or `loss`; none: each task's loss and the metric
    that stands for it. Errors: ConfigError where a run or a metric is not there, DataError where predictions are missing.
    """
    predictions = _read(folders, split)
    names = list(predictions)
    first = names[0] if baseline is None else _baseline(folders, names, baseline)
    if out is not None and out.suffix == ".html":
        require_report("mmtrain compare --out with .html")
    chosen = [_metric(name, predictions[first], split) for name in metrics] or _usual(predictions[first])
    found = compare_runs(predictions, baseline=first, metrics=chosen, split=split)
    console = lasting_console() if out is not None else stdout_console()
    console.print(comparison_table(found).rich())
    counts = {name: len(readings(RunFolder(folder))) for name, folder in zip(names, folders, strict=True)}
    for line in (*found.notes, *legend(found), *_test_notes(counts if split == "test" else {})):
        console.print(line, highlight=False, soft_wrap=True, markup=False)
    if out is not None:
        try:
            for file in _write(folders, found, out):
                console.print(f"written: {file}", highlight=False, soft_wrap=True)
        except OSError as error:
            raise DataError(f"{out.absolute()} cannot be written ({error.strerror}); name another file by --out") from None
    return found


def _write(folders: Sequence[Path], found: RunComparison, out: Path) -> Iterator[Path]:
    """A page and its numbers beside it, or the numbers alone."""
    if out.suffix == ".html":
        from mmtrain.report.compare_page import write_compare_page

        write_compare_page(folders, out, tables=[comparison_table(found)], notes=[*found.notes, *legend(found)])
        yield out
        out = out.with_suffix(".json")
    write_whole(out, json.dumps(plain(asdict(found)), indent=1, allow_nan=False) + "\n")
    yield out


def _read(folders: Sequence[Path], split: str) -> dict[str, ByTask]:
    """By the runs' folders as they were written."""
    if len(folders) < 2:
        raise ConfigError("a comparison needs two runs; write another folder")
    names = [str(folder) for folder in folders]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"run {twice[0]} stands there twice")
    return {str(folder): read_predictions(check_asked(folder, split=split).predictions(split)) for folder in folders}


def _baseline(folders: Sequence[Path], names: Sequence[str], baseline: Path) -> str:
    for folder, name in zip(folders, names, strict=True):
        if folder.resolve() == baseline.resolve():
            return name
    raise ConfigError(f"--baseline: {baseline} is none of the runs {', '.join(names)}")


def _metric(name: str, predictions: ByTask, split: str) -> str:
    """`task/metric`, also where the split stands before it. Errors: ConfigError for a task that the baseline lacks."""
    metric = name.removeprefix(f"{split}/")
    if metric != "loss" and metric.partition("/")[0].partition("@")[0] not in predictions:
        raise ConfigError(f"--metric: '{name}' is no <task>/<metric> of the tasks {', '.join(predictions)}, and not loss")
    return metric


def _usual(predictions: ByTask) -> list[str]:
    names: list[str] = []
    for task, item in predictions.items():
        metric = "loss" if isinstance(item, PretextPredictions) else primary_metric(item)
        names += dict.fromkeys((f"{task}/loss", f"{task}/{metric}"))
    return names


def _test_notes(counts: Mapping[str, int]) -> list[str]:
    return [f"{name}: {times(count)}" for name, count in counts.items()]


def comparison_table(found: RunComparison) -> TextTable:
    """A row for every metric and run."""
    header = (
        "metric",
        "run",
        "value",
        "baseline",
        "difference",
        "95 % interval",
        "p",
        "p (swaps)",
        "Holm",
        "McNemar",
        "d_z",
        "odds",
        "groups",
    )
    rows = tuple(_row(row) for row in found.rows)
    return TextTable(f"{found.split} split, against {found.baseline}", header, rows, 2)


def _row(row: ComparedMetric) -> tuple[str, ...]:
    own = row.decisions
    return (
        row.metric,
        row.run,
        digits(row.value.mean),
        digits(row.baseline.mean),
        digits(row.difference.mean) + (" *" if row.is_different else "  "),
        _interval(row.difference),
        _p(row.difference.p),
        _p(row.p_permutation),
        _p(row.p_holm),
        _p(own.p_mcnemar if own else float("nan")),
        digits(row.d_z),
        f"{own.odds_ratio:.2f} ({own.only_run}:{own.only_baseline})" if own else "-",
        ("few: " if row.has_few_groups else "") + str(row.difference.num),
    )


def legend(found: RunComparison) -> list[str]:
    """What the columns say."""
    lines = [
        f"*: p < {LEVEL} after Holm's correction of the p of swaps over all {len(found.rows)} rows",
        "interval, p: a bootstrap of whole groups, the same for both runs",
        "p (swaps): a permutation test that exchanges the runs in whole groups",
        "d_z: Cohen's, of the losses of samples (mean difference over deviation; below 0: the run has the lower losses)",
        "odds: of samples that the run alone gets right to those that the baseline alone does (1/2 added to both)",
    ]
    if any(row.decisions is not None and np.isnan(row.decisions.p_mcnemar) for row in found.rows):
        lines.append("McNemar's test takes samples as independent; where they share groups, swaps stand for it")
    if any(row.has_few_groups for row in found.rows):
        lines.append(f"few: fewer than {FEW_GROUPS} groups; what is said rests on these few")
    return lines


def _interval(found: Estimate) -> str:
    return f"[{digits(found.low)}, {digits(found.high)}]"


def _p(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}"
