"""Work on many samples by several threads, with flat memory and a result that does not depend on how many there are."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_AHEAD = 2  # samples a thread has waiting

Item = TypeVar("Item")
Result = TypeVar("Result")


def work_through(items: Iterable[Item], work: Callable[[Item], Result], *, workers: int) -> Iterator[Result]:
    """The result of each item, in the items' order. An exception, or leaving the loop, ends all work that has not begun."""
    pool = ThreadPoolExecutor(workers, "extract", initializer=_one_thread)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= workers * _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """Each worker is one thread of torch's, for sums by several threads are rounded in another order."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
