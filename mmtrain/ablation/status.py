"""How far every run of a matrix is, from what stands in its folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from json import JSONDecodeError, loads
from pathlib import Path
from typing import Any

from mmtrain.ablation.plan import Plan, PlannedRun
from mmtrain.ablation.records import read_record
from mmtrain.engine.code_version import code_change, code_now
from mmtrain.engine.jsonl import JsonLines, read_jsonl
from mmtrain.engine.run_lock import is_locked
from mmtrain.errors import CheckpointError
from mmtrain.run_checks import is_finished


class State(Enum):
    """Where a run stands."""

    MISSING = "not begun"
    RUNNING = "in use"  # by a process that trains in its folder
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    FINISHED = "finished"
    MISFIT = "of other settings"  # finished or not: what is there cannot be reused


@dataclass(frozen=True)
class Status:
    """`note`: of a failed run the last line of its log, of a misfit what differs. `stale`: how the code changed since."""

    run: PlannedRun
    state: State
    note: str = ""
    stale: str = ""

    @property
    def is_finished(self) -> bool:
        return self.state is State.FINISHED


@dataclass(frozen=True)
class Attempts:
    """runs/<matrix>/attempts.jsonl: how each start of a run ended. One that was killed with its matrix left no line."""

    file: Path

    def note(self, run: PlannedRun, *, code: int, line: str) -> None:
        log = JsonLines(self.file)
        log.write({"run": run.label, "code": code, "line": line, "time": time.time()})
        log.close()

    def last(self) -> dict[str, dict[str, Any]]:
        """The last one of every run, by its label."""
        return {record["run"]: record for record in read_jsonl(self.file)} if self.file.is_file() else {}


def attempts_of(plan: Plan) -> Attempts:
    return Attempts(plan.folder / "attempts.jsonl")


def statuses(plan: Plan) -> list[Status]:
    """Every run's, in the plan's order."""
    last, code = attempts_of(plan).last(), code_now()
    return [_status(run, _latest(plan, run, last.get(run.label)), code) for run in plan.runs]


def status_of(plan: Plan, run: PlannedRun) -> Status:
    return _status(run, _latest(plan, run, attempts_of(plan).last().get(run.label)), code_now())


def _latest(plan: Plan, run: PlannedRun, here: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """How the last start of a run ended, on this machine or through Slurm."""
    record = read_record(plan.folder, run.label)
    if record is None or (here is not None and here.get("time", 0) > record.seen):
        return here
    reason = record.reason()
    return {"code": 1 if reason else 0, "line": reason}


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
    """The keys that differ, without the sentences around them; all of a message that is about something else."""
    lines = str(error).splitlines()
    return "; ".join(line.strip() for line in lines if line.startswith("  ")) or lines[0]
