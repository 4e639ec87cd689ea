"""`mmtrain curriculum simulate`: an experiment's curriculum without its model, as pictures of what it would do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmtrain.compatibility import common_tasks, open_stores
from mmtrain.config import Experiment, load_experiment
from mmtrain.curriculum.setting import Setting
from mmtrain.curriculum.simulate import recorded_curve, simulate, synthetic_curve
from mmtrain.engine.jsonl import read_jsonl
from mmtrain.errors import ConfigError
from mmtrain.extras import require
from mmtrain.parts import build_streams, steps_of_epoch, stream_specs
from mmtrain.references import with_references
from mmtrain.run_objective import build_objective
from mmtrain.watched_metrics import check_metric


@dataclass
class Trace:
    """What is drawn: by window, its last step, each stream's share, samples and passes so far, pool, and loss (or NaN)."""

    names: tuple[str, ...]
    steps: list[int] = field(default_factory=list)
    shares: list[list[float]] = field(default_factory=list)
    counts: list[list[int]] = field(default_factory=list)
    passes: list[list[float]] = field(default_factory=list)
    pools: list[list[int]] = field(default_factory=list)
    losses: list[list[float]] = field(default_factory=list)
    events: list[tuple[int, str]] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        """A record of curriculum.jsonl."""
        self.steps.append(record["step"])
        self.shares.append([record["shares"][name] for name in self.names])
        before = self.counts[-1] if self.counts else [0] * len(self.names)
        self.counts.append([old + record["counts"][name] for old, name in zip(before, self.names, strict=True)])
        self.passes.append([record["passes"][name] for name in self.names])
        self.pools.append([record["pools"][name] for name in self.names])
        means = (record["losses"].get(name) for name in self.names)
        self.losses.append([float(np.mean(list(tasks.values()))) if tasks else float("nan") for tasks in means])
        self.events += [(record["step"] - record["steps"], words) for words in record["events"]]


def simulate_experiment(
    file: Path, overrides: list[str], *, out: Path, steps: int | None = None, losses: Path | None = None
) -> Trace:
    """Run the curriculum of an experiment and draw it. `steps`: None = as many as the run; `losses`: a curriculum.jsonl.

    Errors: ConfigError or DataError where the run itself would be refused, or matplotlib is missing.
    """
    require("curriculum simulate", ["matplotlib"], extra="plot")
    if out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG; write a name that ends in .png")
    experiment = load_experiment(file, overrides)
    setting = _setting(experiment)  # refuses what the run would refuse
    curriculum = with_references(experiment, setting.streams).curriculum.build(
        streams=setting.streams,
        tasks=setting.tasks,
        batch_size=experiment.batch.size,
        seed=experiment.seed,
        steps_per_epoch=setting.steps_per_epoch,
        kinds=setting.kinds,
    )
    curve = synthetic_curve(setting)
    if losses is not None:
        if not losses.is_file():
            raise ConfigError(f"--losses {losses}: no such file; give the curriculum.jsonl of a run")
        curve = recorded_curve(_recorded(losses), otherwise=curve)
    trace = Trace(curriculum.stream_names)
    every = experiment.training.eval_every or setting.steps_per_epoch
    total = steps or experiment.training.epochs * setting.steps_per_epoch
    watched = [metric for _, metric in experiment.curriculum.watched_metrics(setting.tasks)]
    for record in simulate(curriculum, setting, curve, total_steps=total, eval_every=every, metrics=watched):
        trace.add(record)
    if not trace.steps:
        raise ConfigError(
            "the curriculum fills no batch: curriculum.exhausted is stop, or drop, and the streams are too small"
        )
    section = experiment.curriculum
    parts = (section.sampler.name, section.schedule.name, section.pacing.name, section.weighting.name)
    plot(trace, out, title=f"{experiment.name}: sampler {{}}, schedule {{}}, pacing {{}}, weighting {{}}".format(*parts))
    return trace


def plot(trace: Trace, out: Path, *, title: str) -> None:
    """Panels over the steps, as one PNG: shares, samples and passes so far, pools, losses. Changes are dotted lines."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 11), layout="constrained")
    keep = np.unique(np.linspace(0, len(trace.steps) - 1, 2000).astype(int))  # more points than pixels show nothing more
    steps = np.concatenate([[0], np.array(trace.steps)[keep]])  # a value stands from the window's start on
    panels = {
        "share of the batch": trace.shares,
        "samples drawn": trace.counts,
        "passes": trace.passes,
        "samples in the pool": trace.pools,
        "loss": trace.losses,
    }
    for number, (label, rows) in enumerate(panels.items(), start=1):
        axis = figure.add_subplot(3, 2, number)
        table = np.array(rows, dtype=np.float64)[keep]
        first = np.zeros_like(table[:1]) if label in ("samples drawn", "passes") else table[:1]
        table = np.concatenate([first, table])
        for k, name in enumerate(trace.names):
            seen = np.isfinite(table[:, k])
            stairs = label in ("share of the batch", "samples in the pool")
            axis.plot(steps[seen], table[seen, k], label=name, drawstyle="steps" if stairs else "default")
        for step in sorted({step for step, _ in trace.events})[:100]:
            axis.axvline(step, color="gray", linestyle=":", linewidth=0.8)
        axis.set_ylabel(label)
        axis.set_xlabel("optimizer step")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.suptitle(title)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110, format="png")


def _setting(experiment: Experiment) -> Setting:
    stores = open_stores(experiment)
    tasks = common_tasks(experiment, stores)
    streams, val_streams = (build_streams(experiment, stores, split) for split in ("train", "val"))
    objective = build_objective(experiment, tasks, streams)
    for where, metric in experiment.curriculum.watched_metrics(objective.task_names):
        check_metric(where, metric, tasks, objective, val_streams)
    specs = stream_specs(experiment, streams, objective)
    kinds = {name: task.kind for name, task in tasks.items()}
    epoch = steps_of_epoch(experiment, streams)
    return Setting(streams=specs, tasks=objective.task_names, kinds=kinds, seed=experiment.seed, steps_per_epoch=epoch)


def _recorded(file: Path) -> list[dict[str, Any]]:
    """The records of a curriculum.jsonl. Errors: ConfigError where the file is another."""
    try:
        records = list(read_jsonl(file))
    except (ValueError, UnicodeDecodeError):
        records = []
    if not records or not all(isinstance(record, dict) and {"step", "losses"} <= set(record) for record in records):
        raise ConfigError(f"--losses {file}: this is no curriculum.jsonl; give the one in a run's folder")
    return records


def describe(trace: Trace, limit: int = 20) -> Iterable[str]:
    """The first events, dated to the start of their window where they name no step; and what each stream got."""
    for step, words in trace.events[:limit]:
        yield words if words.startswith("step ") else f"step {step}: {words}"
    if len(trace.events) > limit:
        yield f"... and {len(trace.events) - limit} events more"
    total = sum(trace.counts[-1])
    for k, name in enumerate(trace.names):
        drawn, passes = trace.counts[-1][k], trace.passes[-1][k]
        yield f"{name}: {drawn:,} samples ({drawn / total:.1%}), {passes:.3g} passes"
