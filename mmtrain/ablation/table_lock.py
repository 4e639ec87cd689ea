"""The lock of a matrix, for those who wait until a table that an array task writes is whole."""

from pathlib import Path

from rich.console import Console

from mmtrain.engine.run_lock import RunLock, is_locked

# that a table behind a run of an array may take, whose machine it holds; the last one is a job of its own
TABLE_SECONDS = 180.0


def patient_lock(folder: Path, console: Console) -> RunLock:
    """Waits for as long as such a table may take, and says so."""
    if is_locked(folder):
        words = f"another process is at work in {folder}; waiting for it, {TABLE_SECONDS:.0f} seconds at most"
        console.print(words, markup=False, highlight=False, soft_wrap=True)
    return RunLock(folder, patience=TABLE_SECONDS)
