"""Per-sample results of training since the last evaluation, gathered over processes in the order of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from mmtrain.engine.gradient_norms import GradientNorms
from mmtrain.evaluation.evaluate import Arrays, to_arrays


@dataclass
class StepValues:
    """What one process knows of one step; tensors stay on the device until the log is flushed."""

    step: int
    objective: Tensor  # this process's part of the minimized sum, without penalties and batch terms
    penalties: Mapping[str, Tensor]
    norms: GradientNorms
    lr: Mapping[str, float]
    samples: list[dict[str, Tensor]] = field(default_factory=list)  # one dict a micro-batch
    left_out: bool = False  # the gradient was not finite, and no weight was changed
    weights: Mapping[str, Tensor | float] | None = None  # see WindowReport, of this step
    conflicts: float | None = None
    aux: Mapping[str, Tensor] = field(default_factory=dict)  # this process's part of each batch term
    order: npt.NDArray[np.int64] | None = None  # as of StepInput

    @property
    def grad_norm(self) -> float:
        """Of the whole gradient, before clipping."""
        return self.norms.total


class SampleLog:
    """Grows by `add`, and by `flush` becomes the same arrays on every process. `arrays`: what a checkpoint kept of it."""

    def __init__(self, arrays: Arrays | None = None) -> None:
        self._parts: list[Arrays] = [arrays] if arrays else []  # one a flush: joined only where all of it is asked for
        self._pending: list[StepValues] = []

    @property
    def arrays(self) -> Arrays:
        """All samples since the last evaluation, column by column; empty where there is none."""
        self._parts = [_joined(self._parts)] if self._parts else []
        return self._parts[0] if self._parts else {}

    def add(self, values: StepValues) -> None:
        self._pending.append(values)

    def flush(self, accelerator: Accelerator) -> list[dict[str, Any]]:
        """Gather what is pending; returns one record a step for metrics.jsonl, the same on every process."""
        if not self._pending:
            return []
        mine = to_arrays([micro for values in self._pending for micro in values.samples])
        sizes = [sum(len(micro["index"]) for micro in values.samples) for values in self._pending]
        mine["step"] = np.repeat([values.step for values in self._pending], sizes)
        world, rank = accelerator.num_processes, accelerator.process_index
        orders = [values.order for values in self._pending]
        mine["order"] = np.concatenate(
            [np.arange(size) * world + rank if order is None else order for size, order in zip(sizes, orders, strict=True)]
        )
        sums = torch.stack([torch.stack([values.objective, *values.aux.values()]) for values in self._pending])
        parts = (mine, sums.double().cpu().numpy())  # [steps, 1 + batch terms]
        gathered = gather_object([parts]) if accelerator.num_processes > 1 else [parts]
        fresh = {key: np.concatenate([part[key] for part, _ in gathered]) for key in mine}
        in_order = np.lexsort((fresh["order"], fresh["step"]))
        fresh = {key: column[in_order] for key, column in fresh.items()}
        records = self._records(fresh, np.sum([part for _, part in gathered], axis=0))
        self._parts.append(fresh)
        self._pending = []
        return records

    def _records(self, fresh: Arrays, sums: npt.NDArray[np.float64]) -> list[dict[str, Any]]:
        borders = np.searchsorted(fresh["step"], [values.step for values in self._pending] + [self._pending[-1].step + 1])
        records = []
        for number, values in enumerate(self._pending):
            rows = slice(int(borders[number]), int(borders[number + 1]))
            record: dict[str, Any] = {
                "kind": "step",
                "step": values.step + 1,
                "objective": float(sums[number, 0]),
                "loss": task_means({key: column[rows] for key, column in fresh.items()}),
                "penalty": {name: float(value) for name, value in values.penalties.items()},
                "aux": {name: float(value) for name, value in zip(values.aux, sums[number, 1:], strict=True)},
                "grad_norm": values.grad_norm,
                "grad_norms": dict(values.norms.groups),
                "lr": dict(values.lr),
            }
            records.append(record | ({"left_out": 1} if values.left_out else {}))
        return records

    def since(self, step: int) -> Arrays:
        """The samples of the steps from `step` on."""
        parts = [part for part in self._parts if part["step"][-1] >= step]
        if not parts:
            return {}
        arrays = _joined(parts)
        first = int(np.searchsorted(arrays["step"], step))
        return {key: column[first:] for key, column in arrays.items()}

    def clear(self) -> None:
        assert not self._pending
        self._parts = []


def _joined(parts: Sequence[Arrays]) -> Arrays:
    """In the last part's order of columns, which is the model's; a checkpoint's is another."""
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[-1]} if len(parts) > 1 else parts[-1]


def tasks_of(arrays: Arrays) -> list[str]:
    """The tasks that have columns, in order."""
    return [key.removesuffix("/loss") for key in arrays if key.endswith("/loss")]


def task_means(arrays: Arrays) -> dict[str, float]:
    """Mean plain loss of each task over its labelled samples, in float64; tasks without one are left out."""
    means = {}
    for task in tasks_of(arrays):
        losses = arrays[f"{task}/loss"][arrays[f"{task}/labelled"]]
        if len(losses):
            means[task] = float(losses.mean(dtype=np.float64))
    return means


def sample_means(arrays: Arrays) -> npt.NDArray[np.float32]:
    """The plain loss of each sample [n], the mean over its labelled tasks; NaN where it has none."""
    totals, counts = np.zeros(len(arrays["stream"])), np.zeros(len(arrays["stream"]))
    for task in tasks_of(arrays):
        labelled = arrays[f"{task}/labelled"]
        totals += np.where(labelled, arrays[f"{task}/loss"], 0.0)
        counts += labelled
    means = np.full(len(totals), np.nan)
    np.divide(totals, counts, where=counts > 0, out=means)
    return means.astype(np.float32)


def stream_losses(arrays: Arrays, names: Sequence[str]) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Mean loss of each stream's tasks, where it showed any, and the samples drawn from each stream."""
    losses, counts = {}, {}
    for number, name in enumerate(names):
        rows = arrays["stream"] == number
        counts[name] = int(rows.sum())
        if means := task_means({key: column[rows] for key, column in arrays.items()}):
            losses[name] = means
    return losses, counts
