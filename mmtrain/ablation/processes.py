"""Commands as processes on this machine, some at a time, each with a log; nothing outlives the process that started them."""

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtrain.engine.launch import LAUNCHER_VARIABLE
from mmtrain.engine.run_lock import is_locked
from mmtrain.engine.signals import Signals
from mmtrain.errors import Interrupted, Preempted

_POLL = 0.1  # seconds
_PATIENCE = 600.0  # seconds that a folder may be in use by a process that was not started here


@dataclass(frozen=True)
class Job:
    """A command that works in a run folder."""

    label: str
    command: tuple[str, ...]
    folder: Path
    log: Path


def threads_for(jobs: int) -> int:
    """CPU threads of each of so many jobs at a time: the cores divided, unless OMP_NUM_THREADS says how many."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)


def run_jobs(
    jobs: Sequence[Job],
    *,
    at_once: int,
    began: Callable[[Job], None],
    ended: Callable[[Job, int], None],
    waits: Callable[[Job], None],
    patience: float = _PATIENCE,
) -> list[Job]:
    """Run all, `at_once` at a time, in order; one whose folder somebody else works in is put off. Returns those that were
    put off for `patience` seconds in vain. `ended` is told the exit code, negative for a signal.

    Errors: Interrupted after Ctrl-C or SIGTERM, Preempted after SIGUSR1, when every process was stopped and has saved.
    """
    waiting, running = deque(jobs), dict[subprocess.Popen[bytes], Job]()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads_for(at_once)), LAUNCHER_VARIABLE: str(os.getpid())}
    progressed = time.monotonic()
    with Signals() as signals:
        try:
            while waiting or running:
                if signals.met:
                    kind = Preempted if signals.preempted else Interrupted
                    raise kind("stopped; what was trained is saved. The same command goes on")
                for process in [process for process in running if process.poll() is not None]:
                    ended(running.pop(process), process.returncode)
                    progressed = time.monotonic()
                while len(running) < at_once and (job := _next_free(waiting)) is not None:
                    running[_start(job, environment)] = job
                    began(job)
                if waiting and not running:
                    waits(waiting[0])
                    if time.monotonic() - progressed > patience:
                        break
                time.sleep(_POLL)
        finally:
            _stop(running)
    return list(waiting)


def _next_free(waiting: deque[Job]) -> Job | None:
    """The first job whose folder nobody works in, taken out of the queue."""
    for job in waiting:
        if not is_locked(job.folder):
            waiting.remove(job)
            return job
    return None


def _start(job: Job, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        log.write(f"$ {' '.join(job.command)}\n".encode())
        log.flush()
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=dict(environment)
        )


def _stop(running: Mapping[subprocess.Popen[bytes], Any]) -> None:
    """Have every process save and end. Ctrl-C in a terminal reached them too, and does no harm twice."""
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
