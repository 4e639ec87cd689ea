"""What mmtrain's loop costs over one written by hand: CPU time of the same steps on the same model, one thread and two.

Run `python -m benchmarks.bench_overhead`. Wanted: at most 5 % on the small BERT and on the tiny one; on the linear layer,
whose step takes little more than a millisecond, the cost shows as it is. Both loops train the same model from the same
weights on the same batches with the same optimizer and clipping, and come to the same weights, which is checked. Each reads
and collates its batches itself, from the store and by the same functions, since every training does: what mmtrain adds
there (a thread that reads ahead, labels counted over the global batch) is overhead of it. mmtrain logs as by default, to a
terminal; the bare loop logs nothing. Windows of steps take turns, the one or the other first. What is shown is the median
over pairs of the ratio of `time.process_time`, which sums all threads and leaves out what other programs take; OpenMP's
threads wait asleep, so that waiting does not count.
"""

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # read when torch is loaded

import numpy as np
import torch
import yaml
from rich.console import Console
from torch import Tensor
from torch.nn import functional
from transformers import BertConfig

from benchmarks.letter_bert import LETTERS, write_bert
from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.curriculum.plan import WindowPlan
from mmtrain.curriculum.reports import WindowReport
from mmtrain.data.batch import Batch
from mmtrain.data.schema import FeatureSpec, TaskSchema
from mmtrain.data.writer import StoreWriter
from mmtrain.engine.interrupt import Interrupt
from mmtrain.engine.loop import train_epoch
from mmtrain.engine.run import Run
from mmtrain.engine.state import RunState
from mmtrain.training import build_accelerator

TOKENS, SAMPLES = 128, 600
TASKS = {
    "funny": TaskSchema(kind="binary"),
    "mood": TaskSchema(kind="multiclass", classes=("low", "even", "high")),
    "pitch": TaskSchema(kind="regression"),
}


@dataclass(frozen=True)
class Case:
    """A model, samples of a batch, steps of a window, and how many pairs of windows are timed."""

    title: str
    model: Mapping[str, Any]
    batch: int
    window: int
    pairs: int


def cases(small: Path, tiny: Path) -> list[Case]:
    text = {"name": "transformers", "path": str(small), "max_tokens": TOKENS}
    tiny_text = text | {"path": str(tiny)}
    audio = {"audio": {"name": "linear"}}
    plain = {"name": "concat", "dropout": 0.0}
    return [
        Case("BERT of 4 layers of 256", {"dim": 64, "text": text, "sequences": audio, "fusion": plain}, 16, 10, 7),
        Case("BERT of 2 layers of 128", {"dim": 64, "text": tiny_text, "sequences": audio, "fusion": plain}, 8, 10, 9),
        Case("BERT of 2 layers of 128", {"dim": 64, "text": tiny_text, "sequences": audio, "fusion": plain}, 2, 25, 21),
        Case("one linear layer of 8", {"dim": 8, "sequences": audio, "fusion": plain}, 16, 50, 40),
    ]


def write_small_bert(folder: Path, *, layers: int = 4, width: int = 256, tokens: int = TOKENS) -> None:
    """Without dropout, so that weights compare."""
    size = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": 4, "intermediate_size": 4 * width}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    write_bert(folder, BertConfig(vocab_size=30522, max_position_embeddings=tokens, **size, **dropout))


def write_store(folder: Path) -> None:
    """Texts of 100 to 128 tokens, audio of 5 to 40 rows of 64, every tenth label missing."""
    random = np.random.default_rng(0)
    modalities = {"audio": FeatureSpec(dim=64, rows_per_second=10.0, extractor="random")}
    with StoreWriter(folder, name="random", modalities=modalities, tasks=TASKS) as writer:
        for number in range(SAMPLES):
            letters = random.choice(list(LETTERS), size=int(random.integers(98, 127)))
            words = " ".join("".join(letters[start : start + 6]) for start in range(0, len(letters), 6))
            labels = {"funny": number % 2, "mood": number % 3, "pitch": float(random.standard_normal())}
            writer.add(
                id=f"c{number}",
                split=("train", "train", "train", "val")[number % 4],
                group=f"g{number}",
                text=words,
                features={"audio": random.standard_normal((int(random.integers(5, 41)), 64))},
                labels={task: label for task, label in labels.items() if random.random() > 0.1},
            )


def build(folder: Path, case: Case, name: str, *, on_disk: bool) -> Run:
    values = {
        "name": name,
        "runs": str(folder / "runs"),
        "datasets": {"random": {"store": str(folder / "store")}},
        "streams": {"random": {"dataset": "random", "tasks": list(TASKS)}},
        "tasks": {"pitch": {"loss": {"name": "mse", "standardize": False}}},
        "model": dict(case.model),
        "curriculum": {"window": case.window},
        "batch": {"size": case.batch},
        "training": {"epochs": 1, "steps_per_epoch": case.window * 1000, "schedule": {"name": "constant", "warmup": 0}},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values))
    experiment = load_experiment(file)
    console = Console(file=StringIO(), force_terminal=True, width=140) if on_disk else None
    return build_run(experiment, build_accelerator(experiment), console, on_disk=on_disk)


