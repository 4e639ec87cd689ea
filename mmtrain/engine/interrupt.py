"""Ctrl-C, SIGTERM, a closed terminal and a launcher that died as a flag read between steps; a second signal ends at once."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

import torch
from accelerate import Accelerator

from mmtrain.engine.launch import launcher_pid

_SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


class Interrupt:
    """While active, the first signal only sets a flag."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._signal: int | None = None
        self._launcher = launcher_pid()
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
        self._signal = number
        signal.signal(number, self._before[number])

    def requested(self) -> bool:
        """Whether any process was signalled or orphaned; every process gets the same answer at the same step."""
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        stops = self._signal is not None or orphaned  # an orphan would train on unseen, and hold its GPU
        if self._accelerator.num_processes == 1:
            return stops
        flag = torch.tensor(float(stops), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item() > 0)
