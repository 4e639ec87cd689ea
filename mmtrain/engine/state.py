"""The one versioned state of a run: everything that survives a restart, captured and put back."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from mmtrain.engine.checkpoint import Checkpoint, Tensors
from mmtrain.engine.sample_log import SampleLog
from mmtrain.engine.weight_parts import part_of
from mmtrain.errors import CheckpointError
from mmtrain.sharded import is_part

VERSION = 3


@dataclass
class Selection:
    """Which evaluation was best so far, and how long ago."""

    best: float | None = None
    best_step: int = 0
    evaluations_without_gain: int = 0

    def update(self, value: float, *, step: int, mode: str) -> bool:
        """Note an evaluation; True if it is the best so far. NaN and Inf never are."""
        better = self.best is None or (value > self.best if mode == "max" else value < self.best)
        gains = math.isfinite(value) and better
        self.evaluations_without_gain = 0 if gains else self.evaluations_without_gain + 1
        if gains:
            self.best, self.best_step = value, step
        return gains


@dataclass
class Conflicts:
    """Over the window under way: how many of the pairs of tasks had gradients that point against each other."""

    shares: float = 0.0  # summed over steps
    steps: int = 0  # that compared gradients

    def add(self, share: float | None) -> None:
        if share is not None:
            self.shares, self.steps = self.shares + share, self.steps + 1

    def take(self) -> float | None:
        """The mean share, None where no step compared any; the next window starts from nothing."""
        mean = self.shares / self.steps if self.steps else None
        self.shares, self.steps = 0.0, 0
        return mean


@dataclass
class RunState:
    """Where a run stands."""

    step: int = 0  # finished optimizer steps
    evaluated: int = 0  # the last step that an evaluation was made at
    saved: int = 0  # the step of the newest checkpoint, which says so itself
    skipped: int = 0  # steps that the loss scaler skipped
    left_out: int = 0  # steps whose gradient was not finite
    left_out_in_a_row: int = 0  # of them, those that just went by
    barred: list[int] = field(default_factory=list)  # finished steps before each one that a rollback has left out
    stopped: bool = False  # early stopping, or a stream used up, ended the run
    selection: Selection = field(default_factory=Selection)
    log: SampleLog = field(default_factory=SampleLog)
    conflicts: Conflicts = field(default_factory=Conflicts)

    def finished(self, total_steps: int) -> bool:
        """Nothing is left to train or to evaluate."""
        return self.evaluated == self.step and (self.stopped or self.step >= total_steps)

    def become(self, other: "RunState") -> None:
        """Stand where `other` stands."""
        for each in fields(self):
            setattr(self, each.name, getattr(other, each.name))


def optimizer_state(optimizer: torch.optim.Optimizer) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and plain values of an optimizer's state."""
    whole = optimizer.state_dict()
    tensors: Tensors = {}
    values: dict[str, dict[str, Any]] = {}
    for index, entries in whole["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}/{key}"] = value
            else:
                values.setdefault(str(index), {})[key] = value
    return tensors, {"state": values, "param_groups": whole["param_groups"]}


def load_optimizer_state(optimizer: torch.optim.Optimizer, tensors: Tensors, values: dict[str, Any]) -> None:
    """The inverse of `optimizer_state`. Errors: CheckpointError where the groups are not this optimizer's."""
    _require_groups(optimizer.param_groups, values["param_groups"])
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in values["state"].items()}
    for name, tensor in tensors.items():
        index, _, key = name.partition("/")
        state.setdefault(int(index), {})[key] = tensor
    parameters = dict(enumerate(parameter for group in optimizer.param_groups for parameter in group["params"]))
    for number, entries in state.items():
        own = parameters.get(number)
        if own is not None and is_part(own):
            entries.update({key: part_of(value, own) for key, value in entries.items() if _is_like(value, own)})
    try:
        optimizer.load_state_dict({"state": state, "param_groups": values["param_groups"]})
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"the checkpoint's optimizer does not fit this model: {error}") from None


def _require_groups(own: Sequence[Mapping[str, Any]], saved: Sequence[Mapping[str, Any]]) -> None:
    """Errors: CheckpointError that names the first group that is another."""
    for number in range(max(len(own), len(saved))):
        here, there = (_describe(groups[number]) if number < len(groups) else "none" for groups in (own, saved))
        if here != there:
            raise CheckpointError(
                f"the checkpoint's optimizer does not fit this model: its parameter group {number + 1} is {there}, and here "
                f"it is {here}. Another model, or another version of mmtrain, made it: begin anew with --overwrite"
            )


def _describe(group: Mapping[str, Any]) -> str:
    return f"'{group.get('name')}' of {len(group['params'])} tensors"


def _is_like(value: Any, parameter: Tensor) -> bool:
    """Whether it is kept number by number, as a moment is, so that each process keeps its part."""
    return isinstance(value, Tensor) and value.shape == parameter.shape


def random_state() -> dict[str, Tensor]:
    """The random states of this process."""
    states = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    version, words, gauss = random.getstate()
    assert version == 3, "the layout of Python's own generator, the same since 3.2"
    states["python"] = torch.tensor(words, dtype=torch.int64)
    states["python_gauss"] = torch.tensor([] if gauss is None else [gauss], dtype=torch.float64)
    _, keys, position, has_gauss, cached = np.random.get_state()
    states["numpy"] = torch.cat([torch.from_numpy(np.asarray(keys).astype(np.int64)), torch.tensor([position, has_gauss])])
    states["numpy_cached"] = torch.tensor([cached], dtype=torch.float64)
    return states


def load_random_state(states: dict[str, Tensor]) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(states["torch"])
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])
    random.setstate((3, tuple(states["python"].tolist()), next(iter(states["python_gauss"].tolist()), None)))
    numbers = states["numpy"].tolist()
    cached = float(states["numpy_cached"])
    np.random.set_state(("MT19937", np.array(numbers[:-2], np.uint32), numbers[-2], numbers[-1], cached))


def gather_random_states(accelerator: Accelerator) -> Tensors:
    """Every process's random states, named <rank>/<kind>."""
    own = random_state()
    everyone = gather_object([own]) if accelerator.num_processes > 1 else [own]
    return {f"{rank}/{kind}": state for rank, states in enumerate(everyone) for kind, state in states.items()}


def put_back_random_state(tensors: Tensors, *, rank: int, seed: int) -> None:
    """Restore this process's random state; a process the checkpoint did not know is seeded anew."""
    mine = {name.partition("/")[2]: state for name, state in tensors.items() if name.startswith(f"{rank}/")}
    if mine:
        load_random_state(mine)
    else:
        torch.manual_seed(seed + rank)


def require_version(checkpoint: Checkpoint, *, origin: str) -> None:
    """Errors: CheckpointError where other code wrote it."""
    found = checkpoint.state.get("version")
    if found != VERSION:
        raise CheckpointError(f"{origin}: written in state version {found}, this code reads version {VERSION}")
