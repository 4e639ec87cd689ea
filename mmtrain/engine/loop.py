"""The meta-loop: train a stretch, evaluate, tell the curriculum, keep the best, save."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from torch import Tensor

from mmtrain.curriculum.reports import WindowReport
from mmtrain.engine.current import current_losses
from mmtrain.engine.history import History, history
from mmtrain.engine.interrupt import Interrupt
from mmtrain.engine.memory import forget_peak
from mmtrain.engine.nonfinite import count_outcome
from mmtrain.engine.progress import ProgressBar, shares_note
from mmtrain.engine.rollback import goes_back, roll_back
from mmtrain.engine.run import Run
from mmtrain.engine.run_folder import write_whole
from mmtrain.engine.sample_log import sample_means, stream_losses
from mmtrain.engine.saving import record_steps, save
from mmtrain.engine.state import RunState
from mmtrain.engine.step import train_step
from mmtrain.engine.throughput import Throughput
from mmtrain.engine.timing import log_epoch, log_window
from mmtrain.engine.validation import end_at_evaluation, validate
from mmtrain.errors import ConfigError, Interrupted, Preempted


def fit(run: Run, state: RunState, *, prunes: Callable[[RunState], bool] | None = None) -> History:
    """Train from `state` to the end of the run, or to early stopping; `prunes` is asked for it behind every evaluation.

    Errors: Interrupted after Ctrl-C or SIGTERM, Preempted after SIGUSR1, with the state saved; NonFiniteError before a
    weight is touched.
    """
    forget_peak(run.accelerator.device)
    if run.settings.on_nonfinite == "rollback" and state.step == 0:
        save(run, state)  # the first steps may have to go back too
    with Interrupt(run.accelerator) as interrupt:
        while not state.finished(run.settings.total_steps):
            until = run.settings.next_evaluation(state.evaluated)
            reached = train_epoch(run, state, until=until, interrupted=interrupt.requested)
            if reached and state.step > state.evaluated:
                with run.span("evaluation", covers=state.step - state.evaluated):
                    validate(run, state)
                state.stopped |= prunes is not None and prunes(state)
            elif reached and state.step:
                end_at_evaluation(run, state)
            if reached and (run.settings.ends_epoch(state.step) or state.finished(run.settings.total_steps)):
                log_epoch(run, state)
            if interrupt.requested() and not state.finished(run.settings.total_steps):
                saved = "the run is saved" if state.saved == state.step else f"its last checkpoint is of step {state.saved}"
                words = f"stopped at step {state.step}; {saved}. Continue with the same command and --resume"
                if interrupt.preempted:
                    if run.logs is not None:
                        write_whole(run.folder.preempted, f"{words}\n")
                    raise Preempted(words)
                raise Interrupted(words)
            if reached and state.step == 0:
                raise ConfigError("curriculum.exhausted: stop: the streams cannot fill a single batch of this size")
    run.accelerator.wait_for_everyone()
    return history(run.folder.path)


def train_epoch(run: Run, state: RunState, *, until: int, interrupted: Callable[[], bool]) -> bool:
    """Train up to step `until` (an evaluation: an epoch's end, or a window border inside it), or to the streams' end.

    False if interrupted before that, what was trained being saved, or gone back to a checkpoint.
    """
    run.model.train()
    name = f"epoch {run.settings.epoch_of(state.step + 1)}"
    with ProgressBar(run.console, name, total=until, done=state.step) as progress:
        while state.step < until and not state.stopped:
            start, stop = run.settings.window_of(state.step)
            with run.span("plan", covers=stop - start):
                window = run.curriculum.next_window(start, stop - start)
            passed, shares = Throughput(), shares_note(run.curriculum.stream_names, window.shares)
            began = time.monotonic()
            for inputs in run.waits("data", run.loader.steps(window, first=state.step, barred=state.barred)):
                with run.span("optimizer"):  # less what `train_step` marks in it
                    values, updated = train_step(run, inputs)
                if goes_back(run, inputs, values):
                    roll_back(run, state, step=inputs.step)
                    return False
                state.log.add(values)
                state.conflicts.add(values.conflicts)
                state.step += 1
                count_outcome(run, state, values, updated=updated)
                passed.add(inputs.micro_batches, samples=run.settings.batch_size)
                progress.update(state.step, note=partial(_note, values.objective, shares))
                if state.step == window.stop_step:
                    with run.span("report", covers=state.step - start):
                        close_window(run, state, start, values.weights)
                        passed.seconds = time.monotonic() - began
                        log_window(run, state, passed)
                    state.stopped = window.ended
                if run.profile is not None:
                    run.profile.finish_step()
                asked_to_stop = interrupted()
                reached = state.step == until or state.stopped
                if not reached and (asked_to_stop or run.settings.checkpoint_due(state.step)):
                    with run.span("checkpoint", covers=state.step - state.saved):
                        save(run, state)
                if asked_to_stop:
                    return reached
            state.stopped = window.ended  # also where it had no step at all
    return True


def _note(objective: Tensor, shares: str) -> str:
    return f"objective {float(objective):.3f}  {shares}".rstrip()


def close_window(run: Run, state: RunState, start: int, weights: Mapping[str, Tensor | float] | None) -> None:
    """Reduce the window's losses over processes, let the curriculum see them, and write what it decided.

    `weights`: what each task counted in the window's last step.
    """
    record_steps(run, state)
    arrays = state.log.since(start)
    losses, counts = stream_losses(arrays, [stream.name for stream in run.train_streams])
    used = None if weights is None else {task: float(weights.get(task, 0.0)) for task in run.heads}
    own = sample_means(arrays) if run.curriculum.listens else None
    report = WindowReport(state.step, losses, counts, weights=used, conflicts=state.conflicts.take(), sample_losses=own)
    run.curriculum.finish_window(report)
    if probes := run.curriculum.probes():
        run.curriculum.observe_losses(current_losses(run, probes))
    points = run.curve.add(arrays)
    if run.logs is not None:
        run.logs.curriculum.write(run.curriculum.record())
        for point in points:
            run.logs.metrics.write(point | {"step": state.step})
