"""A NaN or Inf in a gradient takes the run back to its newest checkpoint; the step is left out when it comes again."""

from mmtrain.engine.checkpoint import newest_valid, read_checkpoint
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.engine.saving import put_back, save
from mmtrain.engine.state import RunState
from mmtrain.errors import NonFiniteError


def goes_back(run: Run, inputs: StepInput, values: StepValues) -> bool:
    """Whether a step that was just computed ends in a rollback; one that is barred has had its own."""
    return values.left_out and not inputs.is_barred and run.settings.on_nonfinite == "rollback"


def roll_back(run: Run, state: RunState, *, step: int) -> None:
    """Put everything back as a resume does, in place and on every process alike; bar the step after `step` finished ones.

    The checkpoint is written anew with the barred steps, so that a run killed from here on leaves them out as this one does.
    Errors: NonFiniteError where more steps than `skip_limit` are barred behind one checkpoint, or there is none.
    """
    barred = sorted({*state.barred, step})
    folder, complaints = newest_valid(run.folder.checkpoints)
    for complaint in complaints:
        run.say(f"passed over: {complaint}")
    if folder is None:
        raise NonFiniteError(
            f"step {step + 1}: there is no checkpoint to go back to, since the disk refused the one before the first step. "
            "Make room and start anew"
        )
    checkpoint = read_checkpoint(folder)
    behind = [number + 1 for number in barred if number >= checkpoint.state["step"]]
    if len(behind) > run.settings.skip_limit:
        raise NonFiniteError(
            f"step {step + 1}: behind the checkpoint of step {checkpoint.state['step']} the steps "
            f"{', '.join(map(str, behind))} held NaN or Inf, and training.skip_limit is {run.settings.skip_limit}. The "
            f"batches are kept in {run.folder.nonfinite}"
        )
    state.become(put_back(run, checkpoint, origin=str(folder)))
    state.barred = barred
    run.say(f"back at step {state.step}, from {folder}; step {step + 1} will be left out")
    if run.logs is not None:
        run.logs.metrics.write({"kind": "rollback", "step": state.step, "left_out": step + 1})
    save(run, state)
