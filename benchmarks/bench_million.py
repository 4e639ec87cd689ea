"""The planner at 512 processes for a million steps of 4,096 samples, from five streams of 1e6 to 1e9: guarantees and cost.

Run `python -m benchmarks.bench_million`. The shares are those of dynamic difficulty sampling over synthetic losses, anew
in every window. How many samples each stream gives is planned for every one of the million steps, and checked: each batch
is full, and no stream is ever further than (K - 1) / 2 samples from what its shares sum up to. Who they are is planned
for some windows only, from the state that the counts lead to: their slices, who comes twice, loads, and the same plan
from the planner of every process. With `--whole 50000` all samples of the first 50,000 steps are planned and ticked off
one by one (1.5 GB; of a million steps in some ten minutes of a core): within a pass none comes twice, and at its end none
is left out.
"""

import hashlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmtrain.curriculum.allocation import Allocation, allocate
from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.permutation import derive_key, hash_words
from mmtrain.curriculum.plan import Planner, PlanState, WindowPlan
from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.samplers.dynamic_difficulty import DynamicDifficultyConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.simulate import synthetic_curve
from mmtrain.curriculum.streams import Integers, StreamSpec
from mmtrain.curriculum.turn import Turn

WORLD, BATCH, WINDOW, STEPS, SAMPLED = 512, 4_096, 50, 1_000_000, 10
SIZES = (1_000_000, 10_000_000, 100_000_000, 300_000_000, 1_000_000_000)
NAMES = tuple(f"s{size:.0e}" for size in SIZES)
MODEL_STEP = 0.1  # seconds that the plan's cost is a share of


def lengths(positions: Integers) -> Integers:
    """Tokens, 8 to 128 with a long tail: 16 times the exponential of a normal of deviation 0.8."""
    words = hash_words(positions.astype(np.uint64), derive_key("length")) >> np.uint64(11)
    first, second = (words >> np.uint64(26)) / 2**27, (words & np.uint64(2**26 - 1)) / 2**26
    normal = np.sqrt(-2 * np.log(first + 1e-9)) * np.cos(2 * np.pi * second)
    return np.clip(16 * np.exp(0.8 * normal), 8, 128).astype(np.int64)


STREAMS = [
    StreamSpec(name=name, size=size, tasks=("task",), lengths=lengths) for name, size in zip(NAMES, SIZES, strict=True)
]


def planner(*, grouped: bool) -> Planner:
    return Planner(streams=STREAMS, batch_size=BATCH, seed=7, group_by_length=grouped)


class Run:
    """The decisions of a training whose losses fall as `synthetic_curve` says."""

    def __init__(self) -> None:
        setting = Setting(streams=STREAMS, tasks=("task",), seed=7)
        self.sampler = DynamicDifficultyConfig(floor=0.02).build(setting)
        self.curve, self.drawn, self.step = synthetic_curve(setting), [0] * len(NAMES), 0

    def decide(self) -> Decision:
        return Decision(shares=self.sampler.decide(self.step), active=lambda _: NAMES)

    def finish(self, counts: Integers) -> None:
        """`counts` [S, K] of the window that was decided."""
        self.step += len(counts)
        window = counts.sum(axis=0).tolist()
        self.drawn = [before + count for before, count in zip(self.drawn, window, strict=True)]
        losses = {
            name: {"task": self.curve(name, "task", self.step, float(n))} for name, n in zip(NAMES, self.drawn, strict=True)
        }
        self.sampler.observe(WindowReport(self.step, losses, dict(zip(NAMES, window, strict=True))))


@dataclass
class Drift:
    """What each stream was due so far, less what it got."""

    due: npt.NDArray[np.float64]
    worst: float = 0.0

    def add(self, counts: Integers, shares: tuple[float, ...]) -> None:
        """A window of which every batch was asked for with the same shares."""
        assert (counts.sum(axis=1) == BATCH).all(), "a batch is not full"
        assert (counts >= 0).all()
        ahead = self.due + np.cumsum(BATCH * np.array(shares) - counts, axis=0)
        self.due, self.worst = ahead[-1], max(self.worst, float(np.abs(ahead).max()))
        assert self.worst <= (len(NAMES) - 1) / 2 + 1e-3, f"a stream is {self.worst} samples from its share"


def counted(run: Run, drift: Drift) -> Iterator[tuple[PlanState, Decision, Allocation]]:
    """Every window's counts, with the state before it."""
    carries = (0,) * len(NAMES)
    while run.step < STEPS:
        decision = run.decide()
        turns = tuple(Turn(*divmod(n, size)) for n, size in zip(run.drawn, SIZES, strict=True))
        steps = range(run.step, run.step + WINDOW)
        found = allocate(decision, NAMES, steps=steps, batch_size=BATCH, carries=carries, left=None, exhausted="repeat")
        drift.add(found.counts, found.shares)
        yield PlanState(turns, carries), decision, found
        carries = found.carries
        run.finish(found.counts)


