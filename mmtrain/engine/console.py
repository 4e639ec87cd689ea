"""Where a run prints."""

import sys

from accelerate import Accelerator
from rich.console import Console


def main_console(accelerator: Accelerator) -> Console | None:
    """The console of the first process; the others print nothing."""
    return stdout_console() if accelerator.is_main_process else None


def stdout_console() -> Console:
    """Where the output is no terminal it is 140 columns wide, so that no table in a log file is cut."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 140)
