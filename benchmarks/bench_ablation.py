"""What `mmtrain ablate` costs over its runs: 18 small runs through it, and the same commands one after the other by hand.

Run `python -m benchmarks.bench_ablation`. Wanted: at most 15 %. Both start a process for each run, which loads the same
libraries and trains the same steps; what `ablate` adds is reading and checking the matrix, looking after the processes, and
writing the table and the page behind every run. Runs by hand and through it take turns, six at a time, so that a machine
whose load changes is fair to both. Seconds of the clock, and CPU seconds of all processes, which leave out what other
programs take.
"""

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from data_prep.synth import synthesize
from mmtrain.ablation.ablate import command_of
from mmtrain.ablation.plan import Plan, read_plan

RATES = (1e-3, 2e-3, 4e-3)
FUSIONS = ("concat", "sum")


def write_matrix(root: Path, name: str, seeds: Sequence[int]) -> Path:
    """Six variants of a small model."""
    experiment = {
        "name": "bare",
        "datasets": {"clips": {"store": "clips"}},
        "streams": {"clips": {"dataset": "clips", "tasks": ["funny"]}},
        "model": {"dim": 32, "sequences": {"audio": {"name": "gru", "hidden": 32}, "video": {"name": "linear"}}},
        "training": {"epochs": 3, "steps_per_epoch": 60, "keep_checkpoints": 1},
    }
    (root / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    axes = {
        "fusion": {fusion: {"model.fusion": {"name": fusion}} for fusion in FUSIONS},
        "lr": {f"lr-{rate}": {"training.optimizer.lr": rate} for rate in RATES},
    }
    matrix = {"name": name, "experiment": "experiment.yaml", "axes": axes, "seeds": list(seeds), "metric": "val/loss"}
    file = root / f"{name}.yaml"
    file.write_text(yaml.safe_dump(matrix | {"baseline": {"fusion": FUSIONS[0], "lr": f"lr-{RATES[0]}"}}, sort_keys=False))
    return file


def timed(root: Path, commands: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Seconds by the clock and of the CPU for commands one after the other, with all that they start."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(command, cwd=root, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def commands_of(plan: Plan) -> list[tuple[str, ...]]:
    return [command_of(plan, run, overwrite=False) for run in plan.runs]


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # `ablate` says it where nobody has; by hand it would be torch's own choice
    whole, bare = [0.0, 0.0], [0.0, 0.0]
    num_runs = 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        tasks = {"funny": "binary"}
        synthesize(root / "clips", name="clips", samples=600, modalities={"audio": 32, "video": 64}, tasks=tasks, seed=1)
        for seed in (0, 1, 2):
            through, by_hand = (write_matrix(root, f"{how}-{seed}", [seed]) for how in ("through", "hand"))
            plan = read_plan(by_hand)
            num_runs += len(plan.runs)
            turns = [
                (whole, [[sys.executable, "-m", "mmtrain.cli", "ablate", str(through)]]),
                (bare, commands_of(plan)),
            ]
            for total, commands in turns if seed % 2 else reversed(turns):
                for place, seconds in enumerate(timed(root, commands)):
                    total[place] += seconds
    print(f"{num_runs} runs, {platform.machine()}")
    print("| | by hand, s | ablate, s | ratio |")
    print("| --- | ---: | ---: | ---: |")
    for name, one, other in zip(("clock", "CPU"), bare, whole, strict=True):
        print(f"| {name} | {one:.1f} | {other:.1f} | {other / one:.3f} |")


if __name__ == "__main__":
    main()
