"""What a weighting costs: seconds of an optimizer step relative to `fixed`, on a model like the demo's with five tasks.

Run `python -m benchmarks.bench_weighting`. The text encoder has MiniLM's size and random weights. Wanted: under 1 % for
weightings of losses, under 25 % for gradients over the representation. Variants take turns within one run, in another order
every round; what is shown is the median over rounds of the ratio to `fixed` in the same round.
"""

import random
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from transformers import BertConfig

from benchmarks.letter_bert import write_bert
from data_prep.synth import synthesize
from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.curriculum.weighting import WEIGHTINGS
from mmtrain.curriculum.weighting.gradients import GradientSection
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.step import train_step
from mmtrain.training import build_accelerator

ROUNDS, BATCH = 15, 32
TASKS = {f"t{k}": kind for k, kind in enumerate(("binary", "multiclass", "regression", "binary", "regression"))}


def write_minilm(folder: Path) -> None:
    """The shape of all-MiniLM-L6 without its weights, and a tokenizer of letters."""
    size = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    write_bert(folder, BertConfig(vocab_size=30522, **size))


def build(folder: Path, name: str, weighting: dict[str, str]) -> Run:
    values = {
        "name": name,
        "runs": str(folder / "runs"),
        "datasets": {"synth": {"store": str(folder / "store")}},
        "streams": {"synth": {"dataset": "synth", "tasks": list(TASKS)}},
        "model": {
            "dim": 128,
            "text": {"name": "transformers", "path": str(folder / "minilm"), "trainable_layers": 2, "max_tokens": 64},
            "sequences": {"audio": {"name": "bilstm", "hidden": 64, "layers": 2}, "video": {"name": "linear"}},
            "fusion": {"name": "hca", "heads": 4},
            "pooling": {"name": "attention"},
        },
        "curriculum": {"weighting": weighting},
        "batch": {"size": BATCH, "prefetch": 0},
    }
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(values))
    experiment = load_experiment(file)
    return build_run(experiment, build_accelerator(experiment), None)


def variants() -> dict[str, dict[str, str]]:
    """`fixed` first."""
    found = {}
    for config in WEIGHTINGS:
        name = config.model_fields["name"].default
        if issubclass(config, GradientSection):
            found |= {f"{name}, {over}": {"name": name, "over": over} for over in ("representation", "parameters")}
        else:
            found[name] = {"name": name}
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_minilm(folder / "minilm")
        synthesize(folder / "store", samples=400, modalities={"audio": 64, "video": 1280}, tasks=TASKS, max_rows=40)
        runs = {label: build(folder, f"run-{k}", section) for k, (label, section) in enumerate(variants().items())}
        seconds = measure(runs)
        for run in runs.values():
            run.close()
    base = seconds["fixed"]
    print(
        f"{len(TASKS)} tasks, batch {BATCH}, {torch.get_num_threads()} threads; fixed {1e3 * statistics.median(base):.0f} ms"
    )
    for label, times in seconds.items():
        ratios = [100 * (own / plain - 1) for own, plain in zip(times, base, strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        print(f"  {label:<32} {statistics.median(ratios):+7.1f} %   (quartiles {low:+.1f}, {high:+.1f})")


def measure(runs: dict[str, Run]) -> dict[str, list[float]]:
    """Seconds of one step of each variant in each round; the rounds' batches are those of the plan, alike for all."""
    steps = {label: list(run.loader.steps(run.curriculum.next_window(0, 2), first=0)) for label, run in runs.items()}
    seconds: dict[str, list[float]] = {label: [] for label in runs}
    order = list(runs)
    for number in range(ROUNDS + 1):
        random.Random(number).shuffle(order)  # noqa: S311
        for label in order:
            taken = timed(runs[label], steps[label][0])
            if number:  # the first warms up
                seconds[label].append(taken)
    return seconds


def timed(run: Run, inputs: StepInput) -> float:
    run.model.train()
    begun = time.perf_counter()
    train_step(run, inputs)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
