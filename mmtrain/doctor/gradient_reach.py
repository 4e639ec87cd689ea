"""Gradient reach: parameters and modalities that no task's loss moves, what is frozen, and how uneven gradients are."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmtrain.data.batch import Batch, MaskedSequence
from mmtrain.doctor.case import Case, unchanged
from mmtrain.doctor.finding import Finding, Severity
from mmtrain.engine.run import Run
from mmtrain.models.model import MultimodalModel
from mmtrain.models.naming import module_key

CHECK = "gradient_reach"
_SHARE = 0.1  # of the time
_STEPS = 4  # whose batches are read
_UNEVEN = 1e4  # between the root mean squares of two parts' gradients
_SHOWN = 6
_OF_BATCH = "terms of the batch"  # what a fusion adds to the loss, beside the tasks
_WAITS = ("placeholders.", ".lora_A.")  # learn only of samples that lack a modality; behind a factor that begins as zero


@dataclass
class Reach:
    """Squares of gradient norms, summed over batches: a number by task, absent where nothing leads from its loss there."""

    parameters: dict[str, dict[str, float]] = field(default_factory=dict)  # those that are to be trained
    modalities: dict[str, dict[str, float]] = field(default_factory=dict)  # at their encoded rows, of those that are there
    tasks: set[str] = field(default_factory=set)  # that had a label
    sizes: dict[str, int] = field(default_factory=dict)  # of parameters that are to be trained
    frozen: dict[str, int] = field(default_factory=dict)  # of the others
    idle_norms: list[str] = field(default_factory=list)  # frozen batch norms whose statistics were never learned


def check_gradient_reach(case: Case) -> list[Finding]:
    """Backward passes of every task apart, over the first batches of the run, in training mode."""
    with unchanged(case.run) as run:
        reach = measure_reach(case, run)
    return reach_findings(reach, list(case.run.objective.task_names))


def measure_reach(case: Case, run: Run) -> Reach:
    """Nothing is updated; batches are read until every task has had a label, or the time is up."""
    model = run.accelerator.unwrap_model(run.model)
    reach, deadline = describe_parameters(model), case.deadline(_SHARE)
    for inputs in case.batches(_STEPS):
        run.model.train()
        for batch in inputs.micro_batches:
            add_gradients(run, batch.to(run.accelerator.device), reach)
        if deadline.passed or reach.tasks.issuperset(run.objective.task_names):
            break
    return reach


def describe_parameters(model: nn.Module) -> Reach:
    """What is trained and what is not, before any gradient."""
    reach = Reach()
    for name, parameter in model.named_parameters():
        (reach.sizes if parameter.requires_grad else reach.frozen)[name] = parameter.numel()
        if parameter.requires_grad:
            reach.parameters[name] = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.weight is not None and not module.weight.requires_grad:
            mean, variance = module.running_mean, module.running_var
            if mean is not None and variance is not None and not mean.any() and bool((variance == 1).all()):
                reach.idle_norms.append(name)
    return reach


def add_gradients(run: Run, batch: Batch, reach: Reach) -> None:
    """The squared norms of one forward pass, by task."""
    model = run.accelerator.unwrap_model(run.model)
    named = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with torch.enable_grad(), probing(model) as probes:
        outputs = run.model(batch.inputs, batch.labelled, batch.keys)
        terms = run.objective(outputs, batch).training
        losses = {task: value.sum() for task, value in terms.items() if bool(batch.labelled[task].any())}
        reach.tasks |= set(losses)
        losses |= {_OF_BATCH: torch.stack(list(outputs.aux.values())).sum()} if outputs.aux else {}
        own = [(name, probe) for name, found in probes.items() for probe in found]
        for task, loss in losses.items():
            if not loss.requires_grad:
                continue
            wanted = [*named.values(), *(probe for _, probe in own)]
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
            _note(reach.parameters, task, list(named), gradients[: len(named)])
            _note(reach.modalities, task, [name for name, _ in own], gradients[len(named) :])


def _note(into: dict[str, dict[str, float]], task: str, names: list[str], gradients: tuple[Tensor | None, ...]) -> None:
    for name, gradient in zip(names, gradients, strict=True):
        found = into.setdefault(name, {})
        if gradient is not None:
            found[task] = found.get(task, 0.0) + float(gradient.double().square().sum())


@contextmanager
def probing(model: MultimodalModel) -> Iterator[dict[str, list[Tensor]]]:
    """Zeros that are added to the encoded rows of every modality inside, to ask for gradients at them."""
    probes: dict[str, list[Tensor]] = {}
    encoders = {} if model.text is None else {"text": model.text}
    for role in (model.sequences, model.images):
        encoders |= {key.removesuffix(module_key("", "encoder")).replace(":", "."): encoder for key, encoder in role.items()}

    def watch(name: str, encoder: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def add(_module: nn.Module, _inputs: object, rows: MaskedSequence) -> MaskedSequence:
            if not rows.mask.any():
                return rows
            probe = torch.zeros_like(rows.values, requires_grad=True)
            probes.setdefault(name, []).append(probe)
            return MaskedSequence(rows.values + probe, rows.mask)

        return encoder.register_forward_hook(add)

    handles = [watch(name, encoder) for name, encoder in encoders.items()]
    try:
        yield probes
    finally:
        for handle in handles:
            handle.remove()


def reach_findings(reach: Reach, tasks: list[str]) -> list[Finding]:
    """In words, the worst first."""
    if not reach.sizes:
        found = f"none of the model's {sum(reach.frozen.values()):,} parameters is trained: all are frozen"
        return [Finding(CHECK, "problem", found, "train at least a head: leave out what sets requires_grad to False")]
    findings = [*_not_finite(reach), *_unreached(reach), *_deaf_modalities(reach), *_frozen(reach), *_uneven(reach)]
    if unseen := [task for task in tasks if task not in reach.tasks]:
        words = f"{', '.join(unseen)}: no label in the batches that were read, so nothing is known of their gradients"
        findings.append(
            Finding(CHECK, "note", words, "see label_balance; curriculum.sampler decides how often a stream is drawn")
        )
    if any(finding.severity in ("problem", "warning") for finding in findings):
        return findings
    words = f"every one of {len(reach.parameters)} trained tensors has a gradient from {', '.join(sorted(reach.tasks))}"
    return [Finding(CHECK, "ok", words), *findings]


def _not_finite(reach: Reach) -> Iterator[Finding]:
    for name, found in {**reach.modalities, **reach.parameters}.items():
        for task, square in found.items():
            if not math.isfinite(square):
                words = f"the gradient of '{task}' at {name} holds NaN or Inf"
                yield Finding(CHECK, "problem", words, "see input_scale; mmtrain train --detect-anomaly names the operation")
                return


def _unreached(reach: Reach) -> Iterator[Finding]:
    """Without the heads of tasks that had no label."""
    heads = {_part(name) for name in reach.sizes if name.startswith("heads.")}
    seen = {f"heads.{module_key(task, 'head')}" for task in reach.tasks}
    expected = {
        name: found
        for name, found in reach.parameters.items()
        if not any(word in name for word in _WAITS) and (_part(name) not in heads or _part(name) in seen)
    }
    none = [name for name, found in expected.items() if not found]
    zero = [name for name, found in expected.items() if found and not any(found.values())]
    for names, words in ((none, "get no gradient from any task"), (zero, "get a gradient of exactly 0 from every task")):
        if names:
            severity: Severity = "problem" if len(names) == len(expected) else "warning"
            found = f"{len(names)} trained tensors {words}: {_listed(names)}"
            yield Finding(
                CHECK, severity, found, "look for detach(), no_grad or a dead activation behind them, or freeze them"
            )


def _deaf_modalities(reach: Reach) -> Iterator[Finding]:
    for name, found in reach.modalities.items():
        if not any(found.values()):
            words = f"modality '{name}' has no influence: the gradient of every task at its encoded rows is 0"
            yield Finding(
                CHECK, "warning", words, f"look at what stands behind its encoder, or take '{name}' out of the model"
            )


def _frozen(reach: Reach) -> Iterator[Finding]:
    if reach.frozen:
        parts = _sums({name: float(size) for name, size in reach.frozen.items()})
        words = ", ".join(f"{part} ({int(size):,})" for part, size in parts.items())
        yield Finding(CHECK, "note", f"frozen parameters: {words}")
    if reach.idle_norms:
        names = _listed(reach.idle_norms)
        words = f"batch norms are frozen with statistics that were never learned (mean 0, variance 1): {names}"
        yield Finding(CHECK, "warning", words, "model.images.<modality>: give `weights` a file, or frozen: false")


def _uneven(reach: Reach) -> Iterator[Finding]:
    squares = _sums({name: sum(found.values()) for name, found in reach.parameters.items()})
    sizes = _sums({name: float(size) for name, size in reach.sizes.items()})
    means = {part: math.sqrt(square / sizes[part]) for part, square in squares.items() if 0 < square < math.inf}
    if len(means) < 2:
        return
    most, least = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    ratio = means[most] / means[least]
    words = (
        f"root mean square of the gradient: {means[most]:.2g} in {most}, {means[least]:.2g} in {least} ({ratio:,.0f} times)"
    )
    fix = "see input_scale: a modality whose numbers are large has large gradients" if ratio > _UNEVEN else ""
    yield Finding(CHECK, "note" if ratio > _UNEVEN else "ok", words, fix)


def _part(name: str) -> str:
    """`sequences.audio_encoder` of a parameter in it."""
    words = name.split(".")
    return ".".join(words[: 2 if words[0] in ("sequences", "images", "heads", "text") else 1])


def _sums(values: Mapping[str, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, value in values.items():
        sums[_part(name)] = sums.get(_part(name), 0.0) + value
    return sums


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(names[:_SHOWN])}{more}"
