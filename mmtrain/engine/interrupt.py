"""Ctrl-C, SIGTERM, a closed terminal and a launcher that died as a flag read between steps; a second signal ends at once."""

import os
from types import TracebackType
from typing import Self

import torch
from accelerate import Accelerator

from mmtrain.engine.launch import launcher_pid
from mmtrain.engine.signals import Signals


class Interrupt:
    """While active, the first signal only sets a flag."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator, self._signals = accelerator, Signals()
        self._launcher = launcher_pid()

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._signals.__exit__(kind, error, trace)

    def requested(self) -> bool:
        """Whether any process was signalled or orphaned; every process gets the same answer at the same step."""
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        stops = self._signals.met or orphaned  # an orphan would train on unseen, and hold its GPU
        if self._accelerator.num_processes == 1:
            return stops
        flag = torch.tensor(float(stops), device=self._accelerator.device)
        return bool(self._accelerator.reduce(flag, reduction="sum").item() > 0)
