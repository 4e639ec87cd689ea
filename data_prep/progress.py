"""Progress of a long loop: a bar on a terminal, elsewhere a plain line now and then, at most ten; with rate and rest."""

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

SECONDS_BETWEEN_LINES = 2.0

Item = TypeVar("Item")


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g} a second" if task.speed else "")


def track(items: Iterable[Item], label: str, *, total: int, console: Console) -> Iterator[Item]:
    """Yield the items and show how many of `total` there were, how many a second, and the time that is left."""
    if not console.is_terminal:
        yield from _with_lines(items, label, total, console)
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), _RateColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items, total=total)


def _with_lines(items: Iterable[Item], label: str, total: int, console: Console) -> Iterator[Item]:
    shown, began = 0, time.monotonic()
    since = began
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or (done * 10 // total > shown and now - since > SECONDS_BETWEEN_LINES):
            shown, since = done * 10 // total, now
            rate = done / max(now - began, 1e-9)
            rest = "" if done == total else f", {_clock((total - done) / rate)} left"
            console.print(f"{label}: {done} of {total} ({rate:.3g} a second{rest})", highlight=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
