"""A step whose gradient holds NaN or Inf: where it comes from, kept on disk; then the run stops or does without the step."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import safetensors.torch
import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch import Tensor, nn

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.engine.loading import StepInput
from mmtrain.engine.run import Run
from mmtrain.engine.sample_log import StepValues
from mmtrain.engine.state import RunState
from mmtrain.errors import NonFiniteError
from mmtrain.sharded import is_sharded, local, put_back_parts

_SHOWN = 20  # sample ids in a message
_KEPT = 10  # batches kept of a run that leaves steps out
_NEXT = {"skip": "The step is left out", "rollback": "The run goes back to its newest checkpoint"}

Buffers = list[tuple[Tensor, Tensor]]


def copy_buffers(run: Run, inputs: StepInput) -> Buffers:
    """The running statistics before a step that may be left out: its forward pass writes into them."""
    stops = run.settings.on_nonfinite == "stop" and not inputs.is_barred
    return [] if stops else [(buffer, buffer.clone()) for buffer in run.model.buffers()]


def leave_out(run: Run, inputs: StepInput, values: StepValues, buffers: Buffers) -> StepValues:
    """Do without the update of a step, on every process alike; its samples then count as unlabelled.

    Errors: NonFiniteError where the run is to stop instead, with what was found on any process.
    """
    for buffer, before in buffers:
        buffer.copy_(before)
    if not inputs.is_barred:  # else all this was said when it came first
        message = describe(run, inputs, values)
        if run.settings.on_nonfinite == "stop":
            raise NonFiniteError(f"{message}. Continue with --resume and training.on_nonfinite=skip to leave such steps out")
        run.say(f"warning: {message}. " + _NEXT[run.settings.on_nonfinite])
    if run.accelerator.scaler is not None:
        run.accelerator.scaler.update()  # the scale of the loss
    samples = [
        {name: torch.zeros_like(value) if name.endswith("/labelled") else value for name, value in columns.items()}
        for columns in values.samples
    ]
    return replace(values, samples=samples, left_out=True)


def count_outcome(run: Run, state: RunState, values: StepValues, *, updated: bool) -> None:
    """Note a step that changed no weight. Errors: NonFiniteError where too many in a row were left out."""
    state.skipped += not updated and not values.left_out
    state.left_out += values.left_out
    state.left_out_in_a_row = state.left_out_in_a_row + 1 if values.left_out else 0
    if state.left_out_in_a_row > run.settings.skip_limit:
        raise NonFiniteError(
            f"step {state.step}: the last {state.left_out_in_a_row} steps were left out for NaN or Inf, and "
            f"training.skip_limit is {run.settings.skip_limit}. The batches are kept in {run.folder.nonfinite}"
        )


def describe(run: Run, inputs: StepInput, values: StepValues) -> str:
    """Where the NaN or Inf comes from, the same words on every process; each keeps its part of the batch on disk."""
    own = {"objective": repr(float(values.objective)), **_find(run, inputs)}
    world = run.accelerator.num_processes
    kept = keep_batch(run, inputs, own)
    own["batch"] = _ids(inputs)
    found: list[dict[str, Any]] = gather_object([own]) if world > 1 else [own]
    origins = [(number, part) for number, part in enumerate(found) if part["origin"]]
    origins.sort(key=lambda origin: bool(origin[1]["of_all"]))  # what is of one process's samples says more
    cause = "It did not come again in evaluation mode: dropout, a penalty or batch term, or a norm that overflows"
    if origins:
        number, part = origins[0]
        cause = f"It comes from {part['origin']}" + (f" on process {number}" if world > 1 else "")
    guilty = [part for _, part in origins if not part["of_all"]]
    ids = [name for part in (guilty or found) for name in part["samples"] or part["batch"]]
    more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
    loss = sum(float(part["objective"]) for part in found)
    return (
        f"step {inputs.step + 1}: the gradient holds NaN or Inf (loss {loss:.4g}). "
        f"No weight was changed. {cause}. Samples: {', '.join(ids[:_SHOWN])}{more}. {kept}"
    )


@contextmanager
def _evaluating(model: nn.Module, found: list[str]) -> Iterator[None]:
    """Evaluation mode, and in `found` the first module whose output is not finite. Its hooks end with it."""
    was_training = model.training
    hooks = [module.register_forward_hook(partial(_note, found, name)) for name, module in model.named_modules() if name]
    model.eval()
    try:
        with torch.backends.cudnn.flags(enabled=False):  # which has no backward pass of an LSTM in this mode
            yield
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()


def _find(run: Run, inputs: StepInput) -> dict[str, Any]:
    """This process's part once more: the first module, loss or gradient that is not finite, and the samples it is of.

    `of_all`: it is the gradient of weights in parts, which was summed over the samples of all processes.
    """
    model = run.accelerator.unwrap_model(run.model)
    parameters = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found: list[str] = []
    samples: list[str] = []
    in_parts = is_sharded(model)  # then the gradients of the step itself are looked at: others would have to be gathered
    # a compiled model would pass by the hooks
    with torch.set_grad_enabled(not in_parts), torch.compiler.set_stance("force_eager"), _evaluating(model, found):
        for micro in inputs.micro_batches:
            batch = micro.to(run.accelerator.device)
            outputs = model(batch.inputs, batch.labelled, batch.keys)
            terms = run.objective(outputs, batch)
            for task, loss in terms.reported.items():
                wrong = ~loss.isfinite() & batch.labelled[task]
                if task in outputs.logits:
                    wrong |= ~_finite_rows(outputs.logits[task])
                found += [f"the loss of task '{task}'"] if wrong.any() else []
                samples += [batch.ids[row] for row in wrong.nonzero()[:, 0].tolist()]
            total = torch.stack([loss.sum() for loss in terms.training.values()]).sum()
            if in_parts:
                continue
            gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
            found += _wrong_gradients(dict(zip(parameters, gradients, strict=True)))
    is_traced = bool(found)
    put_back_parts(model)
    if in_parts:
        of_step = _wrong_gradients({name: value.grad for name, value in parameters.items()})
        found += [f"{words}, in the part of it that is held" for words in of_step]
    origin = found[0] if found else None
    return {"origin": origin, "samples": list(dict.fromkeys(samples)), "of_all": origin is not None and not is_traced}


def _wrong_gradients(gradients: Mapping[str, Tensor | None]) -> list[str]:
    return [
        f"the gradient of parameter {name}, all outputs and losses being finite"
        for name, gradient in gradients.items()
        if gradient is not None and not local(gradient).isfinite().all()
    ]


def _note(found: list[str], name: str, module: nn.Module, _inputs: object, output: object) -> None:
    if not found and not all(bool(values.isfinite().all()) for values in _real_values(output)):
        found.append(f"the output of module {name} ({type(module).__name__})")


def _real_values(output: object) -> Iterator[Tensor]:
    """Every floating tensor of a module's output, without what lies under a mask."""
    if isinstance(output, MaskedSequence):
        yield output.values[output.mask]
    elif isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        yield from _real_values(tuple(output.values()))
    elif isinstance(output, tuple | list):
        for part in output:
            yield from _real_values(part)
    elif is_dataclass(output):
        yield from _real_values(tuple(getattr(output, field.name) for field in fields(output)))