def check_window(plan: WindowPlan) -> None:
    """Members: in their stream, once a pass, and each in the slice of one process, for 512 processes and for 500."""
    assert (plan.position >= 0).all()
    assert (plan.position < np.array(SIZES)[plan.stream]).all()
    rows = np.stack([plan.stream.ravel(), plan.pass_number.ravel(), plan.position.ravel()])
    assert len(np.unique(rows, axis=1)[0]) == rows.shape[1], "a sample comes twice in a pass"
    for step in (plan.first_step, plan.stop_step - 1):
        for world in (WORLD, 500):
            slices = [plan.slice(step, rank=rank, world=world) for rank in range(world)]
            sizes = {len(position) for _, position in slices}
            assert max(sizes) - min(sizes) <= 1
            pairs = [(int(s), int(p)) for part in slices for s, p in zip(*part, strict=True)]
            assert sorted(pairs) == sorted(zip(*(column.tolist() for column in plan.batch(step)), strict=True))


def digest(plan: WindowPlan) -> bytes:
    return hashlib.blake2b(plan.stream.tobytes() + plan.position.tobytes() + plan.pass_number.tobytes()).digest()


def loads(plan: WindowPlan) -> npt.NDArray[np.float64]:
    """What the slowest process has to do over the mean of all, and the share of padding: [steps, 2].

    A process's work is its samples times the longest of them.
    """
    found = []
    for step in range(plan.first_step, plan.stop_step):
        table = lengths(plan.batch(step)[1]).reshape(-1, WORLD)  # [samples of a process, processes]
        work = table.max(axis=0) * len(table)
        found.append((work.max() / work.mean(), 1 - table.sum() / work.sum()))
    return np.array(found)


def sampled() -> None:
    run, drift, begun = Run(), Drift(np.zeros(len(NAMES))), time.process_time()
    kept = []
    for number, (state, decision, found) in enumerate(counted(run, drift)):
        if number % (STEPS // WINDOW // SAMPLED) == 0:
            kept.append((run.step, state, decision, found.counts))
    seconds = time.process_time() - begun
    print(
        f"{run.step:,} steps of {BATCH:,}: counts {1e6 * seconds / run.step:.1f} us a step; drift at most {drift.worst:.2f}"
    )
    for name, count, size in zip(NAMES, run.drawn, SIZES, strict=True):
        print(f"  {name}: {count:,} samples, {count / size:.3g} passes")
    print("\n| batches | plan, ms a step | share of a step of 100 ms | slowest process over mean | padding |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for grouped in (False, True):
        times, work = [], []
        for first, state, decision, counts in kept:
            begun = time.process_time()
            plan, _ = planner(grouped=grouped).plan(state, decision, first_step=first, num_steps=WINDOW)
            times.append((time.process_time() - begun) / WINDOW)
            assert (plan.counts == counts).all()
            check_window(plan)
            work.append(loads(plan))
        (ratio, padding), cost = np.concatenate(work).mean(axis=0), float(np.median(times))
        name = "by length" if grouped else "as drawn"
        print(f"| {name} | {1e3 * cost:.2f} | {cost / MODEL_STEP:.1%} | {ratio:.3f} | {padding:.1%} |", flush=True)
    first, state, decision, _ = kept[-1]
    plans = (planner(grouped=True).plan(state, decision, first_step=first, num_steps=5)[0] for _ in range(WORLD))
    assert len({digest(plan) for plan in plans}) == 1, "the processes do not plan alike"
    print(f"\nmembers checked in {len(kept)} windows of {WINDOW} steps; five steps planned alike by {WORLD} planners")


class Ticked:
    """Which pass each sample of a stream was last in, by one byte; complete, since a pass has as many draws as samples."""

    def __init__(self, size: int) -> None:
        self.last, self.drawn, self.size = np.full(size, 255, np.uint8), 0, size

    def add(self, positions: Integers) -> None:
        """The next draws of the stream, in order."""
        while len(positions):
            number, offset = divmod(self.drawn, self.size)
            now = positions[: self.size - offset]
            assert (self.last[now] == (number - 1) % 256).all(), (
                "a sample comes twice in a pass, or was left out of the last"
            )
            self.last[now] = number % 256
            self.drawn, positions = self.drawn + len(now), positions[len(now) :]
            if offset + len(now) == self.size:
                assert (self.last == number % 256).all(), "a pass leaves samples out"


def whole(steps: int) -> None:
    run, drift, plans = Run(), Drift(np.zeros(len(NAMES))), planner(grouped=False)
    state, ticked, planning, begun = plans.start(), [Ticked(size) for size in SIZES], 0.0, time.monotonic()
    while run.step < steps:
        since = time.process_time()
        plan, state = plans.plan(state, run.decide(), first_step=run.step, num_steps=WINDOW)
        planning += time.process_time() - since
        drift.add(plan.counts, plan.shares)
        stream, position = plan.stream.ravel(), plan.position.ravel()
        for k, own in enumerate(ticked):
            own.add(position[stream == k])
        run.finish(plan.counts)
    print(
        f"{run.step:,} steps, {sum(run.drawn):,} samples ticked off: planned in {1e6 * planning / run.step:.0f} us a step, "
        f"all in {time.monotonic() - begun:.0f} s; drift at most {drift.worst:.2f}"
    )
    for name, own in zip(NAMES, ticked, strict=True):
        print(f"  {name}: {own.drawn // own.size} whole passes, {own.drawn % own.size:,} samples of the next")


if __name__ == "__main__":
    whole(int(sys.argv[2])) if "--whole" in sys.argv[1:] else sampled()
