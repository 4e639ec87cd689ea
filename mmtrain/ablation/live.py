"""`mmtrain ablate status`: how far every run is by the files that it leaves, and by squeue where there is one."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from mmtrain.ablation.plan import Plan, PlannedRun, read_plan
from mmtrain.ablation.records import Record, read_record
from mmtrain.ablation.slurm import queued_runs, submitted_runs
from mmtrain.ablation.status import State, Status, status_of, statuses
from mmtrain.engine.console import stdout_console
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.evaluation.table import TextTable

_PIECE = 65_536  # bytes of a log that are read at first, from its end
_HEADER = ("run", "state", "epoch", "step", "value", "job", "note")


@dataclass(frozen=True)
class Progress:
    """`value`: the matrix's metric at the last evaluation."""

    epoch: str = ""
    step: str = ""
    value: str = ""


def show_status(file: Path, overrides: list[str], *, every: float | None) -> bool:
    """Print how far the runs of a matrix are; every so many seconds, until all are finished. True where all are.

    Errors: ConfigError where the file is wrong. Nothing is written, and nobody is kept from working there.
    """
    plan, console = read_plan(file, overrides), stdout_console()
    found = {status.run.label: status for status in statuses(plan)}
    if every is None:
        console.print(status_table(plan, found).rich())
        return _all_finished(found)
    _watch(plan, found, console, every)
    return _all_finished(found)


def _watch(plan: Plan, found: dict[str, Status], console: Console, every: float) -> None:
    with Live(status_table(plan, found).rich(), console=console, auto_refresh=False) as live:
        while not _all_finished(found):
            time.sleep(every)
            for label, status in found.items():
                if not status.is_finished:
                    found[label] = status_of(plan, status.run)
            live.update(status_table(plan, found).rich(), refresh=True)


def _all_finished(found: Mapping[str, Status]) -> bool:
    return all(status.is_finished for status in found.values())


def status_table(plan: Plan, found: Mapping[str, Status]) -> TextTable:
    """A row for every run."""
    queued, submitted = queued_runs(plan.folder), submitted_runs(plan.folder)
    rows = []
    for label, status in found.items():
        record = read_record(plan.folder, label)
        state, note = _state(status, record, queued, is_submitted=label in submitted)
        progress = _progress(plan, status.run) if status.run.folder.is_run() else Progress()
        job = "" if record is None else record.job
        rows.append((label, state, progress.epoch, progress.step, progress.value, job, note))
    counts = {state: sum(row[1] == state for row in rows) for state in dict.fromkeys(row[1] for row in rows)}
    title = f"{plan.matrix.name}: {', '.join(f'{count} {state}' for state, count in counts.items())}; {plan.matrix.metric}"
    return TextTable(title, _HEADER, tuple(rows), 2)


def _state(
    status: Status, record: Record | None, queued: Mapping[str, str] | None, *, is_submitted: bool
) -> tuple[str, str]:
    """In a word, and what is to be said of it."""
    known = None if queued is None else queued.get(status.run.label)
    has_ended = record is not None and record.code is not None
    if status.is_finished:
        return "done", status.stale
    if known == "PENDING":
        return "queued", "preempted, goes on" if status.run.folder.preempted.is_file() else ""
    if status.state is State.RUNNING or (known is not None and not has_ended):
        return "running", "" if known in (None, "RUNNING") else known.lower()
    if queued is None and is_submitted and not has_ended:
        word = "queued" if record is None else "running"
        return word, "or lost: it was submitted, and squeue does not answer"
    if status.state is State.MISSING and is_submitted:
        return "not begun", "it was submitted, and is not queued any more"
    return status.state.value, status.note


def _progress(plan: Plan, run: PlannedRun) -> Progress:
    """From the ends of metrics.jsonl and timing.jsonl."""
    step, evaluation = _last(run.folder.metrics)
    timing = run.folder.timing
    ended = sum(record["kind"] == "epoch" for record in read_jsonl(timing)) if timing.is_file() else 0
    epochs = run.experiment.training.epochs
    value = None if evaluation is None else evaluation["metrics"].get(plan.matrix.metric)
    return Progress(
        epoch=f"{min(ended + 1, epochs)} of {epochs}",
        step="" if step is None else str(step),
        value="" if value is None else f"{value:.4f}",
    )


def _last(file: Path) -> tuple[int | None, dict[str, Any] | None]:
    """The last step of metrics.jsonl and its last evaluation; None where there is none."""
    if not file.is_file():
        return None, None
    size, piece = file.stat().st_size, _PIECE
    while True:
        with file.open("rb") as log:
            log.seek(max(0, size - piece))
            lines = log.read().splitlines(keepends=True)
        whole = lines if piece >= size else lines[1:]
        records = [json.loads(line) for line in whole if line.endswith(b"\n")]
        evaluations = [record for record in records if record["kind"] == "evaluation"]
        if evaluations or piece >= size:
            return (records[-1]["step"] if records else None), (evaluations[-1] if evaluations else None)
        piece *= 8
