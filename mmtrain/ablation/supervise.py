"""`python -m mmtrain.ablation.supervise TASKS NUMBER`: an array task trains its run, and writes down how that ends."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import FrameType

from mmtrain.ablation.memory_watch import MemoryWatch
from mmtrain.ablation.records import Record, last_line
from mmtrain.ablation.table_lock import TABLE_SECONDS
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.run_lock import is_locked
from mmtrain.standard_streams import open_closed_streams

_LOOK = 0.5  # seconds
_GROWTH = 1.1  # how much more memory is worth writing down before the end
_TABLE_AGE = 300.0  # seconds that the table of a matrix may be old when one of its runs ends
_SIGNALED = 128  # exit codes above are those of signals


@dataclass(frozen=True)
class Task:
    """A run of an array, as its line of tasks.jsonl has it. `submitted`: seconds since 1970; `matrix`: the words that name
    its matrix on the command line.
    """

    run: str
    command: Sequence[str]
    folder: str  # of the run
    log: str
    output: str  # of the batch script
    submitted: float
    matrix: Sequence[str] = ()

    def words(self) -> list[str]:
        """The command, in this interpreter (of a container, say); what it was told to overwrite it goes on with once that
        has happened.
        """
        environment = RunFolder(Path(self.folder)).environment
        begun = environment.is_file() and environment.stat().st_mtime > self.submitted
        return [sys.executable, *("--resume" if word == "--overwrite" and begun else word for word in self.command[1:])]


def write_tasks(file: Path, tasks: Sequence[Task]) -> None:
    """A line of JSON for each task of an array, in order."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{json.dumps(asdict(task))}\n" for task in tasks), encoding="utf-8")


def supervise(task: Task, matrix: Path) -> int:
    """Train to the end, handing on SIGUSR1; gives the exit code, above 128 for a signal.

    SIGTERM is left to the training, which Slurm sends it to as well: whoever writes down how it ends has to outlive it.
    """
    watch, process = MemoryWatch(), _start(task)

    def hand_on(number: int, _frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(number)

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, hand_on)
    now = time.time()
    record = Record(task.run, _job(), platform.node(), task.output, began=now, seen=now).write(matrix)
    while process.poll() is None:
        watch.look(process.pid)
        if watch.peak > _GROWTH * record.peak_mib:
            record = replace(record, peak_mib=round(watch.peak, 1)).write(matrix)
        time.sleep(_LOOK)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # an interpreter that ends puts the default back, which kills
    code = process.returncode
    replace(
        record,
        code=code,
        line=last_line(Path(task.log)),
        peak_mib=round(watch.peak, 1),
        oom_kills=watch.kills(),
        preempted=RunFolder(Path(task.folder)).preempted.is_file(),
    ).write(matrix)
    return code if code >= 0 else _SIGNALED - code


def write_table(task: Task, matrix: Path, *, code: int) -> None:
    """The table of what is finished by now, behind a run that came to its own end, unless it is a few minutes old at most.

    What becomes of it is said in the task's output, and changes nothing of how the run ended. Where another process is
    writing it, it is left to that one, and the last is a job of its own.
    """
    table = matrix / "ablation.md"
    is_new = table.is_file() and time.time() - table.stat().st_mtime < _TABLE_AGE
    has_ended = code < _SIGNALED and not RunFolder(Path(task.folder)).preempted.is_file()
    if task.matrix and has_ended and not is_new and not is_locked(matrix):
        with _deaf():
            try:
                words = [sys.executable, "-m", "mmtrain.cli", "ablate", "table", *task.matrix]
                subprocess.run(words, stdin=subprocess.DEVNULL, timeout=TABLE_SECONDS, check=False)
            except subprocess.TimeoutExpired:
                sys.stderr.write(
                    f"{table}: not written within {TABLE_SECONDS:.0f} seconds; left to the job behind the array\n"
                )


@contextmanager
def _deaf() -> Iterator[None]:
    """No signal ends this process, and each ends what it starts: a process inherits what is ignored, but no handler."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(task: Task) -> subprocess.Popen[bytes]:
    words, log = task.words(), Path(task.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(f"$ {' '.join(words)}\n".encode())
        file.flush()
        # until the training listens: a signal that comes before would kill it, and it is sent again
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)


def _job() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def main(file: str, number: str) -> int:
    """Supervise the task `number` of a file of tasks, and write the table behind it; gives its exit code."""
    open_closed_streams()
    tasks = list(read_jsonl(Path(file)))
    task, matrix = Task(**tasks[int(number)]), Path(file).parents[2]
    code = supervise(task, matrix)
    write_table(task, matrix, code=code)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
