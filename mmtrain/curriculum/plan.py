"""The plan: the exact global batches of the next window, a pure function of seed, state and decision (G1-G7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.allocation import Exhausted, allocate
from mmtrain.curriculum.decision import Decision, PoolRule, WeightRule, Weights
from mmtrain.curriculum.grouping import group_by_length
from mmtrain.curriculum.permutation import derive_key
from mmtrain.curriculum.pool import Bits, Pool
from mmtrain.curriculum.streams import Integers, StreamSpec
from mmtrain.curriculum.turn import Span, Turn, draw
from mmtrain.errors import CheckpointError

StreamNumbers = npt.NDArray[np.int16]
Spans = Sequence[tuple[str, Span]]  # with their streams, stream by stream


@dataclass(frozen=True, eq=False)
class PlanState:
    """Where each of the K streams stands: its pass with the place in it, and its carry in 2^-48 of a sample."""

    turns: tuple[Turn, ...]
    carries: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """S global batches of B samples: `stream` [S, B] stream numbers, `position` [S, B] in the stream's own list.

    `pass_number` [S, B]: the pass of its stream that a sample belongs to, from 0; no (stream, position, pass) comes twice.
    `counts` [S, K]: samples of each stream in each batch; `shares` [K]: what was asked for, mean over the window. `ended`:
    the streams cannot fill a further batch, so the stage ends after these steps (there may be none). `weight` [S, B]: what
    each sample's training losses are multiplied with; None = 1 throughout.
    """

    first_step: int
    stream: StreamNumbers
    position: Integers
    pass_number: Integers
    counts: Integers
    shares: tuple[float, ...]
    ended: bool
    weight: Weights | None = None

    @property
    def num_steps(self) -> int:
        """S: optimizer steps in this window."""
        return len(self.stream)

    @property
    def stop_step(self) -> int:
        """The first step after this window."""
        return self.first_step + self.num_steps

    def batch(self, step: int) -> tuple[StreamNumbers, Integers]:
        """Stream numbers and positions [B] of the global batch of `step`, counted from the start of the stage."""
        return self.slice(step, rank=0, world=1)

    def passes(self, step: int) -> Integers:
        """The pass numbers [B] of the global batch of `step`."""
        passes: Integers = self.pass_number[step - self.first_step]
        return passes

    def weights(self, step: int) -> Weights | None:
        """The weights [B] of the global batch of `step`; None = 1 throughout."""
        return None if self.weight is None else self.weight[step - self.first_step]

    def slice(self, step: int, *, rank: int, world: int) -> tuple[StreamNumbers, Integers]:
        """What process `rank` of `world` trains on: every world-th sample, so that slices differ by at most one."""
        if not self.first_step <= step < self.stop_step:
            raise IndexError(f"step {step} is not in the window {self.first_step} .. {self.stop_step - 1}")
        row = step - self.first_step
        return self.stream[row, rank::world], self.position[row, rank::world]


class Planner:
    """Makes window plans for fixed streams. It holds no state: the caller keeps a PlanState and gives it back.

    `group_by_length` puts samples of like length in one batch and orders a batch by length. Memory depends on the window
    and the number of streams, never on their sizes; a pool that is less than its stream costs one bit a sample.
    """

    def __init__(
        self,
        *,
        streams: Sequence[StreamSpec],
        batch_size: int,
        seed: int,
        exhausted: Exhausted = "repeat",
        group_by_length: bool = False,
    ) -> None:
        self.names = tuple(stream.name for stream in streams)
        if batch_size < 1 or not streams or len(set(self.names)) < len(streams):
            raise ValueError(f"a plan needs a batch size of at least 1 and named streams, got {batch_size} and {self.names}")
        self.streams, self.batch_size, self.seed = tuple(streams), batch_size, seed
        self.exhausted: Exhausted = exhausted
        self.group_by_length = group_by_length
        self._keys = [derive_key(seed, "stream", name) for name in self.names]

    def start(self) -> PlanState:
        """The state before the first window."""
        return PlanState(turns=(Turn(),) * len(self.streams), carries=(0,) * len(self.streams))

    def plan(self, state: PlanState, decision: Decision, *, first_step: int, num_steps: int) -> tuple[WindowPlan, PlanState]:
        """The window that starts at `first_step`, and the state after it. Asked again, it answers the same."""
        choose = cache(decision.pool)
        allocation = allocate(
            decision,
            self.names,
            steps=range(first_step, first_step + num_steps),
            batch_size=self.batch_size,
            carries=state.carries,
            left=None if self.exhausted == "repeat" else [self._left(state, k, choose) for k in range(len(self.names))],
            exhausted=self.exhausted,
        )
        totals = allocation.counts.sum(axis=0).tolist()
        drawn = [
            draw(turn, count, size=stream.size, key=key, choose=partial(choose, stream.name))
            for turn, count, stream, key in zip(state.turns, totals, self.streams, self._keys, strict=True)
        ]
        spans = [(name, span) for name, (spans, _) in zip(self.names, drawn, strict=True) for span in spans]
        stream, position, passes, weight = self._fill(spans, allocation.counts, first_step, decision.weight)
        counts, shares, ended = allocation.counts, allocation.shares, allocation.ended
        for array in (stream, position, passes, counts, weight):
            if array is not None:
                array.setflags(write=False)
        plan = WindowPlan(first_step, stream, position, passes, counts, shares, ended, weight)
        return plan, PlanState(tuple(turn for _, turn in drawn), allocation.carries)

    def _left(self, state: PlanState, k: int, choose: PoolRule) -> int:
        """Samples that stream k has yet to give in its first pass."""
        turn, stream = state.turns[k], self.streams[k]
        if turn.number:
            return 0
        pool = turn.pool if turn.offset else choose(stream.name, 0).pool
        return (stream.size if pool is None else pool.size) - turn.offset

    def _fill(
        self, spans: Spans, counts: Integers, first_step: int, weigh: WeightRule
    ) -> tuple[StreamNumbers, Integers, Integers, Weights | None]:
        """Stream numbers, positions, pass numbers and weights, [S, B] each, of batches with these counts [S, K]."""
        shape = (len(counts), self.batch_size)
        numbers = np.tile(np.arange(len(self.streams), dtype=np.int16), len(counts))
        stream = np.repeat(numbers, counts.ravel())  # [S * B], batch by batch
        slots = np.argsort(stream, kind="stable")  # stream by stream, in order of time
        positions = np.concatenate([np.zeros(0, np.int64), *(span.positions for _, span in spans)])
        passes = np.concatenate([np.zeros(0, np.int64), *(span.passes for _, span in spans)])
        order = None
        if self.group_by_length:  # within a pass, so that a slot keeps its pass number
            owner = stream[slots]
            segments = np.zeros(stream.size, np.int64)
            np.cumsum((np.diff(owner) != 0) | (np.diff(passes) != 0), out=segments[1:])
            lengths = self._lengths(positions, owner)
            taken = group_by_length(positions, lengths, segments, first_step + slots // self.batch_size, seed=self.seed)
            positions = positions[taken]
            length = np.empty(stream.size, np.int64)
            length[slots] = lengths[taken]
            order = np.argsort(length.reshape(shape), axis=1, kind="stable")

        def laid_out(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
            """Values that lie stream by stream [S * B], batch by batch [S, B]."""
            table = np.empty_like(values)
            table[slots] = values
            table = table.reshape(shape)
            return table if order is None else np.take_along_axis(table, order, 1)

        weight = self._weights(spans, positions, weigh)
        weights = None if weight is None else laid_out(weight)
        return laid_out(stream[slots]), laid_out(positions), laid_out(passes), weights

    def _weights(self, spans: Spans, positions: Integers, weigh: WeightRule) -> Weights | None:
        """Weights of samples that lie stream by stream, [S * B]; grouping has left each in its pass. None = 1 throughout."""
        weights, is_weighed, end = np.ones(len(positions), np.float32), False, 0
        for name, span in spans:
            begin, end = end, end + len(span.positions)
            found = weigh(name, span._replace(positions=positions[begin:end]))
            if found is not None:
                weights[begin:end], is_weighed = found, True
        return weights if is_weighed else None

    def _lengths(self, drawn: Integers, owner: StreamNumbers) -> Integers:
        ends = np.searchsorted(owner, np.arange(len(self.streams) + 1))
        lengths = np.zeros(len(drawn), np.int64)
        for k, stream in enumerate(self.streams):
            if stream.lengths is not None and ends[k] < ends[k + 1]:
                lengths[ends[k] : ends[k + 1]] = stream.lengths(drawn[ends[k] : ends[k + 1]])
        return lengths

    def state_dict(self, state: PlanState) -> dict[str, Any]:
        """The state by stream name, a few integers each, JSON-able; the pools are in `arrays`."""
        return {
            stream.name: {"size": stream.size, "pass": turn.number, "position": turn.offset, "carry": carry}
            for stream, turn, carry in zip(self.streams, state.turns, state.carries, strict=True)
        }

    def arrays(self, state: PlanState) -> dict[str, Bits]:
        """`pool/<stream>`: the bits of its pool; a stream that is whole has none."""
        turns = zip(self.names, state.turns, strict=True)
        return {f"pool/{name}": turn.pool.bits for name, turn in turns if turn.pool is not None}

    def load_state(self, saved: Mapping[str, Mapping[str, int]], arrays: Mapping[str, npt.NDArray[Any]]) -> PlanState:
        """The state that was saved. Errors: CheckpointError where the streams are not those it was made for."""
        if set(saved) != set(self.names):
            raise CheckpointError(
                f"cannot resume: the checkpoint's streams are {', '.join(saved)}; the config's are {', '.join(self.names)}"
            )
        for stream in self.streams:
            if saved[stream.name]["size"] != stream.size:
                raise CheckpointError(
                    f"cannot resume: stream '{stream.name}' had {saved[stream.name]['size']} samples, now has {stream.size}"
                )
        bits = [arrays.get(f"pool/{name}") for name in self.names]
        rows = [(saved[name], None if own is None else Pool(own)) for name, own in zip(self.names, bits, strict=True)]
        return PlanState(
            turns=tuple(Turn(row["pass"], row["position"], pool) for row, pool in rows),
            carries=tuple(row["carry"] for row, _ in rows),
        )
