"""Whether several threads, or processes, read more samples a second than the one thread in which a run reads ahead.

Run `python -m benchmarks.bench_loading`. Wanted of two threads, before a run gets more than one: 1.25 times the rate.
Readers take turns at the same steps of 32 random samples. Each thread has a tokenizer of its own, since every call sets what
that cuts. Processes are forked beforehand, and send steps through shared memory as a DataLoader's workers do. Shown are
samples a second of one thread on the clock, medians of the ratio to it in the same round (and quartiles) over the quietest
of up to 36 rounds, and how many cores other programs took at most in these. "tokenizer on one core":
TOKENIZERS_PARALLELISM=false; else the tokenizer shares each batch among all cores by itself, as in a run.
"""

import copy
import multiprocessing
import os
import statistics
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from transformers import AutoTokenizer

from benchmarks.bench_overhead import TASKS, TOKENS, write_small_bert, write_store
from mmtrain.curriculum.plan import WindowPlan
from mmtrain.data.augment import ColorJitterConfig, GaussianNoiseConfig, ResizedCropConfig, WordDropoutConfig
from mmtrain.data.augment.augmentation import Augmentation, Rows
from mmtrain.data.collate import Collator
from mmtrain.data.dataset import Stream
from mmtrain.data.schema import FeatureSpec
from mmtrain.data.store import FeatureStore
from mmtrain.data.tokenize import Tokenizer
from mmtrain.data.writer import StoreWriter
from mmtrain.engine.loading import Loader, StepInput

BATCH, AHEAD, SIDE, ROUNDS, QUIET = 32, 4, 112, 9, 0.1  # cores that other programs may take
Submit = Callable[[int], Future[StepInput]]


class Reading(threading.local):
    """Reads a step of random samples; made anew, with a tokenizer of its own, in each thread that asks it to."""

    def __init__(self, loader: Loader, steps: int) -> None:
        random = np.random.default_rng(0)
        positions = np.stack([random.choice(len(loader.streams[0]), BATCH, replace=False) for _ in range(steps)])
        zeros, counts = np.zeros_like(positions), np.full((steps, 1), BATCH)
        self.plan = WindowPlan(0, zeros.astype(np.int16), positions, zeros, counts, (1.0,), ended=False)
        self.loader = copy.copy(loader)
        self.loader.collate = copy.copy(loader.collate)
        self.loader.collate.tokenizer = copy.deepcopy(loader.collate.tokenizer)

    def read(self, step: int) -> StepInput:
        return self.loader._read(self.plan, step)


_forked: list[Reading] = []  # what processes read that are forked now


def _read_forked(step: int) -> StepInput:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a fork would wait forever for threads that it has not
    return _forked[0].read(step)


def seconds(submit: Submit, steps: int) -> float:
    """On the clock, of all steps in order."""
    begun, ahead = time.perf_counter(), deque[Future[StepInput]]()
    for step in range(steps):
        ahead.append(submit(step))
        if len(ahead) > AHEAD:
            ahead.popleft().result()
    for future in ahead:
        future.result()
    return time.perf_counter() - begun


def others() -> float:
    """CPU seconds that other programs have taken since the machine started."""
    own, whole = psutil.Process(), psutil.cpu_times()
    mine = sum(sum(process.cpu_times()[:2]) for process in (own, *own.children()))
    return float(whole.user + whole.nice + whole.system) - mine


def print_row(title: str, loader: Loader, steps: int) -> None:
    _forked[:] = [reading] = [Reading(loader, steps)]
    found, context = [], multiprocessing.get_context("fork")
    with ProcessPoolExecutor(2, mp_context=context) as processes, ExitStack() as stack:
        processes.submit(_read_forked, 0).result()  # forks before there are threads
        threads = {number: stack.enter_context(ThreadPoolExecutor(number)) for number in (1, 2, 3)}
        readers: dict[str, Submit] = {str(number): partial(pool.submit, reading.read) for number, pool in threads.items()}
        readers["processes"] = partial(processes.submit, _read_forked)
        while len(found) <= 4 * ROUNDS and sum(taken < QUIET for taken, _ in found[1:]) < ROUNDS:  # the first one warms up
            begun, before = time.perf_counter(), others()
            times = {name: seconds(readers[name], steps) for name in (reversed(readers) if len(found) % 2 else readers)}
            found.append((max(0.0, (others() - before) / (time.perf_counter() - begun)), times))
    quietest = sorted(found[1:], key=lambda item: item[0])[:ROUNDS]
    cells = [title, f"{BATCH * steps / statistics.median(times['1'] for _, times in quietest):,.0f}"]
    for name in ("2", "3", "processes"):
        low, median, high = statistics.quantiles([times["1"] / times[name] for _, times in quietest], n=4)
        cells.append(f"{median:.2f} ({low:.2f}, {high:.2f})")
    print(f"| {' | '.join(cells)} | {quietest[-1][0]:.1f} |", flush=True)


def write_pictures(folder: Path) -> None:
    random, pixels = np.random.default_rng(0), {"frames": FeatureSpec.pixels(SIDE, SIDE)}
    with StoreWriter(folder, name="pictures", modalities=pixels, tasks=TASKS) as writer:
        for number in range(200):
            frames = {"frames": random.integers(0, 256, (2, 3, SIDE, SIDE), np.uint8)}
            writer.add(id=f"c{number}", split="train", group=f"g{number}", features=frames, labels={"funny": number % 2})


def build_loader(path: Path, tokenizer: Tokenizer | None = None, **rows: Rows) -> Loader:
    store = FeatureStore(path)
    specs, tasks = store.schema.modalities, store.schema.tasks
    stream = Stream("clips", store, split="train", tasks=list(tasks), modalities=["text"] * bool(tokenizer) + list(specs))
    frames = {name: spec.shape for name, spec in specs.items() if spec.shape is not None}
    dims = {name: spec.dim for name, spec in specs.items() if name not in frames}
    collate = Collator(dims=dims, frames=frames, tasks=tasks, tokenizer=tokenizer)
    return Loader(streams=[stream], collate=collate, augment=Augmentation(rows, seed=0) if rows else None)


def main() -> None:
    torch.set_num_threads(1)
    print(f"{os.cpu_count()} cores; medians over {ROUNDS} rounds (and quartiles)\n")
    print("| what is read | 1 thread, samples/s | 2 threads | 3 threads | 2 processes | cores of others |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as place:
        store, pictures = Path(place, "store"), Path(place, "pictures")
        write_store(store)
        write_pictures(pictures)
        write_small_bert(Path(place, "bert"), layers=1, width=128)
        tokenizer = Tokenizer(AutoTokenizer.from_pretrained(Path(place, "bert")), max_tokens=TOKENS)
        drop, noise = {"drop": WordDropoutConfig().build()}, {"noise": GaussianNoiseConfig().build()}
        jitter = {"crop": ResizedCropConfig().build(), "color": ColorJitterConfig().build()}
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        print_row("texts and audio, tokenizer on one core", build_loader(store, tokenizer), 50)
        os.environ["TOKENIZERS_PARALLELISM"] = "true"
        print_row("texts and audio", build_loader(store, tokenizer), 50)
        print_row("texts and audio, augmented", build_loader(store, tokenizer, text=drop, audio=noise), 50)
        print_row("audio", build_loader(store), 200)
        print_row("pictures, augmented", build_loader(pictures, frames=jitter), 12)


if __name__ == "__main__":
    main()
