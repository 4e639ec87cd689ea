"""One training at a time in a run folder: a lock of the operating system, which no death can leave behind."""

import fcntl
import json
import os
import platform
import time
from contextlib import suppress
from datetime import datetime
from errno import EACCES, EAGAIN, ENOLCK, ENOSYS, EOPNOTSUPP, EWOULDBLOCK
from pathlib import Path
from types import TracebackType
from typing import Self

from mmtrain.errors import ConfigError

LOCK = "training.lock"
_LOOK = 0.2  # seconds between two tries
NO_LOCKS = (ENOSYS, ENOLCK, EOPNOTSUPP)  # what a network file system says that is mounted without them


class RunLock:
    """Held from `take` to `release`, or to the end of the process. The file only says who holds it; without the lock on
    it, it is litter and blocks nobody. `patience`: seconds to wait for whoever holds it.
    """

    def __init__(self, folder: Path, *, patience: float = 0.0) -> None:
        self.folder, self._patience, self._descriptor = folder, patience, -1
        self.complaint = ""  # where the file system has no locks, which is no reason not to train
        self._made: list[Path] = []  # folders that were not there before, innermost first

    def take(self) -> Self:
        """Errors: ConfigError naming the process that trains in the folder."""
        end = time.monotonic() + self._patience
        while self._descriptor < 0:
            # again behind a wait: whoever made the folder for a lock takes it away again
            self._made = [path for path in (self.folder, *self.folder.parents) if not path.exists()] or self._made
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(descriptor)
                if error.errno in NO_LOCKS:
                    self._file.unlink(missing_ok=True)
                    self.complaint = f"warning: {self.folder} cannot be locked ({error.strerror}): start no second run there"
                    return self
                if error.errno not in (EACCES, EAGAIN, EWOULDBLOCK):
                    raise OSError(error.errno, error.strerror, str(self._file)) from None
                if time.monotonic() < end:
                    time.sleep(_LOOK)
                    continue
                raise ConfigError(f"run folder {self.folder} is in use: {self._holder()}. Stop that one, or wait") from None
            if self._is_ours(descriptor):
                self._descriptor = descriptor
            else:  # its holder released it, and with that removed it, between our opening and our locking
                os.close(descriptor)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        note = {"pid": os.getpid(), "host": platform.node(), "since": since}
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(note).encode(), 0)
        return self

    def release(self) -> None:
        """Free the folder; where it was made for the lock and nothing came into it, it goes too."""
        if self._descriptor >= 0:
            if self._is_ours(self._descriptor):
                self._file.unlink()
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(OSError):
            for folder in self._made:
                folder.rmdir()
        self._made = []

    def __enter__(self) -> Self:
        return self.take()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    @property
    def _file(self) -> Path:
        return self.folder / LOCK

    def _is_ours(self, descriptor: int) -> bool:
        """Whether the file of that name is still the one that was opened."""
        try:
            found = os.stat(self._file)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(descriptor))

    def _holder(self) -> str:
        try:
            note = json.loads(self._file.read_text(encoding="utf-8"))
            return f"process {int(note['pid'])} on {note['host']} trains there since {note['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process trains there"  # which has only just begun, and said nothing yet


def is_locked(folder: Path) -> bool:
    """Whether somebody trains in a folder at this moment."""
    if not (folder / LOCK).is_file():
        return False
    lock = RunLock(folder)
    try:
        lock.take()
    except ConfigError:
        return True
    lock.release()
    return False
