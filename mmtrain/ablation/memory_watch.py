"""The memory that a process and those below it hold, and whether the kernel killed one of them for it."""

from pathlib import Path

import psutil

_CGROUPS, _PROC = Path("/sys/fs/cgroup"), Path("/proc")


class MemoryWatch:
    """Begins to count where it is made. `peak`: MiB, the most that `look` has seen."""

    def __init__(self, *, cgroups: Path = _CGROUPS, proc: Path = _PROC) -> None:
        self._cgroups, self._proc = cgroups, proc
        self._kills = self._count()
        self.peak = 0.0

    def look(self, pid: int) -> float:
        """Resident MiB of a process and its descendants at this moment."""
        total = 0
        try:
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                total += one.memory_info().rss
        except psutil.Error:
            pass  # one that has just ended
        self.peak = max(self.peak, total / 2**20)
        return total / 2**20

    def kills(self) -> int:
        """Processes that the kernel has killed for memory since, in this one's cgroup or, without one, on this machine."""
        return self._count() - self._kills

    def _count(self) -> int:
        for file in (*self._own_events(), self._proc / "vmstat"):
            try:
                words = dict(line.split(maxsplit=1) for line in file.read_text(encoding="utf-8").splitlines())
                return int(words["oom_kill"])
            except (OSError, ValueError, KeyError):
                continue
        return 0

    def _own_events(self) -> list[Path]:
        try:
            lines = (self._proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return []
        return [self._cgroups / line.removeprefix("0::/") / "memory.events" for line in lines if line.startswith("0::/")]
