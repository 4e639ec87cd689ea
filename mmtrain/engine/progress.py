"""Progress for a person: rich bars on a terminal, plain lines where the output goes elsewhere."""

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console

_SHARES_WIDTH = 30  # characters: name, counts, objective, rate and time fill the rest of 100
_NAME_WIDTH = 12
_BETWEEN_NOTES = 0.5  # seconds, as often as a bar is drawn


def shares_note(names: Sequence[str], shares: Sequence[float]) -> str:
    """The streams' shares in few characters, `tweets 31% nyt 28% +3 41%`: the largest, and the rest as number and sum.

    Streams without a share are left out; a run of one stream needs no words.
    """
    drawn = sorted((-share, place) for place, share in enumerate(shares) if share > 0)
    if len(names) < 2 or not drawn:
        return ""
    parts = [f"{names[place][:_NAME_WIDTH]} {-share:.0%}" for share, place in drawn]
    for shown in range(len(parts), 0, -1):
        left = drawn[shown:]
        rest = [f"+{len(left)} {-sum(share for share, _ in left):.0%}"] if left else []
        note = " ".join(parts[:shown] + rest)
        if len(note) <= _SHARES_WIDTH:
            break
    return note


class ProgressBar:
    """A named count up to `total`, with rate, a note (loss, shares) and remaining time. Silent where `console` is None."""

    def __init__(
        self, console: Console | None, name: str, *, total: int, done: int = 0, seconds_between_lines: float = 10.0
    ) -> None:
        self._console, self._name, self._total = console, name, total
        self._start_done, self._started = done, time.monotonic()
        self._between, self._last_line, self._last_note = seconds_between_lines, self._started, -math.inf
        self._bars: Any = None  # rich.progress.Progress
        self._task: Any = None
        if console is not None and console.is_terminal:
            # slow to import
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
                refresh_per_second=2,  # drawing takes milliseconds, which rich by itself spends ten times a second
            )
            self._task = self._bars.add_task(name, total=total, completed=done, note="")

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def count(self, done: int, total: int) -> None:
        """`update` for work whose total is known only once it runs."""
        self._total = total
        if self._bars is not None:
            self._bars.update(self._task, total=total)
        self.update(done)

    def update(self, done: int, note: Callable[[], str] = str) -> None:
        """`done` of `total` are finished. `note` is asked for only when it is shown: to read a loss waits for the device."""
        now = time.monotonic()
        rate = (done - self._start_done) / max(now - self._started, 1e-9)
        if self._bars is not None:
            self._bars.update(self._task, completed=done)
            if now - self._last_note >= _BETWEEN_NOTES:
                self._last_note = now
                self._bars.update(self._task, note=f"{note()}  {rate:.1f}/s".strip())
        elif self._console is not None and now - self._last_line >= self._between:
            self._last_line = now
            text, remaining = f"{note()}  {rate:.1f}/s".strip(), (self._total - done) / max(rate, 1e-9)
            self._console.print(
                f"{self._name} {done}/{self._total}  {text}  {remaining:.0f} s left", highlight=False, soft_wrap=True
            )
