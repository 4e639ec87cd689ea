"""How far every run of a matrix is, from what stands in its folder."""

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Any

from mmtrain.ablation.plan import Plan, PlannedRun
from mmtrain.ablation.records import read_record
from mmtrain.engine.checkpoint import MANIFEST
from mmtrain.engine.code_version import code_change, code_now
from mmtrain.engine.jsonl import append, read_jsonl
from mmtrain.engine.run_lock import is_locked
from mmtrain.errors import CheckpointError
from mmtrain.run_checks import is_finished
from mmtrain.run_files import recorded_source


class State(Enum):
    """Where a run stands."""

    MISSING = "not begun"
    WAITING = "waiting"  # for a shared stage that is not finished
    RUNNING = "in use"  # by a process that trains in its folder
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    FINISHED = "finished"
    MISFIT = "of other settings"  # finished or not: what is there cannot be reused


@dataclass(frozen=True)
class Status:
    """`note`: of a failed run the last line of its log, of a misfit what differs, of a waiting one for what.

    `stale`: how the code, or the weights that it began with, changed since.
    """

    run: PlannedRun
    state: State
    note: str = ""
    stale: str = ""

    @property
    def is_finished(self) -> bool:
        return self.state is State.FINISHED

    @property
    def words(self) -> str:
        return ": ".join(words for words in (self.state.value, self.note) if words)


@dataclass(frozen=True)
class Attempts:
    """runs/<matrix>/attempts.jsonl: how each start of a run ended. One that was killed with its matrix left no line."""

    file: Path

    def note(self, run: PlannedRun, *, code: int, line: str) -> None:
        append(self.file, {"run": run.label, "code": code, "line": line, "time": time.time()})

    def last(self) -> dict[str, dict[str, Any]]:
        """The last one of every run, by its label."""
        return {record["run"]: record for record in read_jsonl(self.file)} if self.file.is_file() else {}


def attempts_of(plan: Plan) -> Attempts:
    """How the starts of a matrix's runs ended."""
    return Attempts(plan.folder / "attempts.jsonl")


def statuses(plan: Plan, runs: Sequence[PlannedRun] | None = None) -> list[Status]:
    """Every run's, in the plan's order; or those of `runs`, and of nothing else."""
    last, code = attempts_of(plan).last(), code_now()
    wanted = plan.runs if runs is None else runs
    needed = {label for run in wanted for label in run.needs}
    for run in reversed(plan.shared):  # a stage stands behind those that it needs
        needed |= set(run.needs) if run.label in needed else set()
    known: dict[str, Status] = {}
    for run in plan.shared:
        if run.label in needed:
            known[run.label] = _behind(_status(run, _latest(plan, run, last.get(run.label)), code), known)
    return [_behind(_status(run, _latest(plan, run, last.get(run.label)), code), known) for run in wanted]


def shared_statuses(plan: Plan) -> list[Status]:
    """Those of the stages that runs begin with."""
    return statuses(plan, plan.shared)


def status_of(plan: Plan, run: PlannedRun) -> Status:
    """One run's."""
    return statuses(plan, [run])[0]


def _latest(plan: Plan, run: PlannedRun, here: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """How the last start of a run ended, on this machine or through Slurm."""
    record = read_record(plan.folder, run.label)
    if record is None or (here is not None and here.get("time", 0) > record.seen):
        return here
    reason = record.reason()
    return {"code": 1 if reason else 0, "line": reason}


def _behind(status: Status, known: Mapping[str, Status]) -> Status:
    """The status of a run, seen behind those of the stages that it needs. One that has begun needs them no more."""
    needed = [known[label] for label in status.run.needs]
    if not status.run.folder.is_run():
        for other in needed:
            if status.state is not State.RUNNING and not other.is_finished:
                return Status(status.run, State.WAITING, f"for {other.run.label}, which is {other.words}")
        return status
    changed = next((other.run.label for other in needed if not status.stale and _is_other(status.run, other.run)), None)
    return replace(status, stale=f"{changed} has other weights than it began with") if changed else status


def _is_other(run: PlannedRun, source: PlannedRun) -> bool:
    """Whether a run began with other weights than the best of `source` are now."""
    initial = run.experiment.initial
    if initial is None or initial.run is None or Path(initial.run) != source.folder.path:
        return False
    manifest = source.folder.checkpoints / initial.checkpoint / MANIFEST
    try:
        recorded = recorded_source(run.folder)
    except CheckpointError:
        return False
    if recorded is None or not manifest.is_file():
        return False
    return bool(recorded.get("manifest") != hashlib.sha256(manifest.read_bytes()).hexdigest())


def _status(run: PlannedRun, attempt: Mapping[str, Any] | None, code: Mapping[str, Any]) -> Status:
    failed = attempt is not None and attempt["code"] != 0
    note = str(attempt["line"]) if failed and attempt is not None else ""
    if is_locked(run.folder.path):
        return Status(run, State.RUNNING)
    if not run.folder.is_run():
        return Status(run, State.FAILED if failed else State.MISSING, note)
    stale = code_change(_starts(run), code)
    try:
        finished = is_finished(run.experiment)
    except CheckpointError as error:
        return Status(run, State.MISFIT, _differences(error), stale)
    if finished:
        return Status(run, State.FINISHED, stale=stale)
    return Status(run, State.FAILED if failed else State.INTERRUPTED, note, stale)


def _starts(run: PlannedRun) -> Sequence[Mapping[str, Any]]:
    try:
        found: list[Mapping[str, Any]] = loads(run.folder.environment.read_text(encoding="utf-8"))
    except (OSError, JSONDecodeError):
        return []
    return found


def _differences(error: CheckpointError) -> str:
    """The keys that differ, checksums cut short, without the sentences around; all of a message about something else."""
    lines = re.sub(r"'([0-9a-f]{12})[0-9a-f]{52}'", r"\1", str(error)).splitlines()
    return "; ".join(line.strip() for line in lines if line.startswith("  ")) or lines[0]
