"""A run to a checkpoint and back: what the loop saves, and how a new process takes it up."""

from dataclasses import asdict
from typing import Any

import torch

from mmtrain.engine import checkpoint as files
from mmtrain.engine.checkpoint import Checkpoint, Tensors
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import SampleLog
from mmtrain.engine.state import (
    VERSION,
    RunState,
    Selection,
    gather_random_states,
    load_model_state,
    load_optimizer_state,
    optimizer_state,
    put_back_random_state,
    require_version,
)
from mmtrain.engine.tracking import log_all
from mmtrain.errors import CheckpointError


def record_steps(run: Run, state: RunState) -> None:
    """Gather what the steps since the last call showed, and write a line for each."""
    for record in state.log.flush(run.accelerator):
        if run.logs is not None:
            run.logs.metrics.write(record)
            log_all(run.trackers, record)


def save(run: Run, state: RunState, *, is_best: bool = False) -> None:
    """Write a checkpoint of this very moment; every process takes part, the first one writes."""
    record_steps(run, state)
    random_states = gather_random_states(run.accelerator)
    if run.logs is not None:
        root = run.folder.checkpoints
        folder = files.save_checkpoint(root, state.step, _capture(run, state, random_states))
        if is_best:
            files.point(root, "best", folder)
        files.point(root, "last", folder)
        files.prune(root, keep=run.settings.keep_checkpoints, step=state.step)
    run.accelerator.wait_for_everyone()


def _capture(run: Run, state: RunState, random_states: Tensors) -> Checkpoint:
    assert run.logs is not None
    optimizer_tensors, optimizer_values = optimizer_state(run.optimizer)
    scaler = run.accelerator.scaler
    penalties = {
        f"{name}/{key}": value for name, group in run.objective.state_dict().items() for key, value in group.items()
    }
    tensors = {
        "model": run.accelerator.unwrap_model(run.model).state_dict(),
        "optimizer": optimizer_tensors,
        "regularizers": penalties,
        "random": random_states,
        "curriculum": {name: torch.from_numpy(array) for name, array in run.curriculum.arrays().items()},
        "samples": {name: torch.from_numpy(column) for name, column in state.log.arrays.items()},
    }
    values: dict[str, Any] = {
        "version": VERSION,
        "step": state.step,
        "evaluated": state.evaluated,
        "skipped": state.skipped,
        "stopped": state.stopped,
        "selection": asdict(state.selection),
        "optimizer": optimizer_values,
        "lr_schedule": {key: value for key, value in run.lr_schedule.state_dict().items() if key != "lr_lambdas"},
        "scaler": scaler.state_dict() if scaler is not None else None,
        "curriculum": run.curriculum.state_dict(),
        "curve": run.curve.state_dict(),
        "logs": {"metrics": run.logs.metrics.position(), "curriculum": run.logs.curriculum.position()},
        "identity": dict(run.identity),
    }
    return Checkpoint(tensors, values, run.texts)


def resume(run: Run) -> RunState:
    """Take up the newest whole checkpoint; a fresh state where the run was stopped before its first.

    Errors: CheckpointError where none is whole, or it belongs to another config, data or architecture.
    """
    folder, complaints = files.newest_valid(run.folder.checkpoints)
    for complaint in complaints:
        run.say(f"passed over: {complaint}")
    if folder is None:
        run.say("nothing to resume: the run was stopped before its first checkpoint; it starts from step 0")
        for log in (run.logs.metrics, run.logs.curriculum) if run.logs is not None else ():
            log.rewind(0)
        return RunState()
    checkpoint = files.read_checkpoint(folder)
    require_version(checkpoint, origin=str(folder))
    require_identity(checkpoint, run.identity)
    state = _put_back(run, checkpoint, origin=str(folder))
    run.say(f"resumed from {folder} at step {state.step}")
    return state


def _put_back(run: Run, checkpoint: Checkpoint, *, origin: str) -> RunState:
    values, tensors = checkpoint.state, checkpoint.tensors
    load_model_state(run.accelerator.unwrap_model(run.model), tensors["model"], origin=origin)
    load_optimizer_state(run.optimizer, tensors["optimizer"], values["optimizer"])
    # the factors are functions, rebuilt from the config; a None keeps the one that stands
    run.lr_schedule.load_state_dict(values["lr_schedule"] | {"lr_lambdas": [None] * len(run.lr_schedule.base_lrs)})
    if run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(values["scaler"])
    arrays = {name: tensor.numpy() for name, tensor in tensors["curriculum"].items()}
    run.curriculum.load_state_dict(values["curriculum"], arrays)
    penalties: dict[str, Tensors] = {name: {} for name in run.objective.regularizers}
    for name, tensor in tensors["regularizers"].items():
        owner, _, key = name.partition("/")
        penalties.setdefault(owner, {})[key] = tensor
    run.objective.load_state_dict(penalties)
    run.curve.load_state_dict(values["curve"])
    if run.logs is not None:
        run.logs.metrics.rewind(values["logs"]["metrics"])
        run.logs.curriculum.rewind(values["logs"]["curriculum"])
    put_back_random_state(tensors["random"], rank=run.accelerator.process_index, seed=run.settings.seed)
    known = len({name.partition("/")[0] for name in tensors["random"]})
    if known != run.accelerator.num_processes:
        run.say(
            f"the checkpoint is of {known} process{'es' if known > 1 else ''}, {run.accelerator.num_processes} run now: "
            "the batches stay the same, dropout will not be that of the run uninterrupted"
        )
    return RunState(
        step=values["step"],
        evaluated=values["evaluated"],
        skipped=values["skipped"],
        stopped=values["stopped"],
        selection=Selection(**values["selection"]),
        log=SampleLog({name: tensor.numpy() for name, tensor in tensors["samples"].items()}),
    )


def require_identity(checkpoint: Checkpoint, identity: Any) -> None:
    """Errors: CheckpointError with every key that differs between the checkpoint's config and data and today's."""
    changes = list(_differences(checkpoint.state["identity"], dict(identity), ""))
    if changes:
        raise CheckpointError(
            "cannot resume, the run was made with other settings:\n"
            + "\n".join(changes)
            + "\nPut them back, or start a new run with another name."
        )


def _differences(before: Any, now: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [line for key in keys for line in _differences(before.get(key), now.get(key), f"{path}.{key}".lstrip("."))]
    return [] if before == now else [f"  {path}: was {before!r}, is {now!r}"]
