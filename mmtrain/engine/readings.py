"""Every reading of the test split of a run, written down before it is made: test_reads.jsonl."""

import getpass
import os
import shlex
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from mmtrain.engine.environment import ask_git
from mmtrain.engine.jsonl import append, read_jsonl
from mmtrain.engine.run_folder import RunFolder


def note_reading(run: RunFolder, *, checkpoint: str, weights: str) -> int:
    """Append a line, and how many there are now: one that is cut off afterwards has been a reading too."""
    commit = ask_git(Path(__file__).resolve().parent, "rev-parse", "HEAD")
    record = {
        "time": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "checkpoint": checkpoint,
        "weights": weights,
        "commit": commit and commit.strip(),
        "user": _user(),
    }
    append(run.test_reads, record)
    return len(readings(run))


def readings(run: RunFolder) -> list[dict[str, Any]]:
    """The readings of a run's test split so far."""
    return list(read_jsonl(run.test_reads)) if run.test_reads.is_file() else []


def times(count: int) -> str:
    """How often, in words of a line."""
    return f"test read {count} time{'s' if count != 1 else ''}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user without a name, as in a container
        return str(os.getuid()) if hasattr(os, "getuid") else ""
