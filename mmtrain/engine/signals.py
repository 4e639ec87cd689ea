"""Signals that ask a process to end, noted instead of obeyed; a second one does what it did before."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


class Signals:
    """While active, `met` says whether one came: Ctrl-C, SIGTERM, or a closed terminal."""

    def __init__(self) -> None:
        self.met = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        # elsewhere (a notebook's worker thread) Python allows no handler: signals do there what they did before
        for number in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup asked to survive a closed terminal
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.met = True
        signal.signal(number, self._before[number])
