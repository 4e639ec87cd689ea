"""Several runs on one page: what tells their configs apart, tables of how they differ, and their curves over each other."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmtrain.engine.run_folder import write_whole
from mmtrain.evaluation.table import TextTable
from mmtrain.report.charts import Limits, line_chart
from mmtrain.report.learning import evaluated_tasks, metric_of
from mmtrain.report.page import render_page
from mmtrain.report.parts import Cell, Chart, DataTable, Missing, Part, Section, Value
from mmtrain.report.run_log import Line, over_steps
from mmtrain.report.run_record import RunRecord, read_run
from mmtrain.report.summary import provenance

_NUMBER = re.compile(r"-?\d+(\.\d+)?(e[-+]?\d+)?")
_FREE = ("name", "runs", "tracking")  # keys of a config that change nothing that is trained


def write_compare_page(
    folders: Sequence[Path], out: Path, *, tables: Sequence[TextTable] = (), notes: Sequence[str] = ()
) -> Path:
    """Write the page. `tables`: such as those of paired tests; `notes`: what stands below them, such as how they were made.

    Errors: ConfigError where a folder is no run, DataError where its predictions are damaged.
    """
    records = [read_run(folder) for folder in folders]
    page = compare_page(records, tables=[*map(table_of, tables)], notes=notes)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page)
    return out


def compare_page(records: Sequence[RunRecord], *, tables: Sequence[DataTable] = (), notes: Sequence[str] = ()) -> str:
    """The page, whole; `tables` and `notes`: of the differences between the runs."""
    names = run_names(records)
    named = dict(zip(names, records, strict=True))
    sections = [
        Section("Runs", [_run_table(named), *_setting_table(named)]),
        Section(
            "Differences", [*tables, *notes] or [Missing("No tables of differences", f"mmtrain compare {_paths(records)}")]
        ),
        Section("Learning curves", list(_curves(named))),
        Section("Training", list(_training(named))),
    ]
    where = "; ".join(f"{name}: {provenance(record)}" for name, record in named.items())
    return render_page(title=f"Comparison of {' and '.join(names)}", provenance=where, sections=sections)


def run_names(records: Sequence[RunRecord]) -> list[str]:
    """The names of the runs, or their folders where two are called the same."""
    names = [record.name for record in records]
    return names if len(set(names)) == len(names) else [str(record.run.path) for record in records]


def table_of(table: TextTable) -> DataTable:
    """A table that a terminal shows too: its numbers sort by the first of each cell."""
    rows: list[list[Value | Cell]] = [[*row[: table.num_names], *map(_cell, row[table.num_names :])] for row in table.rows]
    return DataTable(title=table.title, header=table.header, rows=rows)


def _cell(text: str) -> Cell:
    found = _NUMBER.search(text)
    return Cell(text.strip(), float(found[0]) if found else None)


def _paths(records: Sequence[RunRecord]) -> str:
    return " ".join(str(record.run.path) for record in records)


def _run_table(named: Mapping[str, RunRecord]) -> DataTable:
    rows: list[list[Value]] = []
    for name, record in named.items():
        metric = record.config["selection"]["metric"]
        best = next((item for item in reversed(record.log.evaluations) if item["best"]), None)
        start = record.starts[-1]
        value = best["metrics"].get(metric) if best else None
        trained = start.get("parameters", {}).get("trained")
        rows.append([name, record.log.last_step, metric, value, best["step"] if best else None, start.get("seed"), trained])
    header = ("run", "steps", "selected by", "best", "at step", "seed", "parameters trained")
    return DataTable(title="Runs", header=header, rows=rows, formats={"best": ".4f"})


def _setting_table(named: Mapping[str, RunRecord]) -> Iterator[Part]:
    """The keys of the configs that differ."""
    flat = [dict(_leaves(record.config)) for record in named.values()]
    keys = [key for key in dict.fromkeys(key for values in flat for key in values) if key.partition(".")[0] not in _FREE]
    rows = [[key, *(values.get(key, "-") for values in flat)] for key in keys if len({str(v.get(key)) for v in flat}) > 1]
    if rows:
        yield DataTable(title="Settings that differ", header=("setting", *named), rows=rows)
    else:
        yield "Their configs are the same."


def _leaves(value: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, str(value)


def _curves(named: Mapping[str, RunRecord]) -> Iterator[Part]:
    """Of every task, its validation loss and the metric that stands for it, a line a run."""
    evaluated = {name: record for name, record in named.items() if record.log.evaluations}
    if not evaluated:
        yield Missing("No run has been evaluated yet")
    for task in dict.fromkeys(task for record in evaluated.values() for task in evaluated_tasks(record.log.evaluations)):
        yield from _over(evaluated, f"{task}: validation loss", f"val/{task}/loss", y="loss")
        metric = next((found for record in evaluated.values() if (found := metric_of(task, record))), None)
        if metric is not None:
            title = metric.replace("_", " ")
            yield from _over(evaluated, f"{task}: {title}", f"val/{task}/{metric}", y=title)


def _over(named: Mapping[str, RunRecord], title: str, metric: str, *, y: str) -> Iterator[Chart]:
    lines = []
    for name, record in named.items():
        found = over_steps(record.log.evaluations, lambda item, name=name: {name: item["metrics"].get(metric)})  # type: ignore[misc]
        lines += [line for line in found if not np.isnan(line.values).all()]
    if lines:
        last = ", ".join(f"{line.name} {line.values[-1]:.4g}" for line in lines)
        yield line_chart(title, f"At the last evaluation: {last}.", lines, y=y, limits=Limits())


def _training(named: Mapping[str, RunRecord]) -> Iterator[Part]:
    """What each step showed."""
    for title, column, summary in (
        ("Objective", "objective", "What each step minimized over its batch."),
        ("Gradient norm", "grad_norm", "Before clipping."),
    ):
        found = [(name, record.log.line(column)) for name, record in named.items()]
        lines = [Line(name, line.steps, line.values) for name, line in found if line is not None]
        if lines:
            yield line_chart(title, summary, lines, y=title.lower(), limits=Limits())
    rates = []
    for name, record in named.items():
        windows = [item for item in record.log.timing if item["kind"] == "window"]
        rates += over_steps(windows, lambda item, name=name: {name: item["samples_per_second"]})  # type: ignore[misc]
    if rates:
        yield line_chart("Samples a second", "Clock readings.", rates, y="rate", limits=Limits(), from_zero=True)