def _finite_rows(values: Tensor) -> Tensor:
    """[B] bool of [B] or [B, C]."""
    return values.isfinite().reshape(len(values), -1).all(dim=1)


def keep_batch(run: Run, inputs: StepInput, own: Mapping[str, Any]) -> str:
    """Write this process's part of the batch: what it found as JSON, the tensors as safetensors. Says where, or why not."""
    if not run.on_disk:
        return "The batch is not kept"
    folder, name = run.folder.nonfinite / f"step-{inputs.step + 1:08d}", f"process-{run.accelerator.process_index}"
    if not folder.exists() and len(list(folder.parent.glob("step-*"))) >= _KEPT:
        return f"The batch is not kept: {folder.parent} holds {_KEPT} already"
    tensors = {
        f"{number}/{key}": value.contiguous().clone()
        for number, batch in enumerate(inputs.micro_batches)
        for key, value in _tensors(batch).items()
    }
    note = {"step": inputs.step + 1, **own, "batch": _ids(inputs)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.json").write_text(json.dumps(note, indent=1), encoding="utf-8")
        safetensors.torch.save_file(tensors, folder / f"{name}.safetensors")
    except (OSError, SafetensorError) as error:
        return f"The batch could not be kept in {folder} ({error})"
    return f"The batch is kept in {folder}"


def _ids(inputs: StepInput) -> list[str]:
    return [name for batch in inputs.micro_batches for name in batch.ids]


def _tensors(batch: Batch) -> dict[str, Tensor]:
    parts = {f"inputs/{name}/values": item.values for name, item in batch.inputs.items()}
    parts |= {f"inputs/{name}/mask": item.mask for name, item in batch.inputs.items()}
    parts |= {f"targets/{name}": value for name, value in batch.targets.items()}
    parts |= {f"labelled/{name}": value for name, value in batch.labelled.items()}
    return parts | {"stream": batch.stream, "index": batch.index, "group": batch.group, "text_key": batch.text_key}
