"""Commands as processes on this machine, some at a time, each with a log; nothing outlives the process that started them."""

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.ablation.records import last_line, why
from mmtrain.engine.launch import LAUNCHER_VARIABLE
from mmtrain.engine.run_lock import is_locked
from mmtrain.engine.signals import Signals
from mmtrain.errors import Interrupted, Preempted

_POLL = 0.1  # seconds
_LOOK = 1.0  # seconds between two looks at the memory that is held
_PATIENCE = 600.0  # seconds that a folder may be in use by a process that was not started here


@dataclass(frozen=True)
class Job:
    """A command that works in a run folder. `needs`: labels of jobs of the same call that have to end well before."""

    label: str
    command: tuple[str, ...]
    folder: Path
    log: Path
    needs: tuple[str, ...] = ()


def threads_for(jobs: int) -> int:
    """CPU threads of each of so many jobs at a time: the cores divided, unless OMP_NUM_THREADS says how many."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked):
        return int(asked)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)


def environments_for(jobs: int, *, num_devices: int) -> list[dict[str, str]]:
    """What each of so many jobs at a time has of the machine: its threads, and where there are GPUs one of them.

    The GPUs are those that this process sees, in turn: more jobs than GPUs share them.
    """
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    devices = visible or [str(number) for number in range(num_devices)]
    shared = {"OMP_NUM_THREADS": str(threads_for(jobs)), LAUNCHER_VARIABLE: str(os.getpid())}
    own = [{"CUDA_VISIBLE_DEVICES": devices[job % num_devices]} if num_devices else {} for job in range(jobs)]
    return [shared | device for device in own]


def run_jobs(
    jobs: Sequence[Job],
    *,
    at_once: int,
    began: Callable[[Job], None],
    ended: Callable[[Job, int, MemoryWatch], None],
    waits: Callable[[Job], None],
    patience: float = _PATIENCE,
    num_devices: int = 0,
) -> list[Job]:
    """Run all, `at_once` at a time, in order; one whose folder somebody else works in is put off. Returns those that never
    began: put off for `patience` seconds in vain, or one that they need did not end well. `ended` is told the exit code,
    negative for a signal, and what was seen of the job's memory. `num_devices`: GPUs, of which each job gets one.

    Errors: Interrupted after Ctrl-C or SIGTERM, Preempted after SIGUSR1, when every process was stopped and has saved.
    """
    waiting, running = deque(jobs), dict[subprocess.Popen[bytes], tuple[Job, dict[str, str], MemoryWatch]]()
    places = environments_for(at_once, num_devices=num_devices)  # those that are free
    lacking = {job.label for job in jobs}  # has not ended well: what needs it does not begin
    progressed = looked = time.monotonic()
    with Signals() as signals:
        try:
            while waiting or running:
                if signals.met:
                    kind = Preempted if signals.preempted else Interrupted
                    raise kind("stopped; what was trained is saved. The same command goes on")
                for process in [process for process in running if process.poll() is not None]:
                    job, place, watch = running.pop(process)
                    places.append(place)
                    lacking -= {job.label} if process.returncode == 0 else set()
                    ended(job, process.returncode, watch)
                    progressed = time.monotonic()
                ready = [job for job in waiting if lacking.isdisjoint(job.needs)]
                while places and (free := next((job for job in ready if not is_locked(job.folder)), None)) is not None:
                    ready.remove(free)
                    waiting.remove(free)
                    place = places.pop(0)
                    watch = MemoryWatch()
                    running[_start(free, place)] = free, place, watch
                    began(free)
                    looked = -_LOOK  # at once: all are to know that they have company
                if time.monotonic() - looked > _LOOK:
                    _look(running)
                    looked = time.monotonic()
                if waiting and not running:
                    if not ready:
                        break
                    waits(ready[0])
                    if time.monotonic() - progressed > patience:
                        break
                time.sleep(_POLL)
        finally:
            _stop(running)
    return list(waiting)


def why_ended(job: Job, code: int, watch: MemoryWatch) -> str:
    """How a job came to its end, in its own words, or in those of what killed it; '' where it was stopped."""
    line = last_line(job.log)
    return why(code, line=line, peak_mib=watch.peak, oom_kills=watch.kills(), has_company=watch.has_company)


def _start(job: Job, place: Mapping[str, str]) -> subprocess.Popen[bytes]:
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        log.write(f"$ {' '.join(job.command)}\n".encode())
        log.flush()
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=os.environ | place
        )


def _look(running: Mapping[subprocess.Popen[bytes], tuple[Job, Any, MemoryWatch]]) -> None:
    for process, (_, _, watch) in running.items():
        watch.look(process.pid, has_company=len(running) > 1)


def _stop(running: Mapping[subprocess.Popen[bytes], Any]) -> None:
    """Have every process save and end. Ctrl-C in a terminal reached them too, and does no harm twice."""
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
