"""Files of a cache that are being written, under names of their own, and what killed processes leave of them."""

import time
from contextlib import suppress
from pathlib import Path

PART = ".part"  # how the name of such a file ends
_STRAY = 3600  # seconds after which nobody can still be writing it


def remove_strays(folder: Path, *, prefix: str = ".") -> None:
    """Remove those of a folder whose names begin like this and that nobody has written to for an hour."""
    for stray in folder.glob(f"{prefix}*{PART}"):
        with suppress(FileNotFoundError):
            if time.time() - stray.stat().st_mtime > _STRAY:  # a young one is being written
                stray.unlink()
