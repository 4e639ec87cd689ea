"""Signals that ask a process to end, noted instead of obeyed; a second one does what it did before."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
PREEMPTION = signal.SIGUSR1  # what a batch system is told to send before it takes its machine back


class Signals:
    """While active, `met` says whether one came: Ctrl-C, SIGTERM, a closed terminal, or (`preempted` too) SIGUSR1."""

    def __init__(self) -> None:
        self.met = self.preempted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # elsewhere (a notebook's worker thread) Python allows no handler: signals do there what they did before
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asked to survive a closed terminal
                self._before[number] = signal.signal(number, self._note)
        # ignored until here where a launcher must not die of it; and sent again and again by those who wait for the end
        self._before[PREEMPTION] = signal.signal(PREEMPTION, self._note_preemption)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # what would kill is left ignored where it was met: it may come again before this process has ended
        if self.preempted and self._before.get(PREEMPTION) is signal.SIG_DFL:
            self._before[PREEMPTION] = signal.SIG_IGN
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.met = True
        signal.signal(number, self._before[number])

    def _note_preemption(self, _number: int, _frame: FrameType | None) -> None:
        self.met = self.preempted = True
