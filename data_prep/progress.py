"""Progress of a long loop: a bar on a terminal, elsewhere a plain line now and then, at most ten."""

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 2.0

Item = TypeVar("Item")


def track(items: Sequence[Item], label: str, *, console: Console) -> Iterator[Item]:
    """Yield the items and show how far it has come."""
    if not console.is_terminal:
        yield from _with_lines(items, label, console)
        return
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield from progress.track(items)


def _with_lines(items: Sequence[Item], label: str, console: Console) -> Iterator[Item]:
    total, shown, since = len(items), 0, time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if done == total or (done * 10 // total > shown and time.monotonic() - since > SECONDS_BETWEEN_LINES):
            shown, since = done * 10 // total, time.monotonic()
            console.print(f"{label}: {done} of {total}", highlight=False, soft_wrap=True)
