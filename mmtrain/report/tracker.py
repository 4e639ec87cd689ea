"""The report of a run under way, written anew at every evaluation by a process of its own at the lowest priority."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event

from rich.console import Console

from mmtrain.engine.tracking.background import Background

_SECONDS = 300.0  # of one report; a run of 100,000 steps takes a few


class ReportTracker:
    """Training lends it no thread that computes, no memory and no library: what happens to the process is a warning.

    While one report is being written, any number of evaluations ask for one more. `command`: what writes it.
    """

    def __init__(
        self, *, folder: Path, console: Console, command: Sequence[str] | None = None, patience: float = 30.0
    ) -> None:
        self._command = command or (sys.executable, "-m", "mmtrain.cli", "report", str(folder))
        self._asked = Event()
        self._background = Background("The report", console, patience=patience)

    def log(self, scalars: Mapping[str, float], *, step: int) -> None:  # noqa: ARG002 - the process reads the run's files
        if any(name.startswith("val/") for name in scalars):
            self._ask()

    def close(self) -> None:
        self._ask()  # for what was logged behind the last evaluation
        self._background.close()

    def _ask(self) -> None:
        if not self._asked.is_set():
            self._asked.set()
            self._background.do(self._write)

    def _write(self) -> None:
        """Errors: RuntimeError with the last line that the process said."""
        self._asked.clear()
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            self._command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,  # Ctrl-C is for the training alone
        ) as process:
            if hasattr(os, "setpriority"):
                os.setpriority(os.PRIO_PROCESS, process.pid, 19)
            try:
                said, _ = process.communicate(timeout=_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        if process.returncode:
            raise RuntimeError((said.strip().splitlines() or ["it said nothing"])[-1])
