"""A training run from its file to its last line: accelerator, folder, fit or resume."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator, AutocastKwargs, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import get_int_from_env, parse_flag_from_env
from rich.console import Console

from mmtrain.build import build_run
from mmtrain.config import Experiment, load_experiment
from mmtrain.engine.arithmetic import refuse_nondeterminism, set_arithmetic
from mmtrain.engine.checkpoint import has_checkpoints
from mmtrain.engine.console import main_console
from mmtrain.engine.ending import ending_notes
from mmtrain.engine.history import History
from mmtrain.engine.launch import (
    PATIENCE,
    asks_for_parts,
    cpu_threads,
    launch_complaint,
    peer_failure,
    sharding_complaint,
)
from mmtrain.engine.look_once import look_once
from mmtrain.engine.loop import fit
from mmtrain.engine.memory import keep_freed_memory
from mmtrain.engine.profiling.profile import Profile
from mmtrain.engine.run import Run
from mmtrain.engine.run_folder import RunFolder
from mmtrain.engine.run_lock import RunLock
from mmtrain.engine.saving import resume as resume_run
from mmtrain.engine.state import RunState
from mmtrain.errors import ConfigError, PeerError
from mmtrain.models.building import count_parameters
from mmtrain.quick_start import uncollected
from mmtrain.run_files import note_start
from mmtrain.text_cache import use_cached_texts


def train_experiment(
    file: Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    profile_steps: int | None = None,
) -> History:
    """Train what `file` describes. Errors: UserError of every kind; on several processes all of them stop.

    `profile_steps`: as many are measured, and a few more traced; None: no profile.
    """
    experiment = load_experiment(file, list(overrides))
    return train_alone(experiment, resume=resume, overwrite=overwrite, profile_steps=profile_steps)


def train_alone(experiment: Experiment, *, resume: bool, overwrite: bool, profile_steps: int | None = None) -> History:
    """Train an experiment that was read and checked, in processes that nothing else is asked of. Errors: as above."""
    accelerator = build_accelerator(experiment, trains=True)
    result = train_loaded(experiment, accelerator, resume=resume, overwrite=overwrite, profile_steps=profile_steps)
    accelerator.end_training()
    return result


def train_loaded(
    experiment: Experiment,
    accelerator: Accelerator,
    *,
    resume: bool,
    overwrite: bool,
    prunes: Callable[[RunState], bool] | None = None,
    profile_steps: int | None = None,
) -> History:
    """Train an experiment that was read and checked; the processes stay connected. Errors: as `train_experiment`.

    `prunes`: asked behind every evaluation whether the run should end there; `profile_steps`: as there.
    """
    console = main_console(accelerator)
    lock = RunLock(experiment.folder)
    try:
        continues = _claim_folder(lock, accelerator, resume=resume, overwrite=overwrite)
        if console is not None:
            _greet(experiment, accelerator, console, lock)
            if resume and not continues:
                console.print(
                    f"nothing to resume: {experiment.folder} holds no run; it starts from step 0",
                    highlight=False,
                    soft_wrap=True,
                )
        result = _train(experiment, accelerator, console, continues=continues, prunes=prunes, profile_steps=profile_steps)
    except RuntimeError as error:
        cause = peer_failure(error) if accelerator.num_processes > 1 else None
        if cause is not None:
            raise PeerError(cause) from error
        refuse_nondeterminism(error)
        raise
    finally:
        lock.release()
    return result


def _train(
    experiment: Experiment,
    accelerator: Accelerator,
    console: Console | None,
    *,
    continues: bool,
    prunes: Callable[[RunState], bool] | None,
    profile_steps: int | None,
) -> History:
    with uncollected():
        run = build_run(experiment, accelerator, console, continues=continues)
    if profile_steps is not None and run.logs is not None:
        run = replace(run, profile=_profile(run, profile_steps))
    with closing(run):
        state = resume_run(run) if continues else RunState()
        for note in [*_resumption(experiment, run), *_resumed_cache(experiment, run)] if continues else ():
            run.say(note)
        if state.finished(run.settings.total_steps):
            run.say(f"the run is finished already, at step {state.step}")
        result = fit(run, state, prunes=prunes)
    selection = state.selection
    if state.skipped:
        run.say(f"the loss scaler skipped {state.skipped} of {state.step} steps")
    if state.left_out:
        run.say(
            f"{state.left_out} of {state.step} steps were left out for NaN or Inf; their batches: {run.folder.nonfinite}"
        )
    if state.barred:
        run.say(f"for {len(state.barred)} of them the run went back to a checkpoint")
    for note in ending_notes(run, state) if console is not None and prunes is None else ():
        run.say(note)
    run.say(f"best {experiment.selection.metric} {_value(selection.best)} at step {selection.best_step}")
    run.say(f"run folder: {run.folder.path}")
    return result


def _resumption(experiment: Experiment, run: Run) -> list[str]:
    """Write down that a run goes on, now that its checkpoint is known to be its own."""
    if not has_checkpoints(run.folder.checkpoints):  # it began anew, and that was written down
        return []
    parameters = count_parameters(run.accelerator.unwrap_model(run.model))
    change = look_once(run.accelerator, lambda: note_start(experiment, run.accelerator, parameters))
    return [f"warning: the code is not that of the run's last start: {change}"] if change else []


def _resumed_cache(experiment: Experiment, run: Run) -> list[str]:
    """Cached texts of the encoder as it is in the checkpoint."""
    model = run.accelerator.unwrap_model(run.model)
    return use_cached_texts(
        experiment, run.accelerator, model=model, streams=run.train_streams, collate=run.loader.collate, console=run.console
    )


def _profile(run: Run, steps: int) -> Profile:
    return Profile(run.folder.profile, steps=steps, device=run.accelerator.device, say=run.say)


def build_accelerator(experiment: Experiment, *, trains: bool = False) -> Accelerator:
    """`trains`: whether all that follows can do with weights in parts.

    Errors: ConfigError where the device cannot do the precision asked for, the processes would not train together, or the
    launcher is told to cut weights up otherwise than is known here.
    """
    if (complaint := sharding_complaint(trains=trains)) is not None:
        raise ConfigError(complaint)
    handlers = []
    if asks_for_parts():
        os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # else transformers leaves encoders empty, but for one
        handlers.append(AutocastKwargs(cache_enabled=False))  # which would hold all weights that were gathered
    precision = experiment.training.precision
    processes = join_processes()
    if precision == "fp16" and processes.device.type == "cpu":
        raise ConfigError("training.precision: fp16 needs a GPU; on a CPU write fp32, or bf16")
    threads = cpu_threads(local_processes=get_int_from_env(["LOCAL_WORLD_SIZE"], 1))
    if processes.device.type == "cpu" and threads is not None:
        torch.set_num_threads(threads)
    if processes.device.type == "cpu":
        keep_freed_memory()
    set_arithmetic(tf32=experiment.training.tf32, deterministic=experiment.training.deterministic)
    AcceleratorState._reset_state()  # another stage may have had another precision; the processes stay connected
    return Accelerator(mixed_precision={"fp32": "no"}.get(precision, precision), kwargs_handlers=handlers)


def join_processes() -> PartialState:
    """This process among those that were started together. Nothing is connected where they would not train together."""
    on_cpu, started = parse_flag_from_env("ACCELERATE_USE_CPU"), get_int_from_env(["WORLD_SIZE"], 1)
    together = started == 1 or on_cpu or torch.accelerator.is_available()
    try:
        processes = PartialState(cpu=on_cpu, timeout=PATIENCE) if together else None
    except RuntimeError as error:
        if (cause := peer_failure(error)) is not None:
            raise PeerError(cause) from error
        raise
    if processes is None or started > processes.num_processes:
        raise ConfigError(
            f"{started} processes were started, and each would train alone, into one folder. On CPUs write "
            f"ACCELERATE_USE_CPU=1 accelerate launch --multi_gpu --num_processes {started} ..."
        )
    return processes


def _claim_folder(lock: RunLock, accelerator: Accelerator, *, resume: bool, overwrite: bool) -> bool:
    """The first process looks and locks; all learn whether a run is continued, or why it cannot be."""
    folder = RunFolder(lock.folder)

    def claim() -> bool:
        if not folder.is_run():  # else who trains in it comes before what to do about it
            folder.check(resume=resume, overwrite=overwrite)
        lock.take()
        return folder.check(resume=resume, overwrite=overwrite)

    return look_once(accelerator, claim)


def _greet(experiment: Experiment, accelerator: Accelerator, console: Console, lock: RunLock) -> None:
    processes = f"{accelerator.num_processes} process{'es' if accelerator.num_processes > 1 else ''}"
    lines = [f"{experiment.name}: {processes} on {accelerator.device}, {experiment.training.precision}"]
    complaint = launch_complaint(accelerator.num_processes)
    lines += [words for words in (complaint, lock.complaint) if words]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _value(number: float | None) -> str:
    return "-" if number is None else f"{number:.4f}"
