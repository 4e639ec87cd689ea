"""Where a run prints."""

import sys

from accelerate import Accelerator
from rich.console import Console

from mmtrain.standard_streams import outlive_reader


class LastingConsole(Console):
    """Falls silent where its reader went away (`| head -1`); a plain one ends the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        outlive_reader()


def main_console(accelerator: Accelerator) -> Console | None:
    """The console of the first process; the others print nothing."""
    return lasting_console() if accelerator.is_main_process else None


def lasting_console() -> Console:
    """Of a command that does more than to print."""
    return LastingConsole(file=sys.stdout, width=_width())


def stdout_console() -> Console:
    """Of a command that prints: it ends where nobody reads any more."""
    return Console(file=sys.stdout, width=_width())


def _width() -> int | None:
    """Where the output is no terminal it is 140 columns wide, so that no table in a log file is cut."""
    return None if sys.stdout.isatty() else 140
