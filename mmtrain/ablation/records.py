"""What an array task leaves of a run, file by file: how far it came, how it ended, and what it took of memory."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from mmtrain.engine.run_folder import write_whole

# of slurmstepd's own words in a task's output
_SAID = re.compile(r"^slurmstepd\S*: error: (?:\*{3} )?(.*?)(?: \*{3})?$", re.MULTILINE)
_MEMORY = re.compile(r"exceeded memory limit|oom.?kill", re.IGNORECASE)
_SIGKILL = -9
STOPPED = (0, 130, -2, -15)  # exit codes of those that somebody stopped, and no fault: Ctrl-C and SIGTERM
_START = "slurm/job.sh: job "  # how the batch script begins to speak of a start
_TAIL = 16_384  # bytes


@dataclass(frozen=True)
class Record:
    """The last start of a run by Slurm. `code`: how it ended, negative for a signal; None: it has not, or nobody saw it end.

    `peak_mib`: the most that its processes held at once, as far as it was looked at. `oom_kills`: processes that the kernel
    killed for memory meanwhile, in its cgroup or, where that cannot be read, on its machine.
    """

    run: str
    job: str
    host: str
    output: str  # of the batch script, where Slurm itself speaks
    began: float  # seconds since 1970
    seen: float
    code: int | None = None
    line: str = ""
    peak_mib: float = 0.0
    oom_kills: int = 0
    preempted: bool = False

    def write(self, folder: Path) -> Self:
        file = _file(folder, self.run)
        file.parent.mkdir(parents=True, exist_ok=True)
        now = replace(self, seen=time.time())
        write_whole(file, json.dumps(asdict(now)))
        return now

    def reason(self) -> str:
        """Why it came to no good end; '' where it was stopped or has not ended."""
        said = said_by_slurm(Path(self.output))
        if self.code is None:
            if _MEMORY.search(said):
                return f"{_killed_for_memory(self.peak_mib)}: {said}"
            return said or f"ended by nobody knows what, last seen on {self.host}"
        return why(self.code, line=self.line, peak_mib=self.peak_mib, oom_kills=self.oom_kills)


def why(code: int, *, line: str, peak_mib: float, oom_kills: int, has_company: bool = False) -> str:
    """Why a process came to no good end, by its exit code and the last line of its log; '' where it was stopped.

    `has_company`: the kernel may have killed others instead that ran beside it.
    """
    if code in STOPPED:
        return ""
    if code == _SIGKILL and oom_kills and has_company:
        return f"maybe {_killed_for_memory(peak_mib)}: something was, and other runs were under way. It ended after: {line}"
    if code == _SIGKILL and oom_kills:
        return _killed_for_memory(peak_mib)
    if code < 0:
        return f"killed by signal {-code} after: {line}"
    return line or f"exit code {code}"


def _killed_for_memory(peak_mib: float) -> str:
    return f"killed for memory{f', at {peak_mib:,.0f} MiB or more' if peak_mib else ''}"


def read_record(folder: Path, run: str) -> Record | None:
    """Of the run with this label, below the matrix's folder; None where Slurm has never started it."""
    file = _file(folder, run)
    if not file.is_file():
        return None
    values: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return Record(**values)


def said_by_slurm(output: Path) -> str:
    """The last thing that Slurm wrote into a task's output of its last start: out of time, canceled, node lost, memory."""
    if not output.is_file():
        return ""
    with output.open("rb") as file:
        file.seek(max(0, output.stat().st_size - _TAIL))
        found = _SAID.findall(file.read().decode(errors="replace").rpartition(_START)[2])
    memory = [words for words in found if _MEMORY.search(words)]
    return str((memory or found or [""])[-1])


def last_line(log: Path) -> str:
    """Of a log, the last line with something in it; '' where there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _file(folder: Path, run: str) -> Path:
    return folder / "slurm" / "runs" / f"{run}.json"
