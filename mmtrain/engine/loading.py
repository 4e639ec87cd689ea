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
from mmtrain.data.augment.augmentation import Augmentation
from mmtrain.data.batch import Batch
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Sample, Stream
from mmtrain.engine.cutting import Integers, cut, fewest

StreamNumbers = npt.NDArray[np.integer]


@dataclass(frozen=True)
class StepInput:
    """One optimizer step's share of one process."""

    step: int  # finished steps before this one
    micro_batches: list[Batch]
    counts: dict[str, int]  # task -> labelled samples in the whole global batch, over all processes
    weights: list[Tensor] | None = None  # by micro-batch, [B] float32: what its samples' training losses are multiplied with
    silent: frozenset[str] = frozenset()  # tasks whose labelled samples in the global batch all weigh 0
    slices: Sequence[Sequence[int]] = ()  # by micro-batch, its samples on every process; (): none compares them
    is_barred: bool = False  # its update is left out, whatever its gradient turns out to be
    order: Integers | None = None  # [b] where its samples stand in the global batch; None: every world-th, from the rank on

    def weight(self, number: int) -> Tensor | None:
        """The weights [B] of one micro-batch; None = 1 throughout."""
        return None if self.weights is None else self.weights[number]


class Loader:
    """Reads, augments and collates what a plan asks for. Nothing else reads samples that are augmented.

    `micro`: most samples of one forward pass; `tokens`: most positions of it, padding counted, as `padded_size` counts
    them; `prefetch`: steps read ahead (0 = none; the result is the same); `augment`: None where samples stay as their stores
    have them; `compares`: whether samples are compared over all processes, so that
    each has to know how many the others have, and all pass equally often.
    """

    def __init__(
        self,
        *,
        streams: Sequence[Stream],
        collate: Collator,
        rank: int = 0,
        world: int = 1,
        micro: int | None = None,
        tokens: int | None = None,
        prefetch: int = 2,
        pin_memory: bool = False,
        augment: Augmentation | None = None,
        compares: bool = False,
    ) -> None:
        self.streams, self.collate, self.augment = streams, collate, augment
        assert tokens is None or not compares, "cut by length, processes may differ by a forward pass"
        self._compares, self._tokens = compares and world > 1, tokens
        self._rank, self._world, self._micro, self._prefetch, self._pin = rank, world, micro, prefetch, pin_memory
        self._labelled = [{task: stream.labelled(task) for task in stream.task_names} for stream in streams]

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
        passes = window.passes(step)
        if self._tokens is None:
            parts = self._cut(self._rank, len(streams))
        else:
            parts = self._cut_to(self._tokens, streams, positions, passes)
        batches = [self._collate(streams[part], positions[part], passes[part]) for part in parts]
        weights = window.weights(step)
        own_weights = None if weights is None else [torch.from_numpy(weights[part]) for part in parts]
        silent: frozenset[str] = frozenset()
        if weights is not None:
            weighing = self._counts(streams[weights > 0], positions[weights > 0])
            silent = frozenset(task for task, count in weighing.items() if not count)
        slices = self._slices(len(streams)) if self._compares else ()
        order = None if self._tokens is None else np.concatenate(parts)
        return StepInput(step, batches, self._counts(streams, positions), own_weights, silent, slices, order=order)

    def _slices(self, size: int) -> list[tuple[int, ...]]:
        """By micro-batch, how many samples of a global batch each process passes in it."""
        shares = [self._cut(rank, size) for rank in range(self._world)]
        return [tuple(map(len, together)) for together in zip(*shares, strict=True)]

    def _cut(self, rank: int, size: int) -> list[Integers]:
        """Where the micro-batches of a process stand in a global batch: equally many on all, as far as samples go round."""
        own = np.arange(rank, size, self._world)
        longest = -(-size // self._world)
        num_micro = 1 if self._micro is None else -(-longest // self._micro)
        return np.array_split(own, min(num_micro, len(own)))

    def _cut_to(self, tokens: int, streams: StreamNumbers, positions: Integers, passes: Integers) -> list[Integers]:
        """The same to a budget: as many parts as the process needs that needs the most, of samples of like length.

        Every process measures the whole batch, so that none has to ask the others.
        """
        lengths, most = self._lengths(streams, positions, passes), self._micro or len(streams)
        slices = [np.arange(rank, len(streams), self._world) for rank in range(self._world)]
        count = max(fewest(lengths[places], budget=tokens, most=most) for places in slices)
        own = slices[self._rank]
        return [own[part] for part in cut(lengths[own], budget=tokens, most=most, count=count)]

    def _lengths(self, streams: StreamNumbers, positions: Integers, passes: Integers) -> Integers:
        """[B, M]: tokens of each augmented text, and rows of each other modality, whose number no augmentation changes."""
        collate, columns = self.collate, []
        if collate.tokenizer is not None:
            samples = self._samples(streams, positions, passes, reads_rows=False)
            columns = [collate.tokenizer.lengths([sample.text for sample in samples])]
            if collate.reads_pairs:
                columns.append(collate.tokenizer.lengths([sample.second_text for sample in samples]))
        lengths = np.zeros((len(streams), len(columns) + len(collate.features)), np.int64)
        lengths[:, : len(columns)] = np.transpose(columns) if columns else 0
        for number in np.unique(streams).tolist():
            places = np.flatnonzero(streams == number)
            for column, modality in enumerate(collate.features, start=len(columns)):
                lengths[places, column] = self.streams[number].rows(modality, positions[places])
        return lengths

    def _collate(self, streams: StreamNumbers, positions: Integers, passes: Integers) -> Batch:
        """[b] each."""
        batch = self.collate(self._samples(streams, positions, passes), streams.tolist())
        return batch.pin() if self._pin else batch

    def _samples(
        self, streams: StreamNumbers, positions: Integers, passes: Integers, *, reads_rows: bool = True
    ) -> list[Sample]:
        """[b] each, augmented. The samples of one stream are read together."""
        samples: dict[int, Sample] = {}
        for number in np.unique(streams).tolist():
            places, stream = np.flatnonzero(streams == number), self.streams[number]
            chosen = stream.samples(positions[places]) if reads_rows else stream.without_rows(positions[places])
            for place, sample in zip(places.tolist(), chosen, strict=True):
                samples[place] = self._augmented(sample, number, int(passes[place]))
        return [samples[place] for place in range(len(streams))]

    def _augmented(self, sample: Sample, number: int, pass_number: int) -> Sample:
        if self.augment is None:
            return sample
        return self.augment(sample, stream=self.streams[number].name, pass_number=pass_number)

    def _counts(self, streams: StreamNumbers, positions: Integers) -> dict[str, int]:
        counts = dict.fromkeys(self.collate.task_names, 0)
        for number, labelled in enumerate(self._labelled):
            chosen = positions[streams == number]
            for task, mask in labelled.items():
                counts[task] += int(mask[chosen].sum())
        return counts
