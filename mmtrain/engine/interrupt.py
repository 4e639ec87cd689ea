"""Ctrl-C, SIGTERM, SIGUSR1, a closed terminal and a launcher that died as flags read between steps."""

import os
from types import TracebackType
from typing import Self

import torch
from accelerate import Accelerator

from mmtrain.engine.launch import launcher_pid
from mmtrain.engine.signals import Signals


class Interrupt:
    """While active, the first signal only sets a flag. `preempted`: whether SIGUSR1 was among what `requested` told of."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._signals = accelerator, Signals()
        self.preempted = False
        self._launcher = launcher_pid()

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._signals.__exit__(kind, error, trace)

    def requested(self) -> bool:
        """Whether any process was signalled or orphaned; every process gets the same answer at the same step."""
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        # an orphan would train on unseen, and hold its GPU
        flags = [float(self._signals.met or orphaned), float(self._signals.preempted)]
        if self._accelerator.num_processes > 1:
            shared = torch.tensor(flags, device=self._accelerator.device)
            flags = self._accelerator.reduce(shared, reduction="sum").tolist()
        self.preempted = flags[1] > 0
        return flags[0] > 0
