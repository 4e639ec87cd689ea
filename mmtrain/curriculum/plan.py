"""The plan: the exact global batches of the next window, a pure function of seed, state and decision (G1-G7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.allocation import Exhausted, allocate
from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.grouping import group_by_length
from mmtrain.curriculum.permutation import derive_key, permute
from mmtrain.curriculum.streams import Integers, StreamSpec
from mmtrain.errors import CheckpointError

StreamNumbers = npt.NDArray[np.int16]


@dataclass(frozen=True)
class PlanState:
    """Where each of the K streams stands: its pass, its place in the pass, and its carry in 2^-48 of a sample."""

    passes: tuple[int, ...]
    offsets: tuple[int, ...]
    carries: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """S global batches of B samples: `stream` [S, B] stream numbers, `position` [S, B] in the stream's own list.

    `counts` [S, K]: samples of each stream in each batch; `shares` [K]: what was asked for, mean over the window. `ended`:
    the streams cannot fill a further batch, so the stage ends after these steps (there may be none).
    """

    first_step: int
    stream: StreamNumbers
    position: Integers
    counts: Integers
    shares: tuple[float, ...]
    ended: bool

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

    def slice(self, step: int, *, rank: int, world: int) -> tuple[StreamNumbers, Integers]:
        """What process `rank` of `world` trains on: every world-th sample, so that slices differ by at most one."""
        if not self.first_step <= step < self.stop_step:
            raise IndexError(f"step {step} is not in the window {self.first_step} .. {self.stop_step - 1}")
        row = step - self.first_step
        return self.stream[row, rank::world], self.position[row, rank::world]


class Planner:
    """Makes window plans for fixed streams. It holds no state: the caller keeps a PlanState and gives it back.

    `group_by_length` puts samples of like length in one batch and orders a batch by length. Memory depends on the window
    and the number of streams, never on their sizes.
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
        zeros = (0,) * len(self.streams)
        return PlanState(passes=zeros, offsets=zeros, carries=zeros)

    def plan(self, state: PlanState, decision: Decision, *, first_step: int, num_steps: int) -> tuple[WindowPlan, PlanState]:
        """The window that starts at `first_step`, and the state after it. Asked again, it answers the same."""
        done = zip(self.streams, state.passes, state.offsets, strict=True)
        allocation = allocate(
            decision,
            self.names,
            steps=range(first_step, first_step + num_steps),
            batch_size=self.batch_size,
            carries=state.carries,
            left=[0 if passes else stream.size - offset for stream, passes, offset in done],
            exhausted=self.exhausted,
        )
        stream, position = self._fill(state, allocation.counts, first_step)
        ends = [offset + int(n) for offset, n in zip(state.offsets, allocation.counts.sum(axis=0), strict=True)]
        turns = [divmod(end, stream.size) for end, stream in zip(ends, self.streams, strict=True)]
        after = PlanState(
            passes=tuple(passes + more for passes, (more, _) in zip(state.passes, turns, strict=True)),
            offsets=tuple(offset for _, offset in turns),
            carries=allocation.carries,
        )
        for array in (stream, position, allocation.counts):
            array.setflags(write=False)
        plan = WindowPlan(first_step, stream, position, allocation.counts, allocation.shares, allocation.ended)
        return plan, after

    def _fill(self, state: PlanState, counts: Integers, first_step: int) -> tuple[StreamNumbers, Integers]:
        """Stream numbers and positions, [S, B] each, of batches with these counts [S, K]."""
        shape = (len(counts), self.batch_size)
        numbers = np.tile(np.arange(len(self.streams), dtype=np.int16), len(counts))
        stream = np.repeat(numbers, counts.ravel())  # [S * B], batch by batch
        slots = np.argsort(stream, kind="stable")  # stream by stream, in order of time
        drawn, passes = self._draw(state, counts.sum(axis=0))
        position = np.empty(stream.size, np.int64)
        if not self.group_by_length:
            position[slots] = drawn
            return stream.reshape(shape), position.reshape(shape)
        owner = stream[slots]
        segments = np.zeros(stream.size, np.int64)
        np.cumsum((np.diff(owner) != 0) | (np.diff(passes) != 0), out=segments[1:])
        lengths = self._lengths(drawn, owner)
        taken = group_by_length(drawn, lengths, segments, first_step + slots // self.batch_size, seed=self.seed)
        position[slots] = drawn[taken]
        length = np.empty_like(position)
        length[slots] = lengths[taken]
        order = np.argsort(length.reshape(shape), axis=1, kind="stable")
        return np.take_along_axis(stream.reshape(shape), order, 1), np.take_along_axis(position.reshape(shape), order, 1)

    def _draw(self, state: PlanState, totals: Integers) -> tuple[Integers, Integers]:
        """The next `totals` [K] samples of each stream and the passes that they belong to, [N] each, stream by stream."""
        drawn, passes = [], []
        for k, stream in enumerate(self.streams):
            places = state.offsets[k] + np.arange(totals[k], dtype=np.int64)
            number, place = np.divmod(places, stream.size)
            number += state.passes[k]
            drawn.append(permute(place, number, size=stream.size, key=self._keys[k]))
            passes.append(number)
        return np.concatenate(drawn), np.concatenate(passes)

    def _lengths(self, drawn: Integers, owner: StreamNumbers) -> Integers:
        ends = np.searchsorted(owner, np.arange(len(self.streams) + 1))
        lengths = np.zeros(len(drawn), np.int64)
        for k, stream in enumerate(self.streams):
            if stream.lengths is not None and ends[k] < ends[k + 1]:
                lengths[ends[k] : ends[k + 1]] = stream.lengths(drawn[ends[k] : ends[k + 1]])
        return lengths

    def state_dict(self, state: PlanState) -> dict[str, Any]:
        """The state by stream name, a few integers each, JSON-able."""
        return {
            stream.name: {"size": stream.size, "pass": passes, "position": offset, "carry": carry}
            for stream, passes, offset, carry in zip(self.streams, state.passes, state.offsets, state.carries, strict=True)
        }

    def load_state(self, saved: Mapping[str, Mapping[str, int]]) -> PlanState:
        """The state that `state_dict` wrote. Errors: CheckpointError where the streams are not those it was made for."""
        if set(saved) != set(self.names):
            raise CheckpointError(
                f"cannot resume: the checkpoint's streams are {', '.join(saved)}; the config's are {', '.join(self.names)}"
            )
        for stream in self.streams:
            if saved[stream.name]["size"] != stream.size:
                raise CheckpointError(
                    f"cannot resume: stream '{stream.name}' had {saved[stream.name]['size']} samples, now has {stream.size}"
                )
        rows = [saved[name] for name in self.names]
        return PlanState(
            passes=tuple(row["pass"] for row in rows),
            offsets=tuple(row["position"] for row in rows),
            carries=tuple(row["carry"] for row in rows),
        )
