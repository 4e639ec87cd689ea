"""What planning costs: time per batch of 32 over five streams, and memory for small and huge streams.

Run `python benchmarks/bench_plan.py`. Wanted: at most 100 microseconds per batch, the same memory for 1e3 and 1e9. With a
pacing over five streams of ten million samples: a pass that begins costs a look at each of them, the batches in between
at most 2 microseconds more a sample; 4 bytes (its difficulty) and little over a bit a sample of memory.
"""

import statistics
import time
import tracemalloc

import numpy as np

from mmtrain.curriculum.config import CurriculumConfig
from mmtrain.curriculum.decision import Decision
from mmtrain.curriculum.plan import Planner
from mmtrain.curriculum.reports import WindowReport
from mmtrain.curriculum.samplers import SAMPLERS
from mmtrain.curriculum.samplers.protocol import Sampler
from mmtrain.curriculum.samplers.uniform import UniformConfig
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.streams import Integers, StreamSpec

BATCH, WINDOW, WINDOWS = 32, 50, 40
PACED = 10_000_000
SIZES = (1_000, 4_096, 100_000, 10_000_000, 1_000_000_000)
NAMES = tuple(f"s{k}" for k in range(5))
# what the samplers without defaults must be told
OPTIONS: dict[str, dict[str, object]] = {
    "fixed": {"shares": {name: 1 + k for k, name in enumerate(NAMES)}},
    "scheduled": {
        "unit": "steps",
        "points": [
            {"at": 0, "shares": dict.fromkeys(NAMES, 1)},
            {"at": WINDOW * WINDOWS, "shares": {name: 1 + k for k, name in enumerate(NAMES)}},
        ],
    },
    "doremi": {"reference_losses": {name: {"task": 2.0} for name in NAMES}},
    "validation_driven": {"targets": {name: {"metric": "val/task/f1", "target": 1.0} for name in NAMES}},
}


def lengths(positions: Integers) -> Integers:
    return positions * 2_654_435_761 % 509


def make(sizes: tuple[int, ...], *, grouped: bool) -> tuple[Planner, list[StreamSpec]]:
    streams = [StreamSpec(name=f"s{k}", size=size, lengths=lengths) for k, size in enumerate(sizes)]
    return Planner(streams=streams, batch_size=BATCH, seed=7, group_by_length=grouped), streams


def run(planner: Planner, sampler: Sampler, windows: int = WINDOWS) -> list[float]:
    """Seconds per batch of each window."""
    state, times = planner.start(), []
    for number in range(windows):
        begun = time.perf_counter()
        decision = Decision(shares=sampler.decide(number * WINDOW), active=lambda _: planner.names)
        plan, state = planner.plan(state, decision, first_step=number * WINDOW, num_steps=WINDOW)
        times.append((time.perf_counter() - begun) / WINDOW)
        losses = {name: {"task": 1 + (number * 7 + k) % 5} for k, name in enumerate(planner.names)}
        counts = dict(zip(planner.names, plan.counts.sum(axis=0).tolist(), strict=True))
        shares = dict(zip(planner.names, plan.shares, strict=True))
        sampler.observe(WindowReport(step=plan.stop_step, losses=losses, counts=counts, shares=shares))
    return times


def peak(sizes: tuple[int, ...], *, grouped: bool) -> int:
    """Most bytes held at once."""
    planner, streams = make(sizes, grouped=grouped)
    sampler = UniformConfig().build(Setting(streams=streams))
    tracemalloc.start()
    run(planner, sampler, 4)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


def paced(*, grouped: bool) -> None:
    """Windows in the pools of `competence` at a half, over known difficulties."""
    rng = np.random.default_rng(0)
    values = [rng.random(PACED, dtype=np.float32) for _ in NAMES]
    streams = [
        StreamSpec(name=name, size=PACED, lengths=lengths, difficulty=own) for name, own in zip(NAMES, values, strict=True)
    ]
    config = CurriculumConfig.model_validate(
        {
            "window": WINDOW,
            "group_by_length": grouped,
            "pacing": {"name": "competence", "start": 0.5, "difficulty": {"name": "column", "column": "x"}},
        }
    )
    curriculum = config.build(streams=streams, tasks=("task",), batch_size=BATCH, seed=7)
    tracemalloc.start()
    times = []
    for _ in range(WINDOWS):
        begun = time.perf_counter()
        plan = curriculum.next_window(curriculum.step, WINDOW)
        times.append((time.perf_counter() - begun) / WINDOW)
        curriculum.finish_window(WindowReport(step=plan.stop_step, losses={}, counts={}))
    held, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kind, median = "grouped" if grouped else "plain", 1e6 * statistics.median(times[1:])
    print(
        f"  {kind}: median {median:.1f} microseconds per batch; {times[0] * WINDOW:.2f} s for the window that chooses pools;"
        f" held {held / PACED / len(NAMES) * 8:.2f} bits a sample, at most {most / PACED:.1f} bytes a sample of one stream"
    )


def main() -> None:
    print(f"batch {BATCH}, window {WINDOW} steps, 5 streams; median (and worst) microseconds per batch")
    for sizes in [(size,) * 5 for size in SIZES] + [(1_000, 100_000, 10_000_000, 100_000_000, 1_000_000_000)]:
        for grouped in (False, True):
            cells = []
            for config in SAMPLERS:
                name = config.model_fields["name"].default
                section = config(**OPTIONS.get(name, {}))
                planner, streams = make(sizes, grouped=grouped)
                times = 1e6 * np.array(run(planner, section.build(Setting(streams=streams, tasks=["task"]))))
                cells.append(f"{name} {statistics.median(times):.1f} ({times.max():.0f})")
            shown = f"{sizes[0]:.0e}" if len(set(sizes)) == 1 else "mixed"
            print(f"  {shown:>6} {'grouped' if grouped else 'plain':>7}: {', '.join(cells)}")
    print(f"pools of half of {PACED:.0e} samples in each stream")
    for grouped in (False, True):
        paced(grouped=grouped)
    for grouped in (False, True):
        peaks = {f"{size:.0e}": peak((size,) * 5, grouped=grouped) // 1024 for size in SIZES}
        print(f"peak KiB, {'grouped' if grouped else 'plain'}: {peaks}")


if __name__ == "__main__":
    main()
