"""A training step of HICCAP beside its public code and beside a good hand-written one on Hugging Face: CPU time, memory.

Run `python -m benchmarks.bench_step` (some 25 minutes of one core; `--quick`: the small model alone; `--row peer`: one row).
All train the same model from random weights on the same samples, in float32, with every dropout, on one thread, each in a
process of its own: each has its own peak of memory, and none gets its memory warm from another. They take turns, step by
step. Shown are medians over pairs of the ratio of `time.process_time` (and quartiles), so that threads that read ahead count
and other programs do not. Texts are as long as subtitles of films: median 128 tokens, the longest tenth above 207, at most
500; 121 on average, so that a quarter is real of what is padded to 500. mmtrain reads and logs in its time; what the others
read is in memory, and their texts are tokenized.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
import yaml
from rich.console import Console

from benchmarks.step_peers import RATE, Clip, Peer, Predecessor, Size

SIZES = {"base": Size(dim=768, layers=12, heads=12, hidden=512), "small": Size(dim=256, layers=4, heads=4, hidden=170)}
TITLES = {"base": "BERT-base", "small": "4 layers of 256"}
BATCH = {"base": 8, "small": 16}
MICRO = {"base": 4, "small": 16}  # samples of one of our forward passes
PAIRS = {"base": 5, "small": 9}  # `--pairs` changes it
CLIPS, EVALUATED, LONGEST = 256, 64, 500
LENGTHS = {0.0: 8, 0.25: 52, 0.5: 128, 0.9: 207, 0.99: 260, 1.0: LONGEST}  # by share of the texts that are not longer
LETTERS = "abcdefghijklmnopqrstuvwxyz"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}
TASKS = ("binary", "mature", "gory", "slapstick", "sarcasm")


def draw_clips() -> list[tuple[str, Clip]]:
    """Texts with what they hold; a letter is a token. Video and audio are up to 36 and 63 rows, most of them nearly full."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(CLIPS):
        tokens = int(np.interp(random.random(), list(LENGTHS), list(LENGTHS.values())))
        letters = "".join(random.choice(list(LETTERS), size=tokens - 2))
        words = [letters[start : start + 6] for start in range(0, len(letters), 6)]
        pieces = [letter if not place else f"##{letter}" for word in words for place, letter in enumerate(word)]
        ids = [VOCABULARY[piece] for piece in ("[CLS]", *pieces, "[SEP]")]
        video, audio = (
            random.standard_normal((int(random.integers(longest // 2, longest + 1)), width), dtype=np.float32)
            for longest, width in ((36, 1024), (63, 128))
        )
        labels = [float(label) for label in random.integers(0, 2, len(TASKS))]
        found.append((" ".join(words), Clip(ids, video, audio, labels)))
    return found


def write_inputs(folder: Path) -> None:
    """The store, and for each size a BERT of random weights."""
    from transformers import BertModel, BertTokenizer

    from mmtrain.data.schema import FeatureSpec, TaskSchema
    from mmtrain.data.writer import StoreWriter

    for name, size in SIZES.items():
        BertTokenizer(vocab=VOCABULARY, do_lower_case=True, model_max_length=512).save_pretrained(folder / name)
        BertModel(size.bert()).save_pretrained(folder / name)
    widths = {"video": 1024, "audio": 128}
    modalities = {name: FeatureSpec(dim=dim, rows_per_second=1.0, extractor="random") for name, dim in widths.items()}
    tasks = {task: TaskSchema(kind="binary") for task in TASKS}
    with StoreWriter(folder / "store", name="random", modalities=modalities, tasks=tasks) as writer:
        for number, (text, clip) in enumerate(draw_clips()):
            writer.add(
                id=f"c{number}",
                split="val" if number >= CLIPS - EVALUATED else "train",
                group=f"g{number}",
                text=text,
                features={"video": clip.video, "audio": clip.audio},
                labels=dict(zip(TASKS, clip.labels, strict=True)),
            )


def experiment_values(folder: Path, size: str, tasks: int) -> dict[str, Any]:
    """The model of configs/hiccap with AdamW and clipping; what is not said is as by default."""
    shape = SIZES[size]
    lstm = {"name": "bilstm", "hidden": shape.hidden, "layers": 2, "dropout": 0.2, "layer_dropout": 0.0}
    lstm |= {"output_norm": True, "output_dropout": 0.3}
    mlp = {"name": "mlp", "hidden": [200, 40, 20], "activation": "none", "dropout": 0.3, "batch_norm": True}
    mlp |= {"bare_layers": 1}
    fusion = {"name": "hca", "order": ["video", "text", "audio"], "heads": shape.heads}
    text = {"name": "transformers", "path": str(folder / size), "max_tokens": LONGEST, "projection": False}
    return {
        "name": f"{size}-{tasks}",
        "runs": str(folder / "runs"),
        "datasets": {"random": {"store": str(folder / "store")}},
        "streams": {"random": {"dataset": "random", "tasks": list(TASKS[:tasks])}},
        "tasks": {task: {"head": mlp} for task in TASKS[:tasks]},
        "model": {
            "dim": shape.dim,
            "text": text,
            "sequences": {"audio": lstm, "video": lstm},
            "fusion": fusion | {"dropout": 0.2, "attention_dropout": 0.1},
            "pooling": {"name": "attention"},
        },
        "curriculum": {"window": 1},
        "batch": {"size": BATCH[size], "micro": MICRO[size], "evaluation": 8},
        "training": {
            "epochs": 1,
            "steps_per_epoch": 1000,
            "schedule": {"name": "constant", "warmup": 0},
            "optimizer": {"name": "adamw", "lr": RATE, "text_lr": RATE},
        },
    }


class Ours:
    """mmtrain's own loop: plan, reading, step, window report and logs."""

    def __init__(self, folder: Path, size: str, tasks: int) -> None:
        from mmtrain.build import build_run
        from mmtrain.config import load_experiment
        from mmtrain.engine.interrupt import Interrupt
        from mmtrain.engine.state import RunState
        from mmtrain.training import build_accelerator

        values = experiment_values(folder, size, tasks)
        file = folder / f"{os.getpid()}.yaml"
        values["name"] += f"-{os.getpid()}"
        file.write_text(yaml.safe_dump(values))
        experiment = load_experiment(file)
        console = Console(file=StringIO(), force_terminal=True, width=140)
        self.run, self.state = build_run(experiment, build_accelerator(experiment), console, on_disk=True), RunState()
        self._interrupted = Interrupt(self.run.accelerator).requested

    def next_batch(self) -> list[int]:
        """The numbers of the clips that `train` reads next; planning has no effect until a window is finished."""
        _, positions = self.run.curriculum.next_window(self.state.step, 1).batch(self.state.step)
        return [int(number) for number in self.run.train_streams[0].indices[positions]]

    def train(self, _: Sequence[Clip]) -> None:
        from mmtrain.engine.loop import train_epoch

        train_epoch(self.run, self.state, until=self.state.step + 1, interrupted=self._interrupted)

    def evaluate(self, _: Sequence[Clip], size: int) -> None:
        from mmtrain.evaluation.evaluate import evaluate

        run = self.run
        evaluate(
            run.model,
            run.val_streams,
            objective=run.objective,
            collate=run.loader.collate,
            accelerator=run.accelerator,
            batch_size=size,
        )


class Gemm:
    """What the thread can do: products of matrices of 2048."""

    def __init__(self) -> None:
        self._left, self._right, self._out = torch.randn(2048, 2048), torch.randn(2048, 2048), torch.empty(2048, 2048)

    def train(self, _: Sequence[Clip]) -> None:
        for _number in range(10):
            torch.mm(self._left, self._right, out=self._out)


GEMM_FLOP = 10 * 2 * 2048**3


def build(kind: str, folder: Path, size: str, tasks: int) -> Any:
    makers: Mapping[str, Callable[[], Any]] = {
        "ours": lambda: Ours(folder, size, tasks),
        "peer": lambda: Peer(SIZES[size], tasks),
        "predecessor": lambda: Predecessor(SIZES[size], tasks),
        "gemm": Gemm,
    }
    return makers[kind]()


def serve(connection: Any, kind: str, folder: Path, size: str, tasks: int) -> None:
    """A process of one of them: answers each (method, numbers of clips, ...) with its CPU seconds, or the result."""
    from mmtrain.engine.memory import own_peak

    torch.set_num_threads(1)
    torch.manual_seed(0)
    clips = [clip for _, clip in draw_clips()]
    subject = build(kind, folder, size, tasks)
    torch.set_num_threads(1)
    connection.send("ready")
    while (message := connection.recv()) is not None:
        method, numbers, *others = message
        if method == "peak":
            connection.send(own_peak())
        elif method == "next_batch":
            connection.send(subject.next_batch())
        else:
            chosen = [clips[number] for number in numbers]
            begun = time.process_time()
            getattr(subject, method)(chosen, *others)
            connection.send(time.process_time() - begun)


class Subject:
    """The other end of `serve`."""

    def __init__(self, kind: str, folder: Path, size: str, tasks: int = 1) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=serve, args=(other, kind, folder, size, tasks), daemon=True)
        self._process.start()
        other.close()
        assert self._connection.recv() == "ready"

    def __call__(self, method: str, numbers: Sequence[int] = (), *others: Any) -> Any:
        self._connection.send((method, list(numbers), *others))
        return self._connection.recv()

    def close(self) -> None:
        self._connection.send(None)
        self._process.join()


@contextmanager
def subjects(folder: Path, size: str, *kinds: str) -> Any:
    with ExitStack() as stack:
        found = [Subject(kind, folder, size) for kind in kinds]
        for subject in found:
            stack.callback(subject.close)
        yield found


def flop_of_step(size: Size, clips: Sequence[Clip]) -> float:
    """Of the matrix products for real rows alone: 2 for each pair of numbers, once forward and twice backward."""
    total = 0.0
    for clip in clips:
        text, video, audio = len(clip.ids), len(clip.video), len(clip.audio)
        dim, hidden = size.dim, size.hidden
        total += size.layers * (12 * text * dim**2 + 2 * text**2 * dim)
        for rows, width in ((video, 1024), (audio, 128)):
            total += rows * (2 * 4 * hidden * (width + hidden) + 2 * 4 * hidden * 3 * hidden + 2 * hidden * dim)
        for own, others in ((text, (video, audio)), (audio, (video, text)), (video, (text, audio))):
            total += own * dim**2  # pooling
            total += sum((own + 2 * other) * dim**2 + 2 * own * other * dim for other in others)
    return 2 * 3 * total


def ratio(values: Sequence[float], form: str = "{:.2f}x") -> str:
    if len(values) == 1:
        return form.format(values[0])
    low, median, high = (form.format(number) for number in statistics.quantiles(values, n=4))
    return f"{median} ({low}, {high})"


def step_row(folder: Path, size: str, other: str) -> None:
    """Samples per CPU second, peak memory, and useful FLOP/s of a step with one task, beside one of the others."""
    clips = [clip for _, clip in draw_clips()]
    kinds = (other, "ours", "gemm")
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    useful: list[float] = []
    with subjects(folder, size, *kinds) as found:
        by_kind = dict(zip(kinds, found, strict=True))
        for number in range(PAIRS[size] + 1):
            batch = by_kind["ours"]("next_batch")
            for kind in kinds if number % 2 else kinds[::-1]:
                took = by_kind[kind]("train", batch if number else batch[:2])  # the first warms up
                if number:
                    seconds[kind].append(took)
                print(f"{number} {kind} {took:.2f} s", file=sys.stderr, flush=True)
            if number:
                rate = flop_of_step(SIZES[size], [clips[place] for place in batch]) / seconds["ours"][-1]
                useful.append(100 * rate * seconds["gemm"][-1] / GEMM_FLOP)
        peaks = {kind: by_kind[kind]("peak") / 1e9 for kind in kinds}
    print(f"\n| step, {TITLES[size]}, batch {BATCH[size]} | samples/s | {other} is 1 | peak GB | {other} is 1 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for kind in kinds[:2]:
        rate = BATCH[size] / statistics.median(seconds[kind])
        times = ratio([a / b for a, b in zip(seconds[other], seconds[kind], strict=True)])
        print(f"| {kind} | {rate:.3f} | {times} | {peaks[kind]:.2f} | {peaks[kind] / peaks[other]:.2f}x |")
    gemm = GEMM_FLOP / statistics.median(seconds["gemm"]) / 1e9
    print(f"\nUseful FLOP/s of ours over the GEMM's ({gemm:.0f} GFLOP/s): {ratio(useful, '{:.0f} %')}", flush=True)


def tasks_row(folder: Path, size: str) -> None:
    """Five heads in one step against one head; the predecessor's three ways against its own step with one loss."""
    with ExitStack() as stack:
        ours = [Subject("ours", folder, size, tasks) for tasks in (1, len(TASKS))]
        theirs = [Subject("predecessor", folder, size, tasks) for tasks in (1, len(TASKS))]
        for subject in (*ours, *theirs):
            stack.callback(subject.close)
        shares: dict[str, list[float]] = {name: [] for name in ("ours", "round robin", "five backwards")}
        for number in range(PAIRS[size] + 1):
            batch = ours[0]("next_batch")
            one, five = (subject("train", batch) for subject in (ours if number % 2 else ours[::-1]))
            one, five = (one, five) if number % 2 else (five, one)
            if number:
                shares["ours"].append(one / five)
            if 0 < number <= 5:
                alone = theirs[0]("train", batch)
                shares["round robin"].append(alone / theirs[1]("train_in_turn", batch))
                shares["five backwards"].append(alone / theirs[1]("train_by_backwards", batch))
    print(f"\n| five tasks, {TITLES[size]}, batch {BATCH[size]} | of a step with one |\n| --- | ---: |")
    for name, values in shares.items():
        print(f"| {name if name == 'ours' else f'predecessor, {name}'} | {ratio(values)} |", flush=True)


def evaluation_row(folder: Path, size: str) -> None:
    kinds, numbers = ("predecessor", "peer", "ours"), range(CLIPS - EVALUATED, CLIPS)
    seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
    with subjects(folder, size, *kinds) as found:
        for number in range(6):
            chosen = list(zip(kinds, found, strict=True))
            for kind, subject in chosen if number % 2 else chosen[::-1]:
                took = subject("evaluate", numbers, 8)
                if number:
                    seconds[kind].append(took)
                print(f"{number} {kind} {took:.2f} s", file=sys.stderr, flush=True)
    print(f"\n| evaluation, {TITLES[size]} | samples/s | of the predecessor | of the peer |\n| --- | ---: | ---: | ---: |")
    for kind in kinds:
        first = ratio([a / b for a, b in zip(seconds["predecessor"], seconds[kind], strict=True)])
        second = ratio([a / b for a, b in zip(seconds["peer"], seconds[kind], strict=True)])
        print(f"| {kind} | {len(numbers) / statistics.median(seconds[kind]):.2f} | {first} | {second} |", flush=True)


ROWS: Mapping[str, Callable[[Path, str], None]] = {
    "peer": lambda folder, size: step_row(folder, size, "peer"),
    "predecessor": lambda folder, size: step_row(folder, size, "predecessor"),
    "tasks": tasks_row,
    "evaluation": evaluation_row,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="the small model alone")
    parser.add_argument("--row", choices=list(ROWS), help="one of them; all without it")
    parser.add_argument("--size", choices=list(SIZES), help="one of them")
    parser.add_argument("--pairs", type=int, help="of steps, in place of 5 and 9")
    words = parser.parse_args()
    if words.pairs:
        PAIRS.update(dict.fromkeys(PAIRS, words.pairs))
    sizes = [words.size] if words.size else ["small"] if words.quick else list(SIZES)
    print(
        f"{platform.machine()}, {platform.processor() or 'CPU'}, torch {torch.__version__}, one thread; medians (quartiles)"
    )
    with tempfile.TemporaryDirectory() as place:
        write_inputs(Path(place))
        for size in sizes:
            for name, row in ROWS.items():
                if words.row in (None, name) and (name in ("peer", "predecessor") or size == "small" or words.row):
                    row(Path(place), size)


if __name__ == "__main__":
    main()
