"""What reading random batches from a store costs, beside per-clip .npy files, HDF5, a Hugging Face dataset and Arrow.

Run `python -m benchmarks.bench_store` (`--clips 10000` for one size alone; h5py and datasets come with `mmtrain[bench]`).
Wanted: at least 15 times as fast as .npy warm and 4 times cold, 0.8 of Arrow, and memory flat.

All formats hold the same clips: three modalities with rows of 300, 128 and 35 float32, 1 to 6 rows each. A batch is 32
random clips, padded by the function of mmtrain's collator for all, and formats are checked to give the same bits. They take
turns with the same batches, in another order each round; shown is the median over rounds of the ratio to the store's time.
Warm: everything is in the page cache. Cold: the pages of the files that are read are dropped before each round
(posix_fadvise, which needs no root); names and inodes stay cached, which favors .npy. `mapping` and `safe_open` read the
store's own files through numpy.memmap and safetensors. Hugging Face and Arrow read one file, by the quickest way that each
has. Memory: what a new process has grown by behind all clips in random order, in pages of its own and in those of files.
"""

import argparse
import gc
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import psutil

from benchmarks.store_formats import DIMS, FORMATS, Format, Indices, clip, write_arrow, write_hdf5, write_npy, write_store
from mmtrain.data.batch import MaskedSequence
from mmtrain.data.collate import pad_rows

BATCH = 32
ROUNDS, WARM_BATCHES, COLD_BATCHES = 9, 40, 5


def read_batch(opened: Format, indices: Indices) -> dict[str, MaskedSequence]:
    rows = opened.read(indices)
    return {key: pad_rows(rows[key], (dim,), np.dtype(np.float32), 0) for key, dim in DIMS.items()}


def draw(random: np.random.Generator, count: int, batches: int) -> list[Indices]:
    return [random.choice(count, BATCH, replace=False) for _ in range(batches)]


def check_alike(folder: Path, count: int) -> None:
    for indices in draw(np.random.default_rng(0), count, 3):
        expected = {key: [clip(int(number))[key] for number in indices] for key in DIMS}
        for name, kind in FORMATS.items():
            batch = read_batch(kind(folder), indices)
            for key, rows in expected.items():
                values, mask = batch[key]
                joined = np.concatenate(rows)
                assert values[mask].numpy().tobytes() == joined.tobytes(), f"{name} reads {key} wrongly"
                assert not values[~mask].any()


def seconds(opened: Format, batches: Sequence[Indices]) -> float:
    """Of one batch."""
    begun = time.perf_counter()
    for indices in batches:
        read_batch(opened, indices)
    return (time.perf_counter() - begun) / len(batches)


def drop(paths: Collection[Path]) -> None:
    """Leave no page of the files in the page cache, but those that somebody has mapped and looked at."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def warm_times(folder: Path, count: int) -> Iterator[dict[str, float]]:
    random = np.random.default_rng(1)
    opened = {name: kind(folder) for name, kind in FORMATS.items()}
    everything = [np.arange(first, min(first + BATCH, count)) for first in range(0, count, BATCH)]
    for form in opened.values():
        seconds(form, everything)
    for number in range(ROUNDS):
        batches = draw(random, count, WARM_BATCHES)
        yield {name: seconds(opened[name], batches) for name in turn(number)}


def cold_times(folder: Path, count: int) -> Iterator[dict[str, float]]:
    random = np.random.default_rng(2)
    for number in range(ROUNDS):
        batches = draw(random, count, COLD_BATCHES)
        found = {}
        for name in turn(number):
            opened = FORMATS[name](folder)
            drop({path for indices in batches for path in opened.files(indices)})
            found[name] = seconds(opened, batches)
            del opened
            gc.collect()  # what is mapped could not be dropped
        yield found


def turn(number: int) -> list[str]:
    names = list(FORMATS)
    first = number % len(names)
    return names[first:] + names[:first]


def show(count: int, title: str, rounds: Sequence[Mapping[str, float]]) -> None:
    own = statistics.median(times["store"] for times in rounds)
    cells = []
    for name in list(FORMATS)[1:]:
        low, median, high = statistics.quantiles([times[name] / times["store"] for times in rounds], n=4)
        cells.append(f"{median:.1f} ({low:.1f}, {high:.1f})")
    print(f"| {count:,} | {title} | {1e3 * own:.2f} | {' | '.join(cells)} |", flush=True)


def growth(name: str, folder: Path, count: int) -> tuple[float, float]:
    """MiB of the process's own pages, and of files' pages, by which it has grown behind all clips in random order."""
    opened = FORMATS[name](folder)
    order = np.random.default_rng(3).permutation(count)
    seconds(opened, [order[:BATCH]])
    before = resident()
    seconds(opened, [order[first : first + BATCH] for first in range(0, count, BATCH)])
    after = resident()
    return after[0] - before[0], after[1] - before[1]


def resident() -> tuple[float, float]:
    used = psutil.Process().memory_info()
    return (used.rss - used.shared) / 2**20, used.shared / 2**20


def memory_row(folder: Path, count: int) -> str:
    cells = []
    for name in FORMATS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            own, files = pool.apply(growth, (name, folder, count))
        cells.append(f"{own:+.1f}, {files:+.1f}")
    return f"| {count:,} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, nargs="+", default=[10_000, 100_000], help="sizes of the data set")
    parser.add_argument("--folder", type=Path, help="where files are made for a while (default: the temporary folder)")
    arguments = parser.parse_args()
    print(
        f"{platform.machine()}, {os.cpu_count()} cores; ratios to the store: medians over {ROUNDS} rounds (and quartiles)\n"
    )
    print(f"| clips | cache | store, ms a batch | {' | '.join(list(FORMATS)[1:])} |")
    print(f"| ---: | --- | ---: |{' ---: |' * (len(FORMATS) - 1)}", flush=True)
    memory = [f"| clips | {' | '.join(FORMATS)} |", f"| ---: |{' ---: |' * len(FORMATS)}"]
    for count in arguments.clips:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as place:
            folder = Path(place)
            for write in (write_store, write_npy, write_hdf5, write_arrow):
                write(folder, count)
            os.sync()
            check_alike(folder, count)
            show(count, "cold", list(cold_times(folder, count)))
            show(count, "warm", list(warm_times(folder, count)))
            memory.append(memory_row(folder, count))
    print("\nMiB grown by behind all clips: own memory, pages of files\n")
    print("\n".join(memory))


if __name__ == "__main__":
    main()
