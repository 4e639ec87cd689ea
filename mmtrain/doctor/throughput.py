"""Throughput, and with it the time to finish, the peak memory, and whether checkpoints fit on the disk."""

import shutil
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from torch import Tensor

from mmtrain.doctor.case import Case, Deadline, synchronize, unchanged
from mmtrain.doctor.finding import Finding
from mmtrain.engine.memory import forget_peak, peak_memory
from mmtrain.engine.run import LoopSettings, Run
from mmtrain.engine.step import train_step
from mmtrain.engine.throughput import Throughput
from mmtrain.evaluation.evaluate import evaluate_samples

CHECK = "throughput"
_SHARE = 0.15  # of the time
_WARM_UP, _STEPS = 2, 20
_WAITING = 0.5  # share of a step that the loop may wait for its batch
_TIGHT = 2.0  # times what checkpoints need


@dataclass
class Speed:
    """What was measured."""

    passed: Throughput = field(default_factory=Throughput)  # of the measured steps
    steps: int = 0
    waited: float = 0.0  # seconds of them for batches
    evaluation: float = 0.0  # seconds of one, of all validation samples
    checkpoint: int = 0  # bytes
    peak: int = 0  # bytes


def check_throughput(case: Case) -> list[Finding]:
    """Steps of the run's first window behind a warm-up, and a part of an evaluation."""
    if not case.can_learn:
        return [Finding(CHECK, "note", "not measured: no parameter is trained; see gradient_reach")]
    deadline = case.deadline(_SHARE)
    with unchanged(case.run) as run:
        speed = measure_speed(run, deadline)
        speed.checkpoint = checkpoint_bytes(case.run)
    settings, training = run.settings, case.experiment.training
    evaluations = num_evaluations(settings) * (2 if training.average is not None else 1) * speed.evaluation
    if training.train_predictions:
        ratio = sum(map(len, run.train_streams)) / max(sum(map(len, run.val_streams)), 1)
        evaluations += training.epochs * ratio * speed.evaluation
    own = case.run.folder.path
    free = shutil.disk_usage(_existing(own)).free
    return [
        *speed_findings(
            speed, total_steps=settings.total_steps, evaluations=evaluations, device=str(run.accelerator.device)
        ),
        *disk_findings(speed.checkpoint, keep=settings.keep_checkpoints, free=free, folder=str(own)),
    ]


def measure_speed(run: Run, deadline: Deadline) -> Speed:
    """The weights of `run` are spent."""
    speed = Speed()
    forget_peak(run.accelerator.device)
    _, stop = run.settings.window_of(0)
    window = run.curriculum.next_window(0, stop)
    run.model.train()
    began = asked = time.monotonic()
    warm_up = min(_WARM_UP, stop - 1)
    for number, inputs in enumerate(run.loader.steps(window, first=0)):
        waited = time.monotonic() - asked
        train_step(run, inputs)
        synchronize(run)
        asked = time.monotonic()
        if number < warm_up:
            began = asked
            continue
        speed.waited, speed.steps = speed.waited + waited, speed.steps + 1
        speed.passed.add(inputs.micro_batches, samples=run.settings.batch_size)
        if speed.steps == _STEPS or deadline.passed:
            break
    speed.passed.seconds = asked - began
    speed.evaluation = _evaluation_seconds(run, deadline)
    speed.peak = peak_memory(run.accelerator.device)
    return speed


def _evaluation_seconds(run: Run, deadline: Deadline) -> float:
    """Of the whole validation split, by some of its batches."""
    done, began = 0, time.monotonic()
    total = sum(map(len, run.val_streams))
    if not total:  # no validation label; label_balance says so
        return 0.0
    for number, stream in enumerate(run.val_streams):
        places = np.random.default_rng(0).permutation(len(stream))
        for first in range(0, len(places), run.settings.eval_batch):
            if done and deadline.passed:
                break
            chosen = places[first : first + run.settings.eval_batch]
            evaluate_samples(
                run.model,
                run.val_streams,
                {number: chosen},
                objective=run.objective,
                collate=run.loader.collate,
                accelerator=run.accelerator,
                batch_size=run.settings.eval_batch,
            )
            done += len(chosen)
    return (time.monotonic() - began) * total / done


def checkpoint_bytes(run: Run) -> int:
    """Of model, average and optimizer, which has its state after a step."""
    model = run.accelerator.unwrap_model(run.model)
    tensors = list(model.state_dict().values())
    tensors += list(run.average.tensors().values()) if run.average is not None else []
    for entries in run.optimizer.state_dict()["state"].values():
        tensors += [value for value in entries.values() if isinstance(value, Tensor)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def num_evaluations(settings: LoopSettings) -> int:
    """Of the whole run."""
    epochs, rest = divmod(settings.total_steps, settings.steps_per_epoch)
    every = settings.eval_every or settings.steps_per_epoch
    return epochs * -(-settings.steps_per_epoch // every) + -(-rest // every)


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that there is."""
    whole = path.absolute()
    return next(folder for folder in (whole, *whole.parents) if folder.exists())


def speed_findings(speed: Speed, *, total_steps: int, evaluations: float, device: str) -> list[Finding]:
    """`evaluations`: seconds of all that the run makes."""
    if not speed.steps or not speed.passed.seconds:
        return [Finding(CHECK, "note", "not measured: no step fitted in the time", "--seconds with a higher number")]
    step, record = speed.passed.seconds / speed.steps, speed.passed.record()
    rates = [f"{record['samples_per_second']:.0f} samples/s"]
    rates += [f"{record['tokens_per_second']:.0f} tokens/s"] if "tokens_per_second" in record else []
    whole = total_steps * step + evaluations
    words = (
        f"{step * 1000:.1f} ms a step on {device} ({', '.join(rates)}); {total_steps:,} steps and "
        f"{in_words(evaluations)} of evaluations: {in_words(whole)} to finish; peak memory {speed.peak / 2**20:,.0f} MiB"
    )
    findings = [Finding(CHECK, "ok", words)]
    waiting = speed.waited / speed.passed.seconds
    if waiting > _WAITING:
        words = f"{waiting:.0%} of a step is spent waiting for its batch: reading is slower than the model"
        fix = "batch.prefetch with a higher number, a store on a nearer disk, model.text.cache; --profile says more"
        findings.append(Finding(CHECK, "note", words, fix))
    return findings


def disk_findings(size: int, *, keep: int, free: int, folder: str) -> list[Finding]:
    """`size`: bytes of a checkpoint; there are `keep` of them, the best, and one that is being written."""
    need = size * (keep + 2)
    needed, left = (f"{value / 2**20:,.0f} MiB" for value in (need, free))
    words = f"the {keep} newest checkpoints, the best and the next one take {needed}; {folder} has {left} free"
    fix = "runs: a folder on a larger disk, or training.keep_checkpoints: 1"
    if need > free:
        return [Finding(CHECK, "problem", words, fix)]
    return [Finding(CHECK, "note", words, fix) if _TIGHT * need > free else Finding(CHECK, "ok", words)]


def in_words(seconds: float) -> str:
    """`1 d 2 h`: the two greatest units; `12 s` below a minute."""
    units = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    whole = round(seconds)
    for (size, name), (next_size, next_name) in pairwise(units):
        if whole >= size:
            return f"{whole // size} {name} {whole % size // next_size} {next_name}"
    return f"{seconds:.0f} s" if seconds >= 1 else f"{seconds:.1f} s"
