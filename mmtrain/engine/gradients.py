"""The tasks' gradients as rows of a matrix over the global batch, combined to one, and put where the optimizer looks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn

from mmtrain.curriculum.weighting.gradients import Combined, Over
from mmtrain.curriculum.weighting.protocol import ByGradients
from mmtrain.engine.passes import Forwarded, Passes, add_up
from mmtrain.engine.processes import global_losses, sum_gradients, sum_in_place
from mmtrain.engine.rows import ParameterRows, RepresentationRows, head_parameters, shared_parameters
from mmtrain.engine.run import Run

Rows = RepresentationRows | ParameterRows
_ROWS: dict[Over, type[RepresentationRows] | type[ParameterRows]] = {
    "representation": RepresentationRows,
    "parameters": ParameterRows,
}


@dataclass(frozen=True)
class Done:
    """What a step by gradients leaves besides them; all but batch terms and samples is of the global batch."""

    objective: Tensor  # sum over tasks of mean loss x what the gradient of its head counts
    aux: Mapping[str, Tensor]  # of this process
    samples: list[dict[str, Tensor]]  # of this process, one a micro-batch
    weights: Mapping[str, Tensor] | None
    conflicts: float | None


def combine_gradients(run: Run, passes: Passes, weighting: ByGradients, tasks: Sequence[str], *, step: int) -> Done:
    """Fill all gradients: of what is shared with the combined one, of each head with its own task's. Runs in `no_sync`.

    `tasks`: at least one, each with a label in the global batch; the heads of others get zeros. Gradients are loss-scaled as
    after a plain backward pass. One that is not finite is not combined but summed up, and found where such are looked for.
    Batch terms belong to no task: their gradient is added to the combined one, at the cost of a backward pass of their own.
    """
    shared = shared_parameters(run, step)
    rows: Rows = _ROWS[weighting.over](run, shared)
    terms = _BatchTerms(run, shared)
    samples, parts = [], []
    for seen in passes.first():
        terms.add(seen)
        rows.add(seen, [_differentiate(run, seen, task, rows) for task in tasks])
        samples.append(seen.columns)
        parts.append({task: seen.losses[task].detach() for task in tasks})
    losses = global_losses(run.accelerator, parts, tasks)
    scaled = rows.matrix()
    gradients = scaled if run.accelerator.scaler is None else scaled / run.accelerator.scaler.get_scale()
    if bool(torch.isfinite(gradients).all()):
        combined, conflicts = weighting.combine(gradients, losses, step=step), conflict_share(gradients)
    else:
        combined, conflicts = Combined(gradients.sum(dim=0), None), None
    rows.spread(_scaled(run, combined.gradient), passes)
    terms.spread()
    _finish_heads(run, combined.heads or {})
    counted = [losses[task] if combined.heads is None else losses[task] * combined.heads[task] for task in tasks]
    return Done(torch.stack(counted).sum(), terms.values, samples, combined.weights, conflicts)


class _BatchTerms:
    """The batch terms' gradient with respect to what is shared."""

    def __init__(self, run: Run, shared: Sequence[nn.Parameter]) -> None:
        self._run, self._shared = run, shared
        self._gradients: dict[int, Tensor] = {}  # by number among the shared; of those that a term reaches
        self.values: dict[str, Tensor] = {}

    def add(self, seen: Forwarded) -> None:
        """Those of a micro-batch."""
        if not seen.aux:
            return
        self.values = add_up(self.values, seen.aux)
        total = _scaled(self._run, torch.stack(list(seen.aux.values())).sum())
        found = torch.autograd.grad(total, self._shared, retain_graph=True, allow_unused=True)
        for number, gradient in enumerate(found):
            if gradient is not None:
                self._gradients[number] = self._gradients.get(number, 0) + gradient

    def spread(self) -> None:
        """Sum them over processes, and add them to the gradients there are."""
        reached = sorted(self._gradients)  # in one order on all processes
        sum_in_place(self._run.accelerator, [self._gradients[number] for number in reached])
        for number in reached:
            gradient = self._gradients[number]
            parameter = self._shared[number]
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _differentiate(run: Run, seen: Forwarded, task: str, rows: Rows) -> Sequence[Tensor | None]:
    """The gradient of a task's part of the loss with respect to what is shared; that of its head is added up in place."""
    sources, own = rows.sources(seen), head_parameters(run, task)
    loss = _scaled(run, seen.losses[task])
    found = torch.autograd.grad(loss, [*sources, *own], retain_graph=True, allow_unused=True)
    for parameter, gradient in zip(own, found[len(sources) :], strict=True):
        if gradient is not None:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return found[: len(sources)]


def _finish_heads(run: Run, counts: Mapping[str, Tensor]) -> None:
    """Multiply each head's gradient with what it counts, zeros where there is none, and sum all over processes."""
    heads = {task: head_parameters(run, task) for task in run.heads}
    for task, parameters in heads.items():
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            elif task in counts:
                parameter.grad *= counts[task]
    sum_gradients(run.accelerator, chain.from_iterable(heads.values()))


def conflict_share(gradients: Tensor) -> float | None:
    """The share of pairs of rows of [K, P] whose inner product is negative; None where there is no pair."""
    pairs = len(gradients) * (len(gradients) - 1) // 2
    if not pairs:
        return None
    return int((gradients @ gradients.T < 0).triu(diagonal=1).sum()) / pairs


def _scaled(run: Run, value: Tensor) -> Tensor:
    """As the loss of a backward pass is scaled in half precision."""
    scaler = run.accelerator.scaler
    if scaler is None:
        return value
    scaled: Tensor = scaler.scale(value)
    return scaled