class Ours:
    """mmtrain's own loop."""

    def __init__(self, run: Run) -> None:
        self.run, self.state = run, RunState()
        self._interrupted = Interrupt(run.accelerator).requested

    def train(self, plan: WindowPlan) -> None:
        train_epoch(self.run, self.state, until=plan.stop_step, interrupted=self._interrupted)


class Bare:
    """What one writes by hand for the same model and data; planning is not its work."""

    def __init__(self, run: Run) -> None:
        self.model = run.accelerator.unwrap_model(run.model)
        self.optimizer: Any = getattr(run.optimizer, "optimizer", run.optimizer)
        self.streams, self.collate = run.loader.streams, run.loader.collate
        self.model.train()

    def train(self, plan: WindowPlan) -> None:
        for step in range(plan.first_step, plan.stop_step):
            batch = self.read(*plan.batch(step))
            self.optimizer.zero_grad(set_to_none=True)
            outputs = self.model(batch.inputs, batch.labelled)
            loss = sum(mean_loss(task, outputs.logits[task], batch) for task in TASKS)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()

    def read(self, streams: Any, positions: Any) -> Batch:
        samples = [self.streams[stream].sample(int(position)) for stream, position in zip(streams, positions, strict=True)]
        return self.collate(samples, streams.tolist())


def mean_loss(task: str, logits: Tensor, batch: Batch) -> Tensor:
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "binary": functional.binary_cross_entropy_with_logits,
        "multiclass": functional.cross_entropy,
        "regression": functional.mse_loss,
    }
    labelled = batch.labelled[task]
    return losses[TASKS[task].kind](logits[labelled], batch.targets[task][labelled])


def measure(ours: Ours, bare: Bare, plans: Run, pairs: int) -> tuple[list[float], list[float]]:
    """CPU seconds a step of either loop in each pair of windows."""
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for number in range(pairs + 1):
        start, stop = plans.settings.window_of(ours.state.step)
        plan = plans.curriculum.next_window(start, stop - start)
        loops = [("ours", ours.train), ("bare", bare.train)]
        for name, train in loops if number % 2 else loops[::-1]:
            begun = time.process_time()
            train(plan)
            if number:  # the first pair warms up
                seconds[name].append((time.process_time() - begun) / (stop - start))
        plans.curriculum.finish_window(WindowReport(stop, losses={}, counts={}))
        if number == 0:
            check_alike(ours, bare)
    return seconds["ours"], seconds["bare"]


def check_alike(ours: Ours, bare: Bare) -> None:
    """Both do the same work."""
    model = ours.run.accelerator.unwrap_model(ours.run.model)
    for (name, own), other in zip(model.named_parameters(), bare.model.parameters(), strict=True):
        torch.testing.assert_close(own, other, atol=2e-4, rtol=1e-3, msg=f"the loops disagree on {name}")


def main() -> None:
    print(f"{platform.machine()}, torch {torch.__version__}; medians over pairs of windows (and quartiles)\n")
    print("| model | bare loop, CPU ms a step | mmtrain, ms more | overhead |")
    print("| --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_small_bert(folder / "small", layers=4, width=256)
        write_small_bert(folder / "tiny", layers=2, width=128)
        write_store(folder / "store")
        for case in cases(folder / "small", folder / "tiny"):
            for threads in (1, 2):
                torch.set_num_threads(threads)
                name = f"threads-{threads}-batch-{case.batch}-window-{case.window}"
                with (
                    closing(build(folder, case, name, on_disk=True)) as own,
                    closing(build(folder, case, f"{name}-bare", on_disk=False)) as other,
                ):
                    torch.set_num_threads(threads)
                    ours, bare = measure(Ours(own), Bare(other), other, case.pairs)
                ratios = [100 * (a / b - 1) for a, b in zip(ours, bare, strict=True)]
                low, median, high = statistics.quantiles(ratios, n=4)
                extra = 1e3 * statistics.median(a - b for a, b in zip(ours, bare, strict=True))
                name = f"{case.title}, batch {case.batch}, {threads} thread{'s' * (threads > 1)}"
                bare_ms = 1e3 * statistics.median(bare)
                print(f"| {name} | {bare_ms:.2f} | {extra:+.2f} | {median:+.1f} % ({low:+.1f}, {high:+.1f}) |", flush=True)


if __name__ == "__main__":
    main()
