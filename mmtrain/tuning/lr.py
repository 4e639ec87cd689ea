"""`mmtrain tune lr`: a learning-rate range test on an experiment's own model, curriculum and batches."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmtrain.build import build_run
from mmtrain.config import load_experiment
from mmtrain.engine.console import main_console
from mmtrain.engine.jsonl import plain
from mmtrain.engine.loop import close_window
from mmtrain.engine.progress import ProgressBar
from mmtrain.engine.run import Run
from mmtrain.engine.schedules.schedule import LrSchedule
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.errors import ConfigError, NonFiniteError
from mmtrain.extras import require
from mmtrain.training import build_accelerator
from mmtrain.tuning.lr_curve import LrCurve, ramp


def tune_lr(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    start: float = 1e-7,
    end: float = 1.0,
    steps: int = 100,
    smoothing: float = 0.8,
    out: Path,
) -> LrCurve:
    """Train up the ramp, print overrides with the suggestion, and write out/lr-range.{png,json}; no run folder is touched.

    Errors: ConfigError where the ramp does not rise, the run would be refused, or matplotlib is missing.
    """
    require("tune lr", ["matplotlib"], extra="plot")
    if not 0 < start < end:
        raise ConfigError(f"--start {start:g} --end {end:g}: the learning rate rises from a positive start to a greater end")
    experiment = load_experiment(file, list(overrides))
    accelerator = build_accelerator(experiment)
    optimizer = experiment.training.optimizer
    with closing(build_run(experiment, accelerator, main_console(accelerator), on_disk=False)) as run:
        curve = range_test(run, peak=optimizer.lr, start=start, end=end, steps=steps, smoothing=smoothing)
        best = curve.suggestion()
        if accelerator.is_main_process:
            _write(curve, best, out, title=f"{experiment.name}: learning-rate range test")
        stretch = f" ({'diverged' if curve.diverged else 'no divergence'} after {len(curve.lrs)} steps)"
        if curve.is_noisy:
            see = f"see {out / 'lr-range.png'}, {steadier(steps)}"
            run.say(f"too noisy to tell whether the loss falls{stretch}: no suggestion; {see}")
        elif best is None:
            run.say(f"the loss never fell{stretch}: no suggestion; see {out / 'lr-range.png'}, try another --start or --end")
        else:
            run.say(f"the loss falls fastest at lr {best:.2e}{stretch}; drawn in {out / 'lr-range.png'}")
            run.say(" ".join(override_words(best, peak=optimizer.lr, text_lr=optimizer.text_lr if _has_text(run) else None)))
    accelerator.end_training()
    return curve


def range_test(run: Run, *, peak: float, start: float, end: float, steps: int, smoothing: float) -> LrCurve:
    """Losses of `steps` steps whose lr rises from `start` to `end`, or up to divergence.

    `peak`: the lr of the config; other groups keep their ratio to it. The weights of `run.model` are spent.
    """
    optimizer = getattr(run.optimizer, "optimizer", run.optimizer)
    schedule = LrSchedule(optimizer, factor=lambda finished: ramp(start, end, steps, finished) / peak)
    settings = replace(run.settings, total_steps=steps, on_nonfinite="stop")  # a NaN ends the test
    run = replace(run, lr_schedule=schedule, settings=settings)
    curve, state = LrCurve(smoothing), RunState()
    run.model.train()
    with ProgressBar(run.console, "range test", total=steps) as progress:
        while state.step < steps and not state.stopped:
            first, stop = run.settings.window_of(state.step)
            window = run.curriculum.next_window(first, stop - first)
            for inputs in run.loader.steps(window, first=state.step):
                lr = ramp(start, end, steps, schedule.finished)
                try:
                    values, _ = train_step(run, inputs)
                except NonFiniteError:
                    curve.add(lr, float("nan"))
                    return curve
                curve.add(lr, float(run.accelerator.reduce(values.objective, reduction="sum")))
                if curve.diverged:
                    return curve
                state.log.add(values)
                state.conflicts.add(values.conflicts)
                state.step += 1
                words = f"lr {lr:.1e}, objective {curve.losses[-1]:.3f}"
                progress.update(state.step, note=partial(str, words))
                if state.step == window.stop_step:
                    close_window(run, state, first, values.weights)
                    state.log.clear()
            state.stopped = window.ended
    return curve


def override_words(lr: float, *, peak: float, text_lr: float | None) -> list[str]:
    """The suggestion as overrides; the text encoder's lr in its old ratio, where there is one."""
    words = {"lr": lr} | ({} if text_lr is None else {"text_lr": lr * text_lr / peak})
    return [f"training.optimizer.{key}={value:.3g}" for key, value in words.items()]


def steadier(steps: int) -> str:
    """What to write where a range test of `steps` is too noisy."""
    return f"try a larger batch.size, or --steps {4 * steps} --smoothing 0.95"


def _has_text(run: Run) -> bool:
    return any(str(group["name"]).startswith("text.") for group in run.optimizer.param_groups)


def _write(curve: LrCurve, best: float | None, out: Path, *, title: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    values = {"lr": curve.lrs, "loss": curve.losses, "smoothed": curve.smoothed, "smoothing": curve.smoothing}
    record = plain(values | {"diverged": curve.diverged, "suggestion": best})
    (out / "lr-range.json").write_text(json.dumps(record, indent=1, allow_nan=False), encoding="utf-8")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axis = figure.subplots()
    axis.plot(curve.lrs, curve.losses, color="lightgray", label="loss")
    axis.plot(curve.lrs, curve.smoothed, label="smoothed")
    if best is not None:
        axis.axvline(best, color="gray", linestyle=":", label=f"suggestion {best:.2e}")
    axis.set_xscale("log")
    axis.set_ylim(curve.drawn())
    axis.set_xlabel("learning rate")
    axis.set_ylabel("objective")
    axis.set_title(title)
    axis.legend()
    figure.savefig(out / "lr-range.png", dpi=110, format="png")
