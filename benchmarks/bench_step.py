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
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch

from benchmarks.step_own import BATCH
from benchmarks.step_samples import CLIPS, EVALUATED, SIZES, TASKS, Clip, Size, draw_clips, write_inputs
from benchmarks.step_subjects import GEMM_FLOP, Subject, subjects

TITLES = {"base": "BERT-base", "small": "4 layers of 256"}
PAIRS = {"base": 5, "small": 9}  # `--pairs` changes it


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
