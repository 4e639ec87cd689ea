"""What is done where nobody hears: standard streams that were closed before the start, or whose reader went away."""

import os
import sys
from contextlib import suppress


def open_closed_streams() -> None:
    """Open the null device in the place of each stream that is closed, and say so where it is stdout.

    Else the next file that is opened takes its number, and what a library prints stands in a checkpoint.
    """
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        stream = open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115  # as long as the process
        os.set_inheritable(stream.fileno(), True)
        setattr(sys, name, stream)
    if "stdout" in closed:
        _tell("stdout is closed: nothing is printed")


def outlive_reader() -> None:
    """Print to the null device from now on, and say it once on stderr, if that is heard."""
    _silence(sys.stdout.fileno())
    _tell("nobody reads stdout any more: this goes on without printing")


def _tell(words: str) -> None:
    try:
        sys.stderr.write(f"{words}\n")
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr.fileno())


def _silence(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError):
        os.dup2(null, descriptor)
    os.close(null)
