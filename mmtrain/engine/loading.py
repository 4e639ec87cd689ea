"""From planned indices to the micro-batches of this process, read ahead in a thread."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmtrain.curriculum.plan import WindowPlan
from mmtrain.data.batch import Batch
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream


@dataclass(frozen=True)
class StepInput:
    """One optimizer step's share of one process."""

    step: int  # finished steps before this one
    micro_batches: list[Batch]
    counts: dict[str, int]  # task -> labelled samples in the whole global batch, over all processes
    weights: list[Tensor] | None = None  # by micro-batch, [B] float32: what its samples' training losses are multiplied with
    silent: frozenset[str] = frozenset()  # tasks whose labelled samples in the global batch all weigh 0
    is_barred: bool = False  # its update is left out, whatever its gradient turns out to be

    def weight(self, number: int) -> Tensor | None:
        """The weights [B] of one micro-batch; None = 1 throughout."""
        return None if self.weights is None else self.weights[number]


class Loader:
    """Reads and collates what a plan asks for.

    `micro`: most samples of one forward pass; `prefetch`: steps read ahead (0 = none; the result is the same).
    """

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        collate: Collator,
        rank: int = 0,
        world: int = 1,
        micro: int | None = None,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        self.streams, self.collate = streams, collate
        self._mine, self._micro, self._prefetch, self._pin = slice(rank, None, world), micro, prefetch, pin_memory
        self._labelled = [{task: stream.labels(task)[1] for task in stream.tasks} for stream in streams]

    def steps(self, window: WindowPlan, *, first: int, barred: Collection[int] = ()) -> Iterator[StepInput]:
        """The steps of a window from `first` on, those among `barred` marked as such."""
        for inputs in self._steps(window, first):
            yield replace(inputs, is_barred=True) if inputs.step in barred else inputs

    def _steps(self, window: WindowPlan, first: int) -> Iterator[StepInput]:
        if self._prefetch == 0:
            yield from (self._read(window, step) for step in range(first, window.stop_step))
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader") as pool:
            ahead: deque[Future[StepInput]] = deque()
            try:
                for step in range(first, window.stop_step):
                    ahead.append(pool.submit(self._read, window, step))
                    if len(ahead) > self._prefetch:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _read(self, window: WindowPlan, step: int) -> StepInput:
        streams, positions = window.batch(step)
        own = list(zip(streams[self._mine].tolist(), positions[self._mine].tolist(), strict=True))
        num_micro = 1 if self._micro is None else -(-len(own) // self._micro)
        parts = np.array_split(np.arange(len(own)), num_micro)
        batches = [self._collate([own[index] for index in part]) for part in parts]
        weights = window.weights(step)
        own_weights = None if weights is None else [torch.from_numpy(weights[self._mine][part]) for part in parts]
        silent: frozenset[str] = frozenset()
        if weights is not None:
            weighing = self._counts(streams[weights > 0], positions[weights > 0])
            silent = frozenset(task for task, count in weighing.items() if not count)
        return StepInput(step, batches, self._counts(streams, positions), own_weights, silent)

    def _collate(self, items: Sequence[tuple[int, int]]) -> Batch:
        samples = [self.streams[stream].sample(position) for stream, position in items]
        batch = self.collate(samples, [stream for stream, _ in items])
        return batch.pin() if self._pin else batch

    def _counts(self, streams: npt.NDArray[np.integer], positions: npt.NDArray[np.int64]) -> dict[str, int]:
        counts = dict.fromkeys(self.collate.tasks, 0)
        for number, labelled in enumerate(self._labelled):
            chosen = positions[streams == number]
            for task, mask in labelled.items():
                counts[task] += int(mask[chosen].sum())
        return counts
