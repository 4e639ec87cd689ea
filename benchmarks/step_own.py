"""mmtrain as bench_step measures it: the experiment of one size, and its own loop a step at a time."""

import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.step_samples import LONGEST, RATE, SIZES, TASKS, Clip

BATCH = {"base": 8, "small": 16}
MICRO = {"base": 4, "small": 16}  # samples of one of our forward passes


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
