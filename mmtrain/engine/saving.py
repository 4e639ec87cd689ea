"""A run to a checkpoint and back: what the loop saves, and how a new process takes it up."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list

from mmtrain.engine import checkpoint as files
from mmtrain.engine.checkpoint import Checkpoint, Tensors
from mmtrain.engine.evaluation_weights import evaluation_weights, load_trained_weights
from mmtrain.engine.model_state import load_model_state
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import SampleLog
from mmtrain.engine.sharding import load_penalty_state, penalty_state
from mmtrain.engine.state import (
    VERSION,
    Conflicts,
    RunState,
    Selection,
    gather_random_states,
    load_optimizer_state,
    optimizer_state,
    put_back_random_state,
    require_version,
)
from mmtrain.engine.tracking import log_all
from mmtrain.engine.weight_parts import gathered
from mmtrain.errors import CheckpointError


def record_steps(run: Run, state: RunState) -> None:
    """Gather what the steps since the last call showed, and write a line for each."""
    for record in state.log.flush(run.accelerator):
        if run.logs is not None:
            run.logs.metrics.write(record)
            log_all(run.trackers, record)


def save(run: Run, state: RunState, *, is_best: bool = False) -> None:
    """Write a checkpoint of this very moment; every process takes part, the first one writes.

    Errors: CheckpointError, on every process, where the disk refuses it and `on_save_error` is stop or no step follows.
    """
    record_steps(run, state)
    random_states = gather_random_states(run.accelerator)
    with evaluation_weights(run.optimizer) as trained:
        weights = _weights(run, trained)
        answer = [_write(run, state, weights | {"random": random_states}, is_best=is_best) if run.logs is not None else None]
    if run.accelerator.num_processes > 1:
        broadcast_object_list(answer)  # the others wait here until all is written
    complaint = answer[0]
    if complaint is None:
        state.saved = state.step
    elif run.settings.on_save_error == "stop" or state.finished(run.settings.total_steps):
        raise CheckpointError(f"{complaint}. {_newest(state)}; make room and continue with --resume")
    else:
        best = "; `best` still leads to an earlier evaluation" if is_best else ""
        run.say(f"warning: {complaint}. Training goes on and saves again when due. {_newest(state)}{best}")


def _newest(state: RunState) -> str:
    return f"The newest whole checkpoint is of step {state.saved}" if state.saved else "There is no checkpoint yet"


def _weights(run: Run, trained: Tensors) -> dict[str, Tensors]:
    """All that is as large as the weights, whole in the first process; every process takes part."""
    model = run.accelerator.unwrap_model(run.model)
    groups = {
        "model": model.state_dict(),
        "trained": trained,
        "average": run.average.tensors() if run.average is not None else {},
        "optimizer": optimizer_state(run.optimizer)[0],
        "regularizers": penalty_state(run.objective, model),
    }
    return {name: gathered(tensors, keeps=run.logs is not None) for name, tensors in groups.items()}


def _write(run: Run, state: RunState, tensors: dict[str, Tensors], *, is_best: bool) -> str | None:
    """What the disk said where it refused; older checkpoints go only when the new one is whole."""
    root = run.folder.checkpoints
    try:
        folder = files.save_checkpoint(root, state.step, _capture(run, state, tensors))
        if is_best:
            files.point(root, "best", folder)
        files.point(root, "last", folder)
        files.prune(root, keep=run.settings.keep_checkpoints, step=state.step)
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or root}: {error.strerror}"
    return None


def _capture(run: Run, state: RunState, tensors: dict[str, Tensors]) -> Checkpoint:
    """`tensors`: those of weights and of randomness."""
    assert run.logs is not None
    scaler = run.accelerator.scaler
    tensors |= {
        "curriculum": {name: torch.from_numpy(array) for name, array in run.curriculum.arrays().items()},
        "samples": {name: torch.from_numpy(column) for name, column in state.log.arrays.items()},
    }
    values: dict[str, Any] = {
        "version": VERSION,
        "step": state.step,
        "evaluated": state.evaluated,
        "skipped": state.skipped,
        "left_out": state.left_out,
        "left_out_in_a_row": state.left_out_in_a_row,
        "barred": state.barred,
        "stopped": state.stopped,
        "selection": asdict(state.selection),
        "conflicts": asdict(state.conflicts),
        "optimizer": optimizer_state(run.optimizer)[1],
        "lr_schedule": run.lr_schedule.state_dict(),
        "average": run.average.count if run.average is not None else 0,
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
        for log in (run.logs.metrics, run.logs.curriculum, run.logs.timing) if run.logs is not None else ():
            log.rewind(0)
        return RunState()
    checkpoint = files.read_checkpoint(folder)
    require_version(checkpoint, origin=str(folder))
    require_identity(checkpoint, run.identity)
    state = put_back(run, checkpoint, origin=str(folder))
    if run.logs is not None:
        for name, target in stray_links(folder, best_step=state.selection.best_step).items():
            files.point(folder.parent, name, target)
    run.say(f"resumed from {folder} at step {state.step}")
    return state


def stray_links(newest: Path, *, best_step: int) -> dict[str, Path]:
    """`last` and `best`, where they do not lead to the newest checkpoint and to that of `best_step`: the run was killed
    between writing it and saying so.
    """
    root = newest.parent
    targets = {"last": newest, "best": files.step_folder(root, best_step)}
    return {
        name: target for name, target in targets.items() if target.is_dir() and (root / name).resolve() != target.resolve()
    }


def put_back(run: Run, checkpoint: Checkpoint, *, origin: str) -> RunState:
    """Everything as it was when the checkpoint was made, whatever the run has done since; gives where it then stood."""
    values, tensors = checkpoint.state, checkpoint.tensors
    load_model_state(run.accelerator.unwrap_model(run.model), tensors["model"], origin=origin)
    load_optimizer_state(run.optimizer, tensors["optimizer"], values["optimizer"])
    if run.average is not None:
        run.average.load(tensors["average"], count=values["average"], origin=origin)
    run.lr_schedule.load_state_dict(values["lr_schedule"])
    if run.accelerator.scaler is not None:
        run.accelerator.scaler.load_state_dict(values["scaler"])
    arrays = {name: tensor.numpy() for name, tensor in tensors["curriculum"].items()}
    run.curriculum.load_state_dict(values["curriculum"], arrays)
    load_trained_weights(run.optimizer, tensors["trained"])  # last: the curriculum's are those that were evaluated
    load_penalty_state(run.objective, tensors["regularizers"], run.accelerator.unwrap_model(run.model))
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
        saved=values["step"],
        skipped=values["skipped"],
        left_out=values["left_out"],
        left_out_in_a_row=values["left_out_in_a_row"],
        barred=values["barred"],
        stopped=values["stopped"],
        selection=Selection(**values["selection"]),
        conflicts=Conflicts(**values["conflicts"]),
        log=SampleLog({name: tensor.numpy() for name, tensor in tensors["samples"].items()}),
    )


def require_identity(checkpoint: Checkpoint, identity: Mapping[str, Any]) -> None:
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
