"""What planning costs: time per batch of 32 over five streams, time to build, and memory for small and huge streams.

Run `python -m benchmarks.bench_plan`. Wanted: at most 100 microseconds per batch, 10 ms to build, the same memory for 1e3
and 1e9. With a pacing over five streams of ten million samples: a pass that begins costs a look at each of them, the
batches in between at most 2 microseconds more a sample; 4 bytes (its difficulty) and little over a bit a sample of memory.

The peer is `interleave_datasets` of Hugging Face's datasets (of the extra `bench`), which writes the whole order down
beforehand: five shuffled datasets of one integer column, even probabilities, until all are used up. Its batch is a slice
of 32 rows; ours is planned, not read. Its memory is what a process grows by.
"""

import gc
import statistics
import time
import tracemalloc
from collections.abc import Iterator

import numpy as np
import psutil

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
PEER_SIZES = (1_000, 10_000, 100_000)
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


def built(sizes: tuple[int, ...]) -> float:
    """Seconds until the first batch can be asked for."""
    begun = time.perf_counter()
    planner, streams = make(sizes, grouped=False)
    UniformConfig().build(Setting(streams=streams))
    planner.start()
    return time.perf_counter() - begun


def by_sampler(sizes: tuple[int, ...], *, grouped: bool) -> dict[str, tuple[float, float]]:
    """Sampler -> median and worst microseconds per batch."""
    found = {}
    for config in SAMPLERS:
        name = config.model_fields["name"].default
        section = config(**OPTIONS.get(name, {}))
        planner, streams = make(sizes, grouped=grouped)
        times = 1e6 * np.array(run(planner, section.build(Setting(streams=streams, tasks=["task"]))))
        found[name] = float(np.median(times)), float(times.max())
    return found


def print_samplers() -> None:
    """Every sampler over streams of 1e7 samples, and of five sizes."""
    mixed = (1_000, 100_000, 10_000_000, 100_000_000, 1_000_000_000)
    tables = [by_sampler(sizes, grouped=grouped) for sizes in ((PACED,) * 5, mixed) for grouped in (False, True)]
    print("| sampler | 1e7 each | by length | 1e3 to 1e9 | by length |\n| --- | ---: | ---: | ---: | ---: |")
    for name in tables[0]:
        cells = [f"{table[name][0]:.1f} ({table[name][1]:.0f})" for table in tables]
        print(f"| `{name}` | {' | '.join(cells)} |", flush=True)


def print_sizes() -> None:
    """Time per batch, time to build and memory by size, the peer's where it comes to an end soon."""
    rows = [f"| mmtrain, 5 x {size:,} | {cells} |" for size, cells in ours()]
    rows += [f"| interleave_datasets, 5 x {size:,} | {cells} |" for size, cells in peers()]
    print("| samples | microseconds a batch | by length | build, ms | bytes a sample |\n| --- | ---: | ---: | ---: | ---: |")
    print("\n".join(rows), flush=True)


def ours() -> Iterator[tuple[int, str]]:
    fewest = {grouped: peak((SIZES[0],) * 5, grouped=grouped) for grouped in (False, True)}
    for size in SIZES:
        sizes = (size,) * 5
        plain, grouped = (max(median for median, _ in by_sampler(sizes, grouped=kind).values()) for kind in (False, True))
        grown = max(peak(sizes, grouped=kind) - fewest[kind] for kind in (False, True))
        bytes_each = max(grown, 0) / (5 * size)
        build = 1e3 * statistics.median(built(sizes) for _ in range(20))
        yield size, f"{plain:.0f} | {grouped:.0f} | {build:.2f} | {bytes_each:.2g}"


def peers() -> Iterator[tuple[int, str]]:
    import datasets

    datasets.disable_progress_bars()
    for size in PEER_SIZES:
        gc.collect()
        before, begun = psutil.Process().memory_info().rss, time.perf_counter()
        parts = [datasets.Dataset.from_dict({"x": np.arange(size)}).shuffle(seed=k) for k in range(5)]
        mixed = datasets.interleave_datasets(parts, probabilities=[0.2] * 5, seed=7, stopping_strategy="all_exhausted")
        build = time.perf_counter() - begun
        gc.collect()
        grown = psutil.Process().memory_info().rss - before - 5 * 8 * size  # the column itself
        times = []
        for number in range(min(200, len(mixed) // BATCH)):
            begun = time.perf_counter()
            _ = mixed[number * BATCH : (number + 1) * BATCH]
            times.append(time.perf_counter() - begun)
        median = 1e6 * statistics.median(times)
        yield size, f"{median:.0f} | - | {1e3 * build:.0f} | {max(grown, 0) / (5 * size):.0f}"


def main() -> None:
    print(f"batch {BATCH}, window {WINDOW} steps, 5 streams; of the samplers the slowest one's median\n")
    print_sizes()
    print("\nmedian (and worst window's) microseconds a batch\n")
    print_samplers()
    print(f"\npools of half of {PACED:.0e} samples in each stream")
    for grouped in (False, True):
        paced(grouped=grouped)


if __name__ == "__main__":
    main()
