"""The memory that a process and those below it hold, and whether the kernel killed one of them for it."""

from collections import deque
from pathlib import Path

import psutil

_CGROUPS, _PROC = Path("/sys/fs/cgroup"), Path("/proc")


class MemoryWatch:
    """Begins to count where it is made. `peak`: MiB, the most that `look` has seen."""

    def __init__(self, *, cgroups: Path = _CGROUPS, proc: Path = _PROC) -> None:
        self._cgroups, self._proc = cgroups, proc
        # kills, and whether others ran beside it, at the last two looks
        self._looks = deque([(self._count(), False)] * 2, maxlen=2)
        self.peak = 0.0

    def look(self, pid: int, *, has_company: bool = False) -> float:
        """Resident MiB of a process and its descendants at this moment. `has_company`: others run beside it."""
        kills, own, total = self._count(), 0, 0
        try:
            process = psutil.Process(pid)
            own = process.memory_info().rss
            total = own + sum(child.memory_info().rss for child in process.children(recursive=True))
        except psutil.Error:
            pass  # one that has just ended
        if own:  # one that dies holds none any more, and what it may have died of is not yet past
            self._looks.append((kills, has_company))
        self.peak = max(self.peak, total / 2**20)
        return total / 2**20

    def kills(self) -> int:
        """Processes that the kernel has killed for memory of late, in this one's cgroup or, without one, on this machine.

        Since the last look but one: a process may be killed and live on for a moment, but not until the next look.
        """
        return self._count() - self._looks[0][0]

    @property
    def has_company(self) -> bool:
        """Whether these kills may have been those of others that were looked at beside it."""
        return any(has_company for _, has_company in self._looks)

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
