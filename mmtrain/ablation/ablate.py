"""`mmtrain ablate`: run what is out of a matrix on this machine, and say what its variants came to."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from mmtrain.ablation.contents import Report, build_report
from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.ablation.plan import Plan, PlannedRun, check_plan, read_plan
from mmtrain.ablation.processes import Job, run_jobs, threads_for, why_ended
from mmtrain.ablation.readings import Readings, chosen_variants, reading_job
from mmtrain.ablation.records import STOPPED
from mmtrain.ablation.report import print_report, write_report
from mmtrain.ablation.rows import variant_rows
from mmtrain.ablation.slurm import SlurmOptions, find_submit, queued_runs, submit_table, submit_waves, waves_of
from mmtrain.ablation.status import State, Status, attempts_of, shared_statuses, status_of, statuses
from mmtrain.ablation.table_lock import patient_lock
from mmtrain.engine.console import lasting_console, stdout_console
from mmtrain.engine.run_lock import RunLock
from mmtrain.errors import ConfigError

Began = Callable[[Job], None]
Ended = Callable[[Job, int, MemoryWatch], None]


def ablate(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    jobs: int = 1,
    dry_run: bool = False,
    rerun_stale: bool = False,
    final: Sequence[str] = (),
    slurm: SlurmOptions | None = None,
) -> bool:
    """Bring every run of a matrix to its end, `jobs` at a time, and write runs/<name>/ablation.{md,csv,json}.

    What is finished stays, what is interrupted goes on, what failed is tried again; `rerun_stale` trains anew what other
    code made, and what is of other settings or data. `final`: nothing is trained, the test split of these variants is read.
    `slurm`: what is out, and neither queued nor running there, is submitted as an array, and the table behind it.
    True where every run is finished, or, with `final`, every one that was asked for is read; with `slurm`, in any case.
    Errors: UserError of every kind before the first run begins; Interrupted.
    """
    script = find_submit() if slurm is not None else None
    plan = read_plan(file, overrides)
    check_plan(file, plan)
    for run in (*plan.shared, *plan.runs):
        run.folder.check(resume=True, overwrite=False)
    if dry_run:
        _Session(plan, stdout_console(), rerun_stale=rerun_stale).show(jobs)
        return True
    with RunLock(plan.folder) if slurm is None else patient_lock(plan.folder, lasting_console()):
        session = _Session(plan, lasting_console(), rerun_stale=rerun_stale)
        if slurm is not None and script is not None:
            session.submit(script, slurm, [str(file), *overrides])
            return True
        whole = session.read_test(final, jobs) if final else session.train(jobs)
    print_report(session.report(), session.console)
    return whole


def tabulate(file: Path, overrides: Sequence[str] = ()) -> None:
    """Write and print runs/<name>/ablation.{md,csv,json} of what is finished by now. Errors: UserError."""
    plan = read_plan(file, overrides)
    with patient_lock(plan.folder, stdout_console()):
        report = _Session(plan, stdout_console(), rerun_stale=False).report()
        write_report(report)
    print_report(report, stdout_console())


def command_of(plan: Plan, run: PlannedRun, *, overwrite: bool) -> tuple[str, ...]:
    """What trains a run, or goes on with it; the same words by hand do the same."""
    how = "--overwrite" if overwrite else "--resume"
    return (sys.executable, "-m", "mmtrain.train", "--config", str(plan.experiment_file), *run.words, how)


class _Session:
    """One call of the command: how far every run is, and what is done about it."""

    def __init__(self, plan: Plan, console: Console, *, rerun_stale: bool) -> None:
        self.plan, self.console, self._rerun_stale = plan, console, rerun_stale
        self._found = {status.run.label: status for status in (*shared_statuses(plan), *statuses(plan))}

    @property
    def statuses(self) -> list[Status]:
        return [self._found[run.label] for run in self.plan.runs]

    @property
    def shared(self) -> list[Status]:
        return [self._found[run.label] for run in self.plan.shared]

    def report(self) -> Report:
        readings = Readings(self.plan)
        tested = [status.run for status in self.statuses if status.is_finished and readings.is_read(status.run)]
        rows, _ = variant_rows(self.plan, tested, split="test") if tested else ([], [])
        tested_rows = [row for row in rows if row.seeds]
        return build_report(
            self.plan, self.statuses, shared=self.shared, tested=tested_rows, num_reads=len(readings.records())
        )

    def show(self, jobs: int) -> None:
        """Every run, and the commands of those that are out."""
        out = self._out()
        for status in self._found.values():
            self._say(f"# {status.run.label}: {'; '.join(words for words in (status.words, status.stale) if words)}")
            if status in out:
                job = self._job(status)
                self._say(f"OMP_NUM_THREADS={threads_for(jobs)} {shlex.join(job.command)}")

    def train(self, jobs: int) -> bool:
        """Run what is out, and whether every run is finished then; the page is written again behind every run."""
        out = self._out()
        runs = {status.run.label: status.run for status in out}
        attempts = attempts_of(self.plan)
        write_report(self.report())

        def began(job: Job) -> None:
            self._found[job.label] = Status(runs[job.label], State.RUNNING)
            self._say(f"{job.label}: begins, log {job.log}")

        def ended(job: Job, code: int, watch: MemoryWatch) -> None:
            attempts.note(runs[job.label], code=0 if code in STOPPED else code, line=why_ended(job, code, watch))
            status = self._found[job.label] = status_of(self.plan, runs[job.label])
            self._look_behind()
            done = sum(status.is_finished for status in self.statuses)
            self._say(f"{job.label}: {status.words}; {done} of {len(self.statuses)} runs finished")
            write_report(self.report())

        try:
            self._run([self._job(status) for status in out], jobs, began, ended)
        finally:
            for label, status in self._found.items():
                self._found[label] = status_of(self.plan, status.run) if status.state is State.RUNNING else status
            write_report(self.report())
        return all(status.is_finished for status in self.statuses)

    def submit(self, script: Path, options: SlurmOptions, words: Sequence[str]) -> None:
        """Submit what is out and not there already; `words`: what names the matrix on the command line."""
        queued = queued_runs(self.plan.folder)
        if queued is None:
            raise ConfigError(
                "--slurm: squeue does not answer, and what is queued already would be submitted twice; try again"
            )
        write_report(self.report())
        out = {status.run.label: status for status in self._out()}
        there = {label for label, status in out.items() if status.state is State.RUNNING or label in queued}
        if there:
            self._say(f"{len(there)} of {len(out)} runs that are out are queued or running already")
        waves, num_left = waves_of([self._job(status) for status in out.values()], there)
        if num_left:
            self._say(f"{num_left} runs wait for stages that are queued or running; submit again when these have ended")
        if not waves:
            self._say("nothing to submit")
            return
        number = submit_waves(self.plan.folder, waves, script, options, words=words)
        table = submit_table(self.plan.folder, words, script, behind=number)
        count = sum(map(len, waves))
        self._say(f"submitted {count} runs as job {number}, and their table as job {table}")
        self._say(f"how far they are: mmtrain ablate status {shlex.join(words)}")

    def read_test(self, names: Sequence[str], jobs: int) -> bool:
        """Read the test split of each run of these variants that has not been read yet, and whether all are read then."""
        readings = Readings(self.plan)
        variants = chosen_variants(self.plan, self.statuses, names)
        runs = {run.label: run for variant in variants for run in self.plan.of(variant)}
        out = [run for run in runs.values() if not readings.is_read(run)]
        for run in (run for run in runs.values() if run not in out):
            self._say(f"{run.label}: its test split was read before, and is not read again")

        def began(job: Job) -> None:
            readings.note(runs[job.label])
            self._say(f"{job.label}: its test split is read, log {job.log}")

        def ended(job: Job, code: int, watch: MemoryWatch) -> None:
            if code:
                self._say(f"{job.label}: the test split could not be read: {why_ended(job, code, watch)}")

        self._run([reading_job(self.plan, run) for run in out], jobs, began, ended)
        write_report(self.report())
        return all(readings.is_read(run) for run in runs.values())

    def _run(self, jobs: Sequence[Job], at_once: int, began: Began, ended: Ended) -> None:
        said: set[str] = set()

        def waits(job: Job) -> None:
            if job.label not in said:
                said.add(job.label)
                self._say(f"{job.label}: another process is at work in {job.folder}; waiting for it")

        devices = torch.cuda.device_count()
        for job in run_jobs(jobs, at_once=at_once, began=began, ended=ended, waits=waits, num_devices=devices):
            status = self._found[job.label]
            in_use = f"another process is still at work in {job.folder}"
            self._say(f"{job.label}: passed over, {status.words if status.state is State.WAITING else in_use}")

    def _out(self) -> list[Status]:
        """What is to be trained now: with a stage only where a run that has not begun needs it, or it is remade."""
        needed: set[str] = set()
        out: dict[str, Status] = {}
        for label, status in reversed(self._found.items()):  # a stage stands before what needs it
            is_wanted = status.run.variant is not None or label in needed or self._is_remade(status)
            if self._is_out(status) and is_wanted:
                out[label] = status
                begins = not status.run.folder.is_run() or self._is_remade(status)
                needed |= set(status.run.needs) if begins else set()
        return [status for status in reversed(out.values()) if not self._is_blocked(status, out)]

    def _is_blocked(self, status: Status, out: Mapping[str, Status]) -> bool:
        """Whether it waits for a stage that is not trained now, such as one of other settings."""
        lacking = (need for need in status.run.needs if not self._found[need].is_finished and need not in out)
        return status.state is State.WAITING and any(lacking)

    def _look_behind(self) -> None:
        """See again what a stage that has ended was needed for."""
        behind = [status.run for status in self._found.values() if status.state is State.WAITING]
        self._found |= {status.run.label: status for status in statuses(self.plan, behind)} if behind else {}

    def _is_out(self, status: Status) -> bool:
        if status.state in (State.FINISHED, State.MISFIT):
            return self._is_remade(status)
        return True

    def _is_remade(self, status: Status) -> bool:
        """Whether it was made by other code, settings or weights, or will have been: a stage that it needs is remade."""
        is_old = status.state is State.MISFIT or bool(status.stale)
        begun = status.state not in (State.MISSING, State.WAITING)
        return self._rerun_stale and (
            is_old or (begun and any(self._is_remade(self._found[need]) for need in status.run.needs))
        )

    def _job(self, status: Status) -> Job:
        run = status.run
        log = self.plan.folder / "logs" / f"{run.label}.log"
        command = command_of(self.plan, run, overwrite=self._is_remade(status))
        return Job(run.label, command, run.folder.path, log, run.needs)

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
