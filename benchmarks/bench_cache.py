"""What a cache of texts saves: CPU time of an optimizer step whose frozen text encoder runs, over one that reads its rows.

Run `python -m benchmarks.bench_cache`. The encoder has MiniLM's size and random weights; beside it a linear encoder of audio
rows, fusion and heads are trained. A step is read from the store, collated and trained. Runs with and without the cache take
turns, a step each, in another order every round; what is shown is the median over rounds of the ratio of their
`time.process_time` (which other programs do not touch), and its quartiles. Making the cache is measured once, against steps
of the encoder over as many samples.
"""

import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import torch
import yaml

from benchmarks.bench_weighting import write_minilm
from benchmarks.letter_bert import LETTERS
from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.training import build_accelerator

ROUNDS, BATCH, SAMPLES = 15, 32, 480
KINDS = {"transformers": "token states", "sentence": "one vector a text"}


def write_store(folder: Path) -> None:
    """Texts of 10 to 64 tokens (a letter is one), audio of 5 to 40 rows of 64."""
    numbers = np.random.default_rng(0)
    modalities = {"audio": FeatureSpec(dim=64, rows_per_second=10.0, extractor="random")}
    with StoreWriter(folder, name="random", modalities=modalities, tasks={"funny": TaskSchema(kind="binary")}) as writer:
        for number in range(SAMPLES):
            letters = "".join(numbers.choice(list(LETTERS), size=int(numbers.integers(8, 63))))
            writer.add(
                id=f"c{number}",
                split="val" if number % 8 == 0 else "train",
                group=f"g{number}",
                text=" ".join(letters[start : start + 6] for start in range(0, len(letters), 6)),
                features={"audio": numbers.standard_normal((int(numbers.integers(5, 41)), 64))},
                labels={"funny": number % 2},
            )


def build(folder: Path, kind: str, *, cache: bool) -> Run:
    text = {"name": kind, "path": str(folder / "minilm"), "trainable_layers": 0, "max_tokens": 64, "cache": cache}
    values = {
        "name": f"{kind}-{cache}",
        "runs": str(folder / "runs"),
        "cache": str(folder / "cache"),
        "datasets": {"random": {"store": str(folder / "store")}},
        "streams": {"random": {"dataset": "random", "tasks": ["funny"]}},
        "model": {"dim": 128, "text": text, "sequences": {"audio": {"name": "linear"}}},
        "batch": {"size": BATCH, "prefetch": 0},
    }
    file = folder / f"{kind}-{cache}.yaml"
    file.write_text(yaml.safe_dump(values))
    experiment = load_experiment(file)
    return build_run(experiment, build_accelerator(experiment), None)


def measure(runs: dict[str, Run]) -> dict[str, list[float]]:
    """CPU seconds of a step of each run in each round, the same batches for all."""
    steps = {name: run.loader.steps(run.curriculum.next_window(0, ROUNDS + 1), first=0) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    for number in range(ROUNDS + 1):
        random.Random(number).shuffle(order)  # noqa: S311
        for name in order:
            runs[name].model.train()
            taken = cpu_seconds(lambda name=name: train_step(runs[name], next(steps[name])))
            if number:  # the first warms up
                seconds[name].append(taken)
    return seconds


def cpu_seconds(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def main() -> None:
    torch.set_num_threads(1)
    print(f"{platform.machine()}, torch {torch.__version__}, 1 thread; medians over {ROUNDS} rounds (and quartiles)\n")
    print("| `model.text` | what is kept | a step is so many times faster | to make it takes |")
    print("| --- | --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place)
        write_minilm(folder / "minilm")
        write_store(folder / "store")
        build(folder, "transformers", cache=False).close()  # loads what is loaded once
        for kind, kept in KINDS.items():
            plain = cpu_seconds(lambda kind=kind: build(folder, kind, cache=False).close())
            making = cpu_seconds(lambda kind=kind: build(folder, kind, cache=True).close()) - plain
            runs = {str(cache): stack.enter_context(closing(build(folder, kind, cache=cache))) for cache in (False, True)}
            seconds = measure(runs)
            low, median, high = statistics.quantiles([a / b for a, b in zip(*seconds.values(), strict=True)], n=4)
            epoch = statistics.median(seconds["False"]) * SAMPLES / BATCH
            print(f"| `{kind}` | {kept} | {median:.0f} ({low:.0f}, {high:.0f}) | {making / epoch:.1f} epochs without it |")


if __name__ == "__main__":
    main()
