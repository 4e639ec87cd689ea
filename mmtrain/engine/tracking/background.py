"""Calls into a library that may fail or never answer, made in a thread that nobody has to wait for."""

from collections.abc import Callable
from queue import Full, Queue
from threading import Event, Thread
from typing import Any

from rich.console import Console

Action = Callable[[], Any]


class Background:
    """Runs actions in their order. After the first failure, which is printed once, it does nothing any more.

    `patience`: seconds that `close` waits for what is pending; `capacity`: actions that may be pending.
    """

    def __init__(self, name: str, console: Console, *, patience: float = 60.0, capacity: int = 10_000) -> None:
        self._name, self._console, self._patience = name, console, patience
        self._actions: Queue[Action | None] = Queue(capacity)
        self._failed = Event()
        self._thread = Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, action: Action | None) -> None:
        """Leave `action` to the thread; None ends it."""
        if not self._failed.is_set():
            try:
                self._actions.put_nowait(action)
            except Full:
                self._give_up(f"it does not keep up: {self._actions.maxsize} records wait")

    def close(self) -> None:
        """Wait for what is pending, but not for ever."""
        if self._failed.is_set():
            return
        self.do(None)
        self._thread.join(self._patience)
        if self._thread.is_alive():
            self._give_up(f"no answer within {self._patience:g} seconds")

    def _work(self) -> None:
        while (action := self._actions.get()) is not None and not self._failed.is_set():
            try:
                action()
            except Exception as error:  # whatever a library raises, training goes on
                self._give_up(f"{type(error).__name__}: {error}")

    def _give_up(self, reason: str) -> None:
        if not self._failed.is_set():
            self._failed.set()
            self._console.print(
                f"{self._name} failed and is left out from here on: {reason}", markup=False, highlight=False, soft_wrap=True
            )
